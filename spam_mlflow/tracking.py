"""Runs in MLflow: where they go, how they end, and what is written to them."""

import contextlib
import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS
from omegaconf import DictConfig

from spam_mlflow import config, faults, s3
from spam_mlflow.config import ROOT
from spam_mlflow.errors import UserError
from spam_mlflow.settings import StorageSettings
from spam_mlflow.workspace import REJECTED_FILE

if TYPE_CHECKING:
    from spam_mlflow.data import Messages
    from spam_mlflow.split import Split

EXPERIMENT = "spam-classifier"
REGISTERED_MODEL = "spam-classifier"

_PROBE_SECONDS = 10
_PARAMETER_LIMIT = 6000  # characters; MLflow's own limit
_TAG_LIMIT = 5000  # characters, likewise
_ERROR_TAG = "error"
_KIND = "mlflow.experimentKind"
_NAME_LIMIT = 100  # characters
# Where a run finds things and puts them does not tell it apart, nor what its name holds anyway.
_UNNAMED = ("data.", "data_dir", "output_dir", "storage.", "register", "model.name", "split._")
_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
# What MLflow says where two processes insert the same row: by PostgreSQL, SQLite, MySQL, and itself
# of experiments and of versions.
_LOST_RACE = re.compile(
    "UniqueViolation|UNIQUE constraint|Duplicate entry|already exists|Giving up after"
)
_RACES = 5
_MONITOR_SECONDS = 2

Done = TypeVar("Done")


def connect() -> None:
    """Choose the tracking store: MLFLOW_TRACKING_URI, else a SQLite file in the project root.

    Raises UserError where a tracking server is named but does not answer: MLflow itself would
    retry for minutes first.
    """
    # A server that is being restarted is waited for, about a minute; MLflow would take four.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    # MLflow's progress bars and its reminders to open the UI would drown the training's own lines.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow.store.db.utils", "alembic", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Where the store fails, the run itself says so.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        mlflow.set_tracking_uri(f"sqlite:///{ROOT / 'mlflow.db'}")
    elif uri.startswith(("http://", "https://")):
        _require_answer(uri)


def _require_answer(uri: str) -> None:
    import requests

    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS)
    except requests.RequestException as error:
        raise UserError(
            f"the tracking server MLFLOW_TRACKING_URI={uri} does not answer "
            f"({type(error).__name__}); start it, or unset the variable to log to a local file"
        ) from error


@contextlib.contextmanager
def run(
    storage: StorageSettings | None = None,
    run_id: str | None = None,
    experiment: str = EXPERIMENT,
    monitored: bool = False,
) -> Iterator[mlflow.ActiveRun]:
    """Open the run that `mlflow run` made, else a new one, and close it with the right status.

    FINISHED, KILLED where the user interrupts, FAILED with the reason as tag `error` otherwise;
    what was logged is kept in every case.

    storage: how to reach the run's artifacts if they lie on S3; None: as the environment says.
    run_id: of an earlier run to go on with instead.
    experiment: that a new run goes to where the caller's environment names none.
    monitored: log use of processors, memory, disk and network meanwhile, unless the environment
        says otherwise.
    """
    if storage is not None:
        s3.configure_mlflow(storage)
    if "MLFLOW_RUN_ID" not in os.environ and run_id is None:
        _choose_experiment(experiment)
    if monitored:
        os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
        # MLflow's own 10 s would show a short training as a single point.
        os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", str(_MONITOR_SECONDS))
    active = mlflow.start_run(run_id)
    try:
        if storage is not None and active.info.artifact_uri.startswith("s3:"):
            s3.bound_waiting(storage)
        _show_training_first(active.info.experiment_id)
        if _ERROR_TAG in active.data.tags:
            mlflow.delete_tag(_ERROR_TAG)
        yield active
    except KeyboardInterrupt:
        mlflow.end_run("KILLED")
        raise
    except BaseException as error:
        # The store itself may be what failed: its second error must not hide the first, nor be
        # waited for as long.
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
        with contextlib.suppress(Exception):
            mlflow.set_tag(_ERROR_TAG, (faults.explain(error) or repr(error))[:_TAG_LIMIT])
            mlflow.end_run("FAILED")
        raise
    mlflow.end_run()


def despite_others(action: Callable[[], Done]) -> Done:
    """Return what `action` returns; it is done again where another process was faster.

    MLflow's stores look for a row, find none and insert it. Of two runs that do so at the same
    moment, one is told that the row exists: the second time, it finds it.
    """
    for _ in range(_RACES - 1):
        try:
            return action()
        except MlflowException as error:
            if not _LOST_RACE.search(str(error)):
                raise
    return action()


def _choose_experiment(name: str) -> None:
    """Take the caller's experiment, else `name`, created where it does not exist yet."""
    if os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return
    chosen = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
    despite_others(lambda: _require_experiment(chosen))
    mlflow.set_experiment(chosen)


def _require_experiment(name: str) -> None:
    if mlflow.get_experiment_by_name(name) is None:
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.create_experiment(name, str(ROOT / "mlruns") if local else None)


def experiment_name(client: MlflowClient) -> str:
    """Return the name of the caller's experiment, else spam-classifier."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if number:
        return str(client.get_experiment(number).name)
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def create_experiment(client: MlflowClient, name: str, location: str) -> bool:
    """Create the experiment `name` with its artifacts at `location`; False where it is so already.

    Raises UserError where it exists and puts its artifacts elsewhere: MLflow cannot change that.
    """
    existing = client.get_experiment_by_name(name)
    if existing is None:
        client.create_experiment(name, location)
        return True
    if existing.artifact_location.rstrip("/") != location:
        raise UserError(
            f"the experiment {name} puts its artifacts into {existing.artifact_location}, which "
            "was fixed when it was created; give another name=... and train with "
            "MLFLOW_EXPERIMENT_NAME set to it"
        )
    return False


def _show_training_first(experiment_id: str) -> None:
    """Have the UI open the experiment at its runs, not at the traces of a language model."""
    if _KIND not in mlflow.get_experiment(experiment_id).tags:
        client = MlflowClient()
        despite_others(
            lambda: client.set_experiment_tag(experiment_id, _KIND, "custom_model_development")
        )


def name_run(name: str, instead_of: str | None = None) -> None:
    """Name the active run, unless the user has: MLflow's own names are like "gifted-crow-12".

    instead_of: an earlier name that is not the user's either.
    """
    active = mlflow.active_run()
    given = mlflow.get_run(active.info.run_id).info.run_name if active else None
    if given in (None, instead_of) or _RANDOM_NAME.fullmatch(str(given)):
        mlflow.set_tag("mlflow.runName", name)


def describe_run(markdown: str) -> None:
    """Show `markdown` as the active run's description in the UI."""
    mlflow.set_tag("mlflow.note.content", markdown[:_TAG_LIMIT])


def log_parameters(flat: Mapping[str, Any]) -> None:
    """Log flattened configuration values; longer ones are cut, the whole stands in config.yaml.

    Those that `mlflow run` has logged already, such as `data_dir`, stay as the user gave them:
    MLflow refuses to log a second value.
    """
    active = mlflow.active_run()
    logged = set(mlflow.get_run(active.info.run_id).data.params) if active else set()
    mlflow.log_params({k: str(v)[:_PARAMETER_LIMIT] for k, v in flat.items() if k not in logged})


def log_epoch(epoch: int, figures: Mapping[str, float]) -> None:
    """Log one epoch's figures, so that the UI draws them while training goes on."""
    mlflow.log_metrics(dict(figures), step=epoch + 1)


def log_parameters_of(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Log parameters to a run that is not the active one, such as a trial's."""
    params = [Param(name, str(value)[:_PARAMETER_LIMIT]) for name, value in values.items()]
    client.log_batch(run_id, params=params)


def log_figures_of(
    client: MlflowClient,
    run_id: str,
    figures: Mapping[str, float],
    step: int = 0,
    model_id: str | None = None,
    dataset: Dataset | None = None,
) -> None:
    """Log figures to a run, which need not be the active one.

    model_id: of the logged model that they belong to; the UI shows them with it.
    dataset: that the model was scored on, one of the run's inputs.
    """
    now = int(time.time() * 1000)
    name, digest = (dataset.name, dataset.digest) if dataset else (None, None)
    metrics = [
        Metric(figure, value, now, step, model_id, name, digest, run_id)
        for figure, value in figures.items()
    ]
    client.log_batch(run_id, metrics)


def inputs(client: MlflowClient, run_id: str) -> dict[str, Dataset]:
    """Return the datasets that the run has as inputs, by their context, such as "test"."""
    found = client.get_run(run_id).inputs
    return {
        tag.value: entry.dataset
        for entry in (found.dataset_inputs if found else ())
        for tag in entry.tags
        if tag.key == MLFLOW_DATASET_CONTEXT
    }


def log_error_of(client: MlflowClient, run_id: str, reason: str) -> None:
    """Say why a run that is not the active one failed."""
    client.set_tag(run_id, _ERROR_TAG, reason[:_TAG_LIMIT])


def log_trial(number: int, value: float | None, best: float | None) -> None:
    """Log a trial's value and the best so far to the sweep's run, so that the UI draws them."""
    figures = {"trial_value": value, "best_value": best}
    known = {name: figure for name, figure in figures.items() if figure is not None}
    mlflow.log_metrics(known, step=number + 1)


def log_code_version() -> None:
    """Tag the run with the commit of the project and whether the working tree differs from it."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    tags = {"git.commit": commit or "unknown"}
    if changes is not None:
        tags["git.dirty"] = str(bool(changes)).lower()
    mlflow.set_tags(tags)


def _git(*arguments: str) -> str | None:
    """Return what git prints, None where the project is no repository or git is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def data_tags(messages: "Messages", split: "Split | None" = None) -> dict[str, str]:
    """Return what a run or a registered version must tell about the data it comes from."""
    tags = {
        "data.name": messages.name,
        "data.digest": messages.digest,
        "data.fallback": str(messages.fallback).lower(),
    }
    if split is not None:
        tags |= {
            "split.name": split.name,
            "split.digest": split.digest,
            "split.leaky": str(split.leaky).lower(),
        }
    return tags


def log_data(messages: "Messages", split: "Split") -> None:
    """Log digests, counts by part, source and label, and each part as a dataset input."""
    mlflow.set_tags(data_tags(messages, split))
    # Parameters, not metrics: as metrics each would get a chart of its own in the UI.
    names = split.frame["part"] + "." + split.frame["source"] + "." + split.frame["label"]
    counts = {
        "read": len(messages.frame) + len(messages.rejected),
        "rejected": len(messages.rejected),
        "duplicate": split.duplicates,
        **names.value_counts().to_dict(),
    }
    mlflow.log_params({f"rows.{name}": count for name, count in counts.items()})
    for part in split.frame["part"].unique():
        log_dataset(split.part(part), f"{messages.name}-{part}", part)


def log_dataset(frame: pd.DataFrame, name: str, context: str) -> None:
    """Log messages as an input of the active run; context: what they are for, such as "test"."""
    from mlflow.data.pandas_dataset import from_pandas

    from spam_mlflow.data.messages import frame_digest

    columns = frame[["text", "label", "source"]].astype(object)
    digest = frame_digest(frame)[:32]  # MLflow allows 36 characters
    dataset = from_pandas(columns, targets="label", name=name, digest=digest)
    despite_others(lambda: mlflow.log_input(dataset, context=context))


def log_file(file: Path) -> None:
    """Upload `file` to the run's artifacts, under its own name."""
    mlflow.log_artifact(str(file))


def log_rejected(messages: "Messages", folder: Path) -> None:
    """Upload the table of rejected rows where there are any: even a run that fails shows them."""
    if len(messages.rejected):
        log_file(folder / REJECTED_FILE)


def log_preset(preset: str | None) -> None:
    """Tag the run with its experiment preset, so that runs can be grouped by it."""
    if preset is not None:
        mlflow.set_tag("preset", preset)


def differences(cfg: DictConfig) -> str:
    """Return what `cfg` was told apart from its model's defaults, as a run's name says it.

    A preset counts as a default of its own. Empty where nothing differs.
    """
    overrides = [f"model={cfg.model.name}"]
    if cfg.preset is not None:
        overrides = [f"experiment={cfg.preset}"]
    defaults = config.flatten(config.compose("main", overrides))
    changed = {
        key: value
        for key, value in config.flatten(cfg).items()
        if key in defaults and value != defaults[key] and not key.startswith(_UNNAMED)
    }
    return f", {shown(changed)}" if changed else ""


def shown(values: Mapping[str, Any]) -> str:
    """Return configuration values as a run's name holds them: short keys, and not too many."""
    short = {key: f"{v:.3g}" if isinstance(v, float) else str(v) for key, v in values.items()}
    text = ", ".join(dict.fromkeys(f"{k.rpartition('.')[2]}={v}" for k, v in short.items()))
    return text if len(text) <= _NAME_LIMIT else f"{text[:_NAME_LIMIT]}…"


def log_folder(folder: Path) -> None:
    """Upload everything under `folder` to the run's artifacts, keeping the layout."""
    mlflow.log_artifacts(str(folder))


def show_table(name: str) -> None:
    """Have the UI's evaluation view show and compare the run's artifact `name`.

    MLflow's own `log_table` appends to a table that is there already, and lists and reads the
    artifacts for it.
    """
    mlflow.set_tag(MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": name, "type": "table"}]))
