"""Upload a model's files to an S3 store."""

import logging
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow import export, registry, s3, tracking, wiring
from spam_mlflow.settings import PublishSettings

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Publish the files of the model that `cfg` names."""
    job = wiring.top_level(PublishSettings, cfg)
    storage = s3.settings(cfg)
    place = export.Place(s3.client(storage), job.bucket, job.prefix)
    tracking.connect()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "export")
        folder.mkdir()
        origin = registry.origin(job.model_uri, Path(scratch))
        export.collect(origin.keras, origin.code, job.h5, folder)
        changed = export.publish(folder, origin.source, place)
    logger.info(
        "%s is %s at %s", job.model_uri, "published" if changed else "published already", place
    )
