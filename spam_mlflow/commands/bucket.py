"""Use a bucket for artifacts, without a tracking server."""

import logging
import shlex

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow import s3, tracking, wiring
from spam_mlflow.settings import BucketSettings

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Check access to the bucket, then create the experiment whose artifacts go there."""
    job = wiring.top_level(BucketSettings, cfg)
    storage = s3.settings(cfg)
    tracking.connect()
    store = s3.client(storage)
    if job.create:
        s3.create_bucket(store, job.bucket, storage.region)
    s3.check_access(store, job.bucket, job.prefix)
    location = f"s3://{job.bucket}/{job.prefix.strip('/')}"
    created = tracking.create_experiment(MlflowClient(), job.name, location)
    logger.info(
        "%s can be written, read, listed and deleted; the experiment %s %s there",
        location,
        job.name,
        "now puts its artifacts" if created else "puts its artifacts",
    )
    logger.info("For `mlflow server`, `mlflow models serve` and other processes, export:")
    for name, value in s3.environment(storage).items():
        logger.info("export %s=%s", name, shlex.quote(value))
