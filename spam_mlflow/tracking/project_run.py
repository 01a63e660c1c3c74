"""The run that `mlflow run` makes for every command, also for those that need none.

It cannot be deleted by the command: MLflow sets its status when the command has ended, whatever it
is by then, and `mlflow run` fails if the run is gone. So it is marked, and deleted by a later one.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from spam_mlflow.config import commands
from spam_mlflow.config.masking import masked_address
from spam_mlflow.errors import UserError
from spam_mlflow.tracking import lineage, runs

logger = logging.getLogger(__name__)

UNUSED = {"kind": "command"}
"""Tag of a run that its command has not used."""

_KEPT_SECONDS = 600  # MLflow is done with a run by then


@contextlib.contextmanager
def tidied(command: str) -> Iterator[None]:
    """Mark the run of `mlflow run` after a command that has not used it, and delete earlier ones.

    If the command fails, its run is kept, with the command as its name and the reason in its tag
    `error`.

    Args:
        command: Such as "history". The run of another entry point is that of a caller.
    """
    run_id = os.environ["MLFLOW_RUN_ID"]  # MLflow removes it when a run is begun
    before = commands.NAMES_FOLDER.set(True)
    try:
        yield
    except BaseException as error:
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # the store may be what has failed
        with contextlib.suppress(Exception):
            _record_failure(run_id, command, error)
        raise
    finally:
        commands.NAMES_FOLDER.reset(before)
    with contextlib.suppress(MlflowException, UserError):
        client = _client()
        run = client.get_run(run_id)
        _warn_of_passwords(run)
        if _is_unused(run, command):
            _delete_earlier(client, run.info.experiment_id)
            for name, value in {**UNUSED, MLFLOW_RUN_NAME: command}.items():
                client.set_tag(run_id, name, value)
            client.set_terminated(run_id)


def is_marked(run: Run) -> bool:
    """Return whether a run is one that its command has not used."""
    return UNUSED.items() <= run.data.tags.items()


def _delete_earlier(client: MlflowClient, experiment_id: str) -> None:
    """Delete the runs that earlier commands have left unused in an experiment."""
    (mark,) = (f"tags.{name} = '{value}'" for name, value in UNUSED.items())
    latest = (time.time() - _KEPT_SECONDS) * 1000
    for run in client.search_runs([experiment_id], mark):
        if run.info.end_time and run.info.end_time < latest:
            client.delete_run(run.info.run_id)


def _record_failure(run_id: str, command: str, error: BaseException) -> None:
    client = _client()
    run = client.get_run(run_id)
    _warn_of_passwords(run)
    if not _is_unused(run, command):
        return
    runs.close_unfinished(client, run_id, command, error)


def _warn_of_passwords(run: Run) -> None:
    """Warn of parameters in which `mlflow run` has recorded a password before the command began."""
    names = [name for name, value in run.data.params.items() if masked_address(value) != value]
    if names:
        logger.warning(
            "MLflow has recorded a password in the parameter %s of the run %s, and cannot change "
            "it: change the password, and give it as '${oc.env:NAME}' instead",
            ", ".join(names),
            run.info.run_id,
        )


def _client() -> MlflowClient:
    runs.connect()
    return MlflowClient()


def _is_unused(run: Run, command: str) -> bool:
    """Return whether `mlflow run` made the run for the command, which has left it alone."""
    ours = run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT) == command
    # The run of a command that uses it has ended by now, unless other processes use it, too.
    running = run.info.status == RunStatus.to_string(RunStatus.RUNNING)
    used = run.data.metrics or lineage.COMMIT_TAG in run.data.tags
    return ours and running and not used
