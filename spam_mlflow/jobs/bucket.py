"""Use an S3 bucket for artifacts, without a tracking server."""

import logging
import shlex

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow.config.schema import BucketSettings
from spam_mlflow.storage import s3
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)


def run(settings: BucketSettings, cfg: DictConfig) -> None:
    """Check access to the bucket, then create the experiment whose artifacts go there.

    Raises:
        UserError: If the bucket cannot be used, or the experiment keeps its artifacts elsewhere.
    """
    runs.connect()
    client = s3.client(settings.store)
    if settings.create:
        s3.create_bucket(client, settings.bucket, settings.store.region)
    s3.check_access(client, settings.bucket, settings.prefix)
    location = f"s3://{settings.bucket}/{settings.prefix.strip('/')}"
    created = runs.create_experiment(MlflowClient(), settings.name, location)
    logger.info(
        "%s can be written, read, listed and deleted; the experiment %s %s there",
        location,
        settings.name,
        "now puts its artifacts" if created else "puts its artifacts",
    )
    logger.info("For `mlflow server`, `mlflow models serve` and other processes, export:")
    for name, value in s3.environment(settings.store).items():
        logger.info("export %s=%s", name, shlex.quote(value))
