"""What training gave, on disk until the tracking store has all of it.

Whatever goes wrong while it is logged, nothing has to be trained again: the folder is kept, and
`log` completes the same run from it.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from spam_mlflow import faults, registry, reports, tracking, workspace
from spam_mlflow.errors import UserError
from spam_mlflow.job import CARD_FILE

if TYPE_CHECKING:
    import numpy as np

    from spam_mlflow.classifier import Classifier

RESULTS_FILE = "results.json"

_PARTS = {"val_": "validation", "test_": "test"}
"""The dataset, by its context, that a figure was taken on, by the beginning of its name."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """What is logged of a finished training, besides its files.

    run_id: of the run it belongs to.
    metrics: figures by name.
    per_epoch: names of those that are also logged after each epoch.
    epochs: number of epochs.
    version_tags: of the version to register; None: none is registered.
    """

    run_id: str
    metrics: Mapping[str, float]
    per_epoch: tuple[str, ...]
    epochs: int
    version_tags: Mapping[str, str] | None

    def write(self, folder: Path) -> None:
        """Write them to `folder`."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True)
        (folder / RESULTS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Return what `write` put into `folder`; raises UserError where it did not."""
        try:
            return cls(**json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise UserError(
                f"folder={str(folder)!r} does not hold a finished training ({error}); give the "
                "folder that the failed run named"
            ) from error


def log(
    results: Results,
    folder: Path,
    classifier: "Classifier",
    weights: "dict[str, np.ndarray] | None",
) -> str | None:
    """Log the files in `folder`, the servable model and the figures; return the version, if any.

    What an earlier attempt has logged is not logged twice.

    Raises UserError where a store fails, saying where everything is kept and how to go on.
    """
    try:
        return _log(results, folder, classifier, weights)
    except BaseException as error:
        kept = _keep(folder, results.run_id)
        advice = (
            f"the trained model is kept in {kept}: once that is mended, "
            f"`python -m spam_mlflow resume folder={kept}` completes the run without training"
        )
        reason = faults.explain(error)
        if reason is not None:
            raise UserError(f"{reason}; {advice}") from error
        logger.error("%s", advice)
        raise


def _log(
    results: Results,
    folder: Path,
    classifier: "Classifier",
    weights: "dict[str, np.ndarray] | None",
) -> str | None:
    client = MlflowClient()
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    tracking.describe_run(card)
    tracking.log_folder(folder)
    tracking.show_table(reports.ERRORS_FILE)
    model = registry.finished_model(client, results.run_id)
    model_id = model.model_id if model else registry.log_model(classifier, weights).model_id
    datasets = tracking.inputs(client, results.run_id)
    for (context, step), figures in _grouped(results).items():
        dataset = datasets.get(context)
        tracking.log_figures_of(client, results.run_id, figures, step, model_id, dataset)
    if results.version_tags is None:
        return None
    return registry.register(client, model_id, results.run_id, results.version_tags, card)


def _grouped(results: Results) -> dict[tuple[str, int], dict[str, float]]:
    """Return the figures by the context of the dataset they were taken on, and their step."""
    grouped: dict[tuple[str, int], dict[str, float]] = {}
    for name, value in results.metrics.items():
        context = next((c for prefix, c in _PARTS.items() if name.startswith(prefix)), "")
        # At the last epoch's step: MLflow shows the value of the highest step, and `val_accuracy`
        # is also logged per epoch, where it knows nothing of the threshold yet. The others have no
        # step, since the UI then compares runs by bars.
        step = results.epochs if name in results.per_epoch else 0
        grouped.setdefault((context, step), {})[name] = value
    return grouped


def _keep(folder: Path, run_id: str) -> Path:
    """Return where `folder` stays: where it is, unless it is a temporary one."""
    if not workspace.is_temporary(folder):
        return folder
    kept = folder.with_name(f"spam_mlflow-{run_id}")
    return folder.rename(kept) if folder != kept else kept
