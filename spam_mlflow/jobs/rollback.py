"""Return the alias to an earlier version."""

import logging

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow.config.schema import RollbackSettings
from spam_mlflow.registry import aliases
from spam_mlflow.tracking import links, runs

logger = logging.getLogger(__name__)


def run(settings: RollbackSettings, cfg: DictConfig) -> None:
    """Point the alias to an earlier version of its stack.

    Raises:
        UserError: If the version stack is too short, or if the version was deleted.
    """
    runs.connect()
    version = aliases.rollback(MlflowClient(), settings.alias, settings.steps, settings.reason)
    logger.info("View: %s", links.version_page(runs.REGISTERED_MODEL, version))
    logger.info("%s is version %s again", settings.alias, version)
