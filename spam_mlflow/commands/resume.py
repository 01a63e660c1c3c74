"""Complete a run whose training ended well and whose upload did not."""

import logging
import shutil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig, OmegaConf

from spam_mlflow import reports, results, s3, tracking, wiring, workspace
from spam_mlflow.classifier import Classifier
from spam_mlflow.errors import UserError
from spam_mlflow.job import KERAS_FOLDER
from spam_mlflow.results import Results

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Log what the folder holds and its run lacks, then remove the folder if it was temporary."""
    tracking.connect()
    storage = s3.settings(cfg)
    folder = Path(str(cfg.folder)).expanduser().resolve()
    finished = Results.read(folder)
    if _status(finished.run_id) == "FINISHED":
        logger.info("Run %s is complete already", finished.run_id)
        return
    classifier = Classifier.load(folder / KERAS_FOLDER)
    architecture = wiring.build(DictConfig(OmegaConf.load(folder / reports.CONFIG_FILE)).model)
    weights = architecture.linear_weights(classifier.network)
    with tracking.run(storage, finished.run_id):
        version = results.log(finished, folder, classifier, weights)
    registered = f", registered as models:/{tracking.REGISTERED_MODEL}/{version}" if version else ""
    logger.info("Run %s is complete%s", finished.run_id, registered)
    if workspace.is_temporary(folder):
        shutil.rmtree(folder)


def _status(run_id: str) -> str:
    try:
        return str(MlflowClient().get_run(run_id).info.status)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(
            f"run {run_id} does not exist in this tracking store; set MLFLOW_TRACKING_URI to the "
            "one that it was begun in"
        ) from error
