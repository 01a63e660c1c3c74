"""Logging to a run: parameters, metrics, descriptions and files."""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, Metric, Param
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from spam_mlflow.error_messages import user_message
from spam_mlflow.tracking.run_folder import REJECTED_FILE, SAFE_CSV_TAG
from spam_mlflow.tracking.runs import ERROR_TAG, STORAGE_TAG, TAG_LIMIT
from spam_mlflow.tracking.source_names import metric_name

if TYPE_CHECKING:
    from spam_mlflow.data.messages import Messages

logger = logging.getLogger(__name__)

PART_TAG = "evaluation.part"
"""Tag of an evaluation: which part of the data was scored."""

TRAINED_ON_TAG = "evaluation.trained_on"
"""Tag of an evaluation: how many of the scored messages the model was trained or tuned on."""

MODEL_TAG = "model.uri"
"""Tag of an evaluation: the version that was scored, whatever its alias points to later."""

THRESHOLD_TAG = "threshold.value"
"""Tag of a run with predictions: spam probability from which a message was labeled spam."""

_STORAGE = "storage."
_NO_PARAMETERS = (
    *("data.files.", "data.fallback", _STORAGE, "study_db", "output_dir", "safe_csv", "json"),
    *("register", "track", "train.profile", "chosen_"),
)
_PARAMETER_LIMIT = 6000  # characters; MLflow's own limit


def describe_run(markdown: str) -> None:
    """Show `markdown` as the active run's description in the UI."""
    mlflow.set_tag("mlflow.note.content", markdown[:TAG_LIMIT])


def for_page(card: str) -> str:
    """Return a model card as MLflow's pages can show it.

    That is without the YAML between two lines of dashes that it may begin with, and with space in
    the cells of its tables, between which MLflow leaves none.
    """
    _, found, rest = card.partition("\n---\n")
    body = rest.lstrip() if found and card.startswith("---\n") else card
    return re.sub(r"^\|.* \|$", lambda row: row[0].replace(" |", " &nbsp; |"), body, flags=re.M)


def log_parameters(flat: Mapping[str, Any]) -> None:
    """Log configuration values as parameters of the active run.

    A parameter that `mlflow run` has logged already, such as `data_dir`, stays as the user gave
    it, since MLflow refuses a second value.

    Args:
        flat: Values by key, such as "train.epochs". Values that are too long for MLflow are cut,
            and keys that say nothing of the model or its data are left out; config.yaml among the
            artifacts has all of them in full. How to reach the artifacts becomes a tag.
    """
    active = mlflow.active_run()
    logged = set(mlflow.get_run(active.info.run_id).data.params) if active else set()
    wanted = {name: value for name, value in flat.items() if is_parameter(name)}
    mlflow.log_params({k: str(v)[:_PARAMETER_LIMIT] for k, v in wanted.items() if k not in logged})
    storage = {
        name.removeprefix(_STORAGE): value
        for name, value in flat.items()
        if name.startswith(_STORAGE)
    }
    tags = {STORAGE_TAG: json.dumps(storage)} if storage else {}
    if flat.get("safe_csv"):
        tags[SAFE_CSV_TAG] = "True"
    mlflow.set_tags(tags)


def is_parameter(name: str) -> bool:
    """Return whether a key of the configuration says what is trained, and on what.

    The others, such as timeouts and paths of files, are in config.yaml alone.
    """
    return not name.startswith(_NO_PARAMETERS) and not name.endswith("_target_")


def log_parameters_of(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Log parameters to a run that need not be the active one, such as a trial's.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run.
        values: Parameters by name.
    """
    params = [Param(name, str(value)[:_PARAMETER_LIMIT]) for name, value in values.items()]
    client.log_batch(run_id, params=params)


class EpochLog:
    """Logs each epoch's metrics to the active run, so that the UI draws them during training.

    A store that is away does not hold the training up: what it has not taken is logged with the
    next epoch, and is left in `unlogged` if it is away until the end.
    """

    def __init__(self) -> None:
        self.unlogged: list[tuple[int, dict[str, float]]] = []
        """Steps and metrics of the epochs that are not logged yet."""

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's metrics.

        Args:
            epoch: Number of the epoch, from 0.
            metrics: Metrics by name.
        """
        self.unlogged.append((epoch + 1, dict(metrics)))
        try:
            with _without_retries():
                while self.unlogged:
                    step, values = self.unlogged[0]
                    mlflow.log_metrics(values, step=step)
                    del self.unlogged[0]
        except MlflowException as error:
            if len(self.unlogged) == 1:
                logger.warning(
                    "%s; the training goes on, and what is not logged yet is logged later",
                    user_message(error),
                )


@contextlib.contextmanager
def _without_retries() -> Iterator[None]:
    """Have requests to the tracking server fail at once where they fail."""
    name = MLFLOW_HTTP_REQUEST_MAX_RETRIES.name
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def log_metrics_of(
    client: MlflowClient,
    run_id: str,
    metrics: Mapping[str, float],
    step: int = 0,
    model_id: str | None = None,
    dataset: Dataset | None = None,
) -> None:
    """Log metrics to a run that need not be the active one.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run.
        metrics: Metrics by name; that of a source is written as `metric_name` does.
        step: Step of all metrics, such as the number of epochs so far.
        model_id: ID of the logged model that the metrics belong to, with which the UI shows them.
        dataset: The dataset that the model was scored on, one of the run's inputs.
    """
    now = int(time.time() * 1000)
    data_name, digest = (dataset.name, dataset.digest) if dataset else (None, None)
    entries = [
        Metric(metric_name(name), value, now, step, model_id, data_name, digest, run_id)
        for name, value in metrics.items()
    ]
    client.log_batch(run_id, entries)


def log_error_of(client: MlflowClient, run_id: str, reason: str) -> None:
    """Tag a run that need not be the active one with the reason why it failed."""
    client.set_tag(run_id, ERROR_TAG, reason[:TAG_LIMIT])


def log_trial(
    client: MlflowClient, run_id: str, number: int, value: float | None, best: float | None
) -> None:
    """Log a trial's value and the best one so far to a sweep's run, so that the UI draws them.

    Args:
        client: Client of the tracking store.
        run_id: ID of the sweep's run.
        number: Number of the trial, from 0.
        value: The trial's value of the objective; None if it was not completed.
        best: The best value so far; None before the first complete trial.
    """
    values = {"trial_value": value, "best_value": best}
    known = {name: value for name, value in values.items() if value is not None}
    log_metrics_of(client, run_id, known, number)


def log_file(file: Path) -> None:
    """Upload `file` to the active run's artifacts, under its own name."""
    mlflow.log_artifact(str(file))


def log_folder(folder: Path) -> None:
    """Upload everything in `folder` to the active run's artifacts, with the same layout."""
    mlflow.log_artifacts(str(folder))


def log_rejected(messages: "Messages", folder: Path) -> None:
    """Upload the table of rejected rows if there are any, so that even a failing run shows them.

    Args:
        messages: The messages that were read.
        folder: The run's folder, which holds the table.
    """
    if len(messages.rejected):
        log_file(folder / REJECTED_FILE)


def log_preset(preset: str | None) -> None:
    """Tag the active run with its experiment preset, if it has one, to group runs by it."""
    if preset is not None:
        mlflow.set_tag("preset", preset)


def show_table(name: str) -> None:
    """Have the UI's evaluation view show and compare the active run's artifact `name`.

    MLflow's own `log_table` would append to an existing table, and list and read the artifacts.
    """
    mlflow.set_tag(MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": name, "type": "table"}]))
