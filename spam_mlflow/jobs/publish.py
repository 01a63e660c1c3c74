"""Upload a model's files to an S3 store."""

import logging
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow.config.schema import PublishSettings
from spam_mlflow.registry import loading
from spam_mlflow.storage import export, s3
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)


def run(settings: PublishSettings, cfg: DictConfig) -> None:
    """Collect the files of a model and upload them, unless the store has them already.

    Raises:
        UserError: If the model cannot be read, or if the store fails.
    """
    location = export.S3Location(s3.client(settings.store), settings.bucket, settings.prefix)
    runs.connect()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "export")
        folder.mkdir()
        origin = loading.origin(settings.model_uri, Path(scratch))
        export.collect(origin.keras, origin.code, settings.h5, folder)
        changed = export.publish(folder, origin.source, location)
    logger.info(
        "%s is %s at %s",
        settings.model_uri,
        "published" if changed else "published already",
        location,
    )
