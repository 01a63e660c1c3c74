"""Runs in MLflow: their store and experiment, how they begin and how they end."""

import contextlib
import json
import logging
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import fluent

from spam_mlflow import error_messages, progress
from spam_mlflow.config.environment import stack_endpoint
from spam_mlflow.config.instantiate import settings as validated_settings
from spam_mlflow.config.masking import mask_record, masked_address
from spam_mlflow.config.paths import working_root
from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.errors import UserError
from spam_mlflow.storage import s3
from spam_mlflow.tracking import links, server, store

EXPERIMENT = "spam-classifier"
REGISTERED_MODEL = "spam-classifier"
DATABASE = "mlflow.db"
"""Name of the SQLite file that runs go to by default."""

ERROR_TAG = "error"
"""Tag of a failed run that says why."""

STORAGE_TAG = "storage"
"""Tag of a run that says, in JSON, how its artifacts are reached."""

_FAILED = " (failed)"  # end of the name of a failed run

TAG_LIMIT = 5000
"""Characters of a tag's value; MLflow's own limit."""

_DATABASES = tuple(DATABASE_ENGINES)
_KIND = "mlflow.experimentKind"
_NAME_TAG = "mlflow.runName"
# The errors if two processes insert the same row: of PostgreSQL, SQLite and MySQL, and of MLflow
# itself for experiments and for versions.
_CONFLICT = re.compile(
    "UniqueViolation|UNIQUE constraint|Duplicate entry|already exists|Giving up after"
)
_ATTEMPTS = 5
_MONITOR_SECONDS = 2

Result = TypeVar("Result")


def connect() -> None:
    """Choose the tracking store: MLFLOW_TRACKING_URI, else a SQLite file.

    The file is in the project root, or in the working directory if the project is installed.

    Raises:
        UserError: If MLFLOW_TRACKING_URI names a server that does not answer, or a database that
            cannot be opened. MLflow itself would retry for minutes first.
    """
    # A server that restarts is waited for, for about a minute; MLflow would wait four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    # MLflow's progress bars and its reminders to open the UI would hide the training's own lines.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("alembic", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # If the store fails, the run itself reports it.
    for name in ("mlflow.system_metrics", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(mask_record)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{working_root() / DATABASE}"
    uri = store.absolute(uri)
    mlflow.set_tracking_uri(uri)
    with progress.step("Connecting to the tracking store"):
        if uri.startswith(("http://", "https://")):
            server.require_answer(uri)
            server.announce_waiting(uri)
        elif uri.startswith(_DATABASES):
            store.open_database(uri)


@contextlib.contextmanager
def run(
    storage: StorageSettings | None = None,
    run_id: str | None = None,
    experiment: str = EXPERIMENT,
    monitored: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Iterator[mlflow.ActiveRun]:
    """Open the run that `mlflow run` made, else a new one, and close it with the right status.

    The status is FINISHED, KILLED if the user interrupts, or else FAILED, with the reason as tag
    `error`. What was logged is kept in each case.

    Args:
        storage: How to reach the run's artifacts if they are on S3; None means as the environment
            says.
        run_id: ID of an earlier run to go on with instead.
        experiment: Experiment of a new run if the caller's environment names none.
        monitored: Whether to log the use of processors, memory, disk and network during the run,
            unless the environment says otherwise.
        tags: Tags that the run has from the moment when it is created.

    Yields:
        The active run.
    """
    if storage is not None:
        s3.configure_mlflow(storage)
    if "MLFLOW_RUN_ID" not in os.environ and run_id is None:
        _choose_experiment(experiment)
    if monitored:
        os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
        # With MLflow's default of 10 s, a short training would be a single point.
        os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", str(_MONITOR_SECONDS))
    if run_id is None and "MLFLOW_RUN_ID" in os.environ:
        _require_unfinished(os.environ["MLFLOW_RUN_ID"])
    with progress.step("Opening the run"):
        active = mlflow.start_run(run_id, tags=dict(tags or {}))
    try:
        _mask_tags(active)
        if storage is not None and active.info.artifact_uri.startswith("s3:"):
            s3.set_client_timeouts(storage)
        _show_training_first(active.info.experiment_id)
        if ERROR_TAG in active.data.tags:
            mlflow.delete_tag(ERROR_TAG)
            mlflow.set_tag(_NAME_TAG, str(active.info.run_name).removesuffix(_FAILED))
        yield active
    except KeyboardInterrupt:
        mlflow.end_run("KILLED")
        raise
    except BaseException as error:
        _end_failed(active.info.run_id, error)
        raise
    mlflow.end_run()


def _end_failed(run_id: str, error: BaseException) -> None:
    """Close the active run as failed, if its store still takes that.

    A second error must not hide the first one, nor be waited for as long.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    reason = error_messages.reason(error)
    try:
        name = failed_name(mlflow.get_run(run_id).info.run_name)
        mlflow.set_tags({ERROR_TAG: reason[:TAG_LIMIT], _NAME_TAG: name})
    except Exception:
        # The store is away, and the thread that logs the machine's load may be waiting for it.
        fluent.run_id_to_system_metrics_monitor.pop(run_id, None)
    with contextlib.suppress(Exception):
        mlflow.end_run("FAILED")


def close_unfinished(
    client: MlflowClient, run_id: str, name: str | None, error: BaseException
) -> None:
    """Close a run that is not the active one as killed or failed, with the reason.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run.
        name: Name of the run, to which it is added that it has failed.
        error: What has ended it.
    """
    reason = error_messages.reason(error)
    client.set_tag(run_id, ERROR_TAG, reason[:TAG_LIMIT])
    client.set_tag(run_id, _NAME_TAG, failed_name(name))
    client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


def failed_name(name: str | None) -> str:
    """Return the name of a run that has failed, which says so."""
    return f"{str(name or '').removesuffix(_FAILED)}{_FAILED}"


def _mask_tags(active: mlflow.ActiveRun) -> None:
    """Mask log-in data in tags that `mlflow run` has set, such as the address of a repository."""
    for name, value in active.data.tags.items():
        if masked_address(value) != value:
            mlflow.set_tag(name, masked_address(value))


def _require_unfinished(run_id: str) -> None:
    """Raise UserError if the run of MLFLOW_RUN_ID has a record that this one would overwrite."""
    found = find(MlflowClient(), run_id)
    if found is None:
        uri = masked_address(mlflow.get_tracking_uri())
        raise UserError(
            f"MLFLOW_RUN_ID={run_id} is no run of {uri}; unset the variable, or, under "
            "`mlflow run`, make MLFLOW_TRACKING_URI an absolute path"
        )
    models = found.outputs.model_outputs if found.outputs else []
    if models or found.info.status == "FINISHED":
        state = "has a logged model" if models else "is finished"
        raise UserError(
            f"MLFLOW_RUN_ID={run_id} {state}, and its record would be overwritten; unset the "
            "variable to make a run of its own"
        )


def find(client: MlflowClient, run_id: str) -> Run | None:
    """Return a run, None if it is not in the tracking store.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run.
    """
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def require_run(client: MlflowClient, run_id: str, user: str) -> None:
    """Raise UserError if a run is not in the tracking store.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run.
        user: What needs the run, such as "study='x'".
    """
    if find(client, run_id) is None:
        uri = masked_address(mlflow.get_tracking_uri())
        raise UserError(
            f"{user} logs to the run {run_id}, which {uri} does not have; all its processes need "
            "the same MLFLOW_TRACKING_URI"
        )


def tagged(client: MlflowClient, tags: Mapping[str, str]) -> str | None:
    """Return the ID of the run, of any experiment, that has some tags; None if there is none."""
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs(experiments, wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def retry_on_conflict(action: Callable[[], Result]) -> Result:
    """Run `action`, and run it again if another process was faster.

    MLflow's stores look for a row and insert it if there is none. If two processes do so at the
    same moment, one of them gets an error that the row exists, and finds it when it tries again.

    Args:
        action: A call of MLflow that may be repeated.

    Returns:
        What `action` returns.

    Raises:
        MlflowException: If `action` fails for another reason, or conflicts five times.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return action()
        except MlflowException as error:
            if not _CONFLICT.search(str(error)):
                raise
    return action()


def storage_of(logged: Run, otherwise: StorageSettings) -> StorageSettings:
    """Return how to reach the artifacts of a run: as it reached them itself.

    Where that was without an endpoint, the local stack is taken if there is one, else AWS.

    Args:
        logged: The run.
        otherwise: Settings for a run that has not logged its own.
    """
    recorded = _recorded_storage(logged, asdict(otherwise))
    if not recorded:
        return otherwise
    if recorded.get("endpoint_url") is None and stack_endpoint():
        recorded |= {"endpoint_url": stack_endpoint(), "addressing_style": "path"}
    return validated_settings(StorageSettings, asdict(otherwise) | recorded, "storage.")


def _recorded_storage(logged: Run, names: Iterable[str]) -> dict[str, Any]:
    """Return a run's settings of its storage by name, those that it has logged."""
    if STORAGE_TAG in logged.data.tags:
        try:
            found = json.loads(logged.data.tags[STORAGE_TAG])
        except ValueError:
            return {}
        known = found if isinstance(found, dict) else {}
        return {name: known[name] for name in names if name in known}
    return {  # an earlier run, which has them as parameters
        name: None if value == "None" else value
        for name in names
        if (value := logged.data.params.get(f"storage.{name}")) is not None
    }


def _choose_experiment(name: str) -> None:
    """Choose the experiment of the environment, else `name`, and create it if it is missing."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if number:
        _require_active(mlflow.get_experiment(number))
        return
    chosen = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
    retry_on_conflict(lambda: _require_experiment(chosen))
    mlflow.set_experiment(chosen)


def _require_experiment(name: str) -> None:
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        mlflow.create_experiment(name, store.artifact_folder(mlflow.get_tracking_uri()))
    else:
        _require_active(found)


def _require_active(experiment: Experiment) -> None:
    """Raise UserError with the command that restores an experiment, if it was deleted."""
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        address = shlex.quote(masked_address(mlflow.get_tracking_uri()))
        raise UserError(
            f"the experiment {experiment.name} was deleted; restore it with `MLFLOW_TRACKING_URI="
            f"{address} mlflow experiments restore --experiment-id {experiment.experiment_id}`, or "
            "set MLFLOW_EXPERIMENT_NAME to another one"
        )


def experiment_name(client: MlflowClient) -> str:
    """Return the name of the environment's experiment, else spam-classifier."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if number:
        return str(client.get_experiment(number).name)
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def create_experiment(client: MlflowClient, name: str, location: str) -> bool:
    """Create an experiment that keeps its artifacts at a given location.

    Args:
        client: Client of the tracking store.
        name: Name of the experiment.
        location: URI for the artifacts, without a slash at its end.

    Returns:
        Whether it was created; False if it exists with this location already.

    Raises:
        UserError: If it exists with another location, which MLflow cannot change, or was deleted.
    """
    existing = client.get_experiment_by_name(name)
    if existing is None:
        client.create_experiment(name, location)
        return True
    _require_active(existing)
    if existing.artifact_location.rstrip("/") != location:
        raise UserError(
            f"the experiment {name} puts its artifacts into {existing.artifact_location}, which "
            "was fixed when it was created"
        )
    return False


def _show_training_first(experiment_id: str) -> None:
    """Have the UI open the experiment at its runs, instead of at traces of language models.

    The experiment also gets a description and a view.
    """
    experiment = mlflow.get_experiment(experiment_id)
    if _KIND not in experiment.tags:
        client = MlflowClient()
        retry_on_conflict(
            lambda: client.set_experiment_tag(experiment_id, _KIND, "custom_model_development")
        )
        retry_on_conflict(lambda: links.describe_experiment(client, experiment, REGISTERED_MODEL))
