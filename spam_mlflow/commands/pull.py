"""Download what publish uploaded."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow import export, s3, wiring
from spam_mlflow.settings import PlaceSettings

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Pull the export that `cfg` names."""
    job = wiring.top_level(PlaceSettings, cfg)
    output = Path(str(cfg.output)).expanduser().resolve()
    place = export.Place(s3.client(s3.settings(cfg)), job.bucket, job.prefix)
    manifest = export.pull(place, output)
    source = ", ".join(f"{key} {value}" for key, value in manifest.source.items())
    logger.info("%s holds %s files of %s (%s)", output, len(manifest.files), place, source)
