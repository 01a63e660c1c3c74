"""Complete a run whose training has finished but whose upload has failed."""

import logging
import shutil
from pathlib import Path

from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from spam_mlflow.config.instantiate import instantiate
from spam_mlflow.config.schema import ResumeSettings
from spam_mlflow.errors import UserError
from spam_mlflow.models import Architecture
from spam_mlflow.registry import pending_run
from spam_mlflow.registry.pending_run import PendingRun
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.tracking import links, run_folder, runs
from spam_mlflow.tracking.run_folder import CONFIG_FILE, KERAS_FOLDER

logger = logging.getLogger(__name__)


def run(settings: ResumeSettings, cfg: DictConfig) -> None:
    """Log what the run lacks from its kept folder, then remove the folder if it was temporary.

    Raises:
        UserError: If there is no finished training in the folder, if its run does not exist, or if
            the store fails again.
    """
    runs.connect()
    folder = Path(settings.folder).expanduser().resolve()
    pending = PendingRun.read(folder)
    if _status(pending.run_id) == "FINISHED":
        logger.info("Run %s is complete already", pending.run_id)
        return
    classifier = Classifier.load(folder / KERAS_FOLDER)
    weights = _architecture(folder).linear_weights(classifier.network)
    with runs.run(settings.storage, pending.run_id):
        version = pending_run.log(pending, folder, classifier, weights)
    registered = f", registered as models:/{runs.REGISTERED_MODEL}/{version}" if version else ""
    logger.info("View: %s", links.run_page(pending.run_id))
    logger.info("Run %s is complete%s", pending.run_id, registered)
    if run_folder.is_temporary(folder):
        shutil.rmtree(folder)


def _architecture(folder: Path) -> Architecture:
    """Return the architecture of the trained model, from the configuration in its folder."""
    values = OmegaConf.to_container(DictConfig(OmegaConf.load(folder / CONFIG_FILE)).model)
    assert isinstance(values, dict)
    architecture: Architecture = instantiate(values, "model")
    return architecture


def _status(run_id: str) -> str:
    found = runs.find(MlflowClient(), run_id)
    if found is None:
        raise UserError(
            f"run {run_id} does not exist in this tracking store; set MLFLOW_TRACKING_URI to the "
            "one that it was begun in"
        )
    return str(found.info.status)
