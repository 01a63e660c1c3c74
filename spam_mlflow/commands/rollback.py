"""Return the alias to an earlier version."""

import logging

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow import promotion, tracking, wiring
from spam_mlflow.settings import RollbackSettings

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Go back as far as `cfg` says."""
    tracking.connect()
    job = wiring.settings(RollbackSettings, cfg)
    version = promotion.back(MlflowClient(), job.to, job.steps, job.reason)
    logger.info("%s is version %s again", job.to, version)
