"""Download a published model's files from an S3 store."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow.config.schema import PullSettings
from spam_mlflow.storage import export, s3

logger = logging.getLogger(__name__)


def run(settings: PullSettings, cfg: DictConfig) -> None:
    """Download an export into a folder.

    Raises:
        UserError: If there is no whole export, if the store fails, or if the folder holds other
            files.
    """
    output = Path(settings.output).expanduser().resolve()
    location = export.S3Location(s3.client(settings.store), settings.bucket, settings.prefix)
    manifest = export.pull(location, output)
    source = ", ".join(f"{key} {value}" for key, value in manifest.source.items())
    logger.info("%s holds %s files of %s (%s)", output, len(manifest.files), location, source)
