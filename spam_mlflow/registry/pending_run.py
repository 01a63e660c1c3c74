"""A finished training on disk, which is kept until the tracking store has all of it.

If logging it fails, nothing has to be trained again: the folder is kept, and `log` completes the
same run from it.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from spam_mlflow import progress
from spam_mlflow.config import commands
from spam_mlflow.config.compose import flatten
from spam_mlflow.error_messages import user_message
from spam_mlflow.errors import UserError
from spam_mlflow.registry import loading, model_files, model_logging
from spam_mlflow.registry.model_files import DIGEST_TAG
from spam_mlflow.tracking import lineage, run_folder, run_logging, run_metrics
from spam_mlflow.tracking.run_folder import CARD_FILE, CONFIG_FILE, ERRORS_FILE

if TYPE_CHECKING:
    import numpy as np

    from spam_mlflow.scorer.classifier import Classifier

RESULTS_FILE = "results.json"

_PARTS = {"val_": "validation", "test_": "test"}
"""Context of the dataset that a metric was computed on, by the prefix of the metric's name."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingRun:
    """What is logged of a finished training, besides its files.

    Attributes:
        run_id: ID of the run that the training belongs to.
        metrics: Metrics by name.
        per_epoch: Names of those metrics that are also logged after each epoch.
        epochs: Number of epochs of the training.
        version_tags: Tags of the version to register; None if no version is to be registered.
        code_package: Import name of the scorer that the model was trained with.
        unlogged: Steps and metrics of the epochs that the store has not taken during the training.
        tags: Tags of the run that are known once the model is trained.
    """

    run_id: str
    metrics: Mapping[str, float]
    per_epoch: tuple[str, ...]
    epochs: int
    version_tags: Mapping[str, str] | None
    code_package: str
    unlogged: tuple[tuple[int, Mapping[str, float]], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the attributes to `folder`, as JSON."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True)
        (folder / RESULTS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "PendingRun":
        """Return what `write` wrote to `folder`.

        Raises:
            UserError: If there is no finished training, or if it was done with a scorer other than
                this code's, whose scores need not be those that the metrics were computed from.
        """
        try:
            values = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
            found = cls(**{"code_package": "an earlier one", **values})
        except (OSError, TypeError, ValueError) as error:
            raise UserError(
                f"folder={str(folder)!r} does not hold a finished training ({error}); give the "
                "folder that the failed run named"
            ) from error
        if found.code_package != model_logging.scorer_package():
            raise UserError(
                f"the model in {folder} was trained with other code (scorer {found.code_package}, "
                f"not {model_logging.scorer_package()}); check out the commit in the tag "
                f"git.commit of run {found.run_id} to complete it"
            )
        return found


def log(
    pending: PendingRun,
    folder: Path,
    classifier: "Classifier",
    weights: "dict[str, np.ndarray] | None",
) -> str | None:
    """Log the files, the model and the metrics to the run, and register a version if wanted.

    What an earlier attempt has logged is not logged twice.

    Args:
        pending: What is to be logged besides the files.
        folder: The run's folder.
        classifier: The trained classifier.
        weights: `coefficients` and `intercept` of a linear model; None for any other model.

    Returns:
        Number of the registered version; None if none was to be registered.

    Raises:
        UserError: If a store fails; the message says where the folder is kept and how to go on.
    """
    try:
        with progress.step("Logging to MLflow"):
            return _log(pending, folder, classifier, weights)
    except BaseException as error:
        kept = _keep(folder, pending.run_id)
        advice = (
            f"the trained model is kept in {kept}: once that is fixed, "
            f"`{_resume_command(kept)}` completes the run without training"
        )
        reason = user_message(error)
        if reason is not None:
            raise UserError(f"{reason}; {advice}") from error
        logger.error("%s", advice)
        raise


def _resume_command(folder: Path) -> str:
    """Return the command that completes the run in a kept folder, with the store it went to."""
    cfg = DictConfig(OmegaConf.load(folder / CONFIG_FILE))
    storage = {f"storage.{key}": value for key, value in flatten(DictConfig(cfg.storage)).items()}
    given = [commands.override("folder", str(folder))]
    return commands.command("resume", commands.overrides("resume", storage, ["storage"], given))


def _log(
    pending: PendingRun,
    folder: Path,
    classifier: "Classifier",
    weights: "dict[str, np.ndarray] | None",
) -> str | None:
    client = MlflowClient()
    for step, metrics in pending.unlogged:
        run_logging.log_metrics_of(client, pending.run_id, metrics, step)
    for name, value in pending.tags.items():
        client.set_tag(pending.run_id, name, value)
    card = run_logging.for_page((folder / CARD_FILE).read_text(encoding="utf-8"))
    run_logging.describe_run(card)
    run_logging.log_folder(folder)
    run_logging.show_table(ERRORS_FILE)
    model = model_logging.finished_model(client, pending.run_id)
    details = run_metrics.details(pending.metrics)
    model_id = (
        model.model_id if model else model_logging.log_model(classifier, weights, details).model_id
    )
    digest = _record_digest(client, pending.run_id, f"models:/{model_id}")
    datasets = lineage.inputs(client, pending.run_id)
    for (context, step), metrics in _grouped(pending).items():
        dataset = datasets.get(context)
        run_logging.log_metrics_of(client, pending.run_id, metrics, step, model_id, dataset)
    if pending.version_tags is None:
        return None
    tags = {**pending.version_tags, DIGEST_TAG: digest}
    return model_logging.register(client, model_id, pending.run_id, tags, card)


def _record_digest(client: MlflowClient, run_id: str, model_uri: str) -> str:
    """Tag the run with the digest of the model's files, as the store has them, and return it."""
    with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
        digest = model_files.digest(loading.download(model_uri, Path(scratch)))
    client.set_tag(run_id, DIGEST_TAG, digest)
    return digest


def _grouped(pending: PendingRun) -> dict[tuple[str, int], dict[str, float]]:
    """Return the metrics, grouped by the context of their dataset and by their step."""
    grouped: dict[tuple[str, int], dict[str, float]] = {}
    for name, value in run_metrics.charted(pending.metrics).items():
        context = next((c for prefix, c in _PARTS.items() if name.startswith(prefix)), "")
        # MLflow shows the value of the highest step. `val_accuracy` is also logged per epoch, when
        # no threshold is chosen yet, so that its final value goes to the last epoch's step. The
        # other metrics have no step, since the UI then compares runs by bars.
        step = pending.epochs if name in pending.per_epoch else 0
        grouped.setdefault((context, step), {})[name] = value
    return grouped


def _keep(folder: Path, run_id: str) -> Path:
    """Return the folder that is kept: `folder` itself, or a new name of it if it is temporary."""
    if not run_folder.is_temporary(folder):
        return folder
    kept = folder.with_name(f"spam_mlflow-{run_id}")
    return folder.rename(kept) if folder != kept else kept
