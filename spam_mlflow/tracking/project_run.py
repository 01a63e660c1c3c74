"""The run that `mlflow run` makes for every command, also for those that need none."""

import contextlib
import os
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from spam_mlflow import error_messages
from spam_mlflow.errors import UserError
from spam_mlflow.tracking import runs


@contextlib.contextmanager
def tidied(command: str) -> Iterator[None]:
    """Delete the run of `mlflow run` after a command that has not used it.

    It is ended first: MLflow sets the status of a run that has not ended when the command returns,
    which fails for a deleted one. If the command fails, the run is kept, with the command as its
    name and the reason in its tag `error`.

    Args:
        command: Such as "history". The run of another entry point is that of a caller.
    """
    try:
        yield
    except BaseException as error:
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # the store may be what has failed
        with contextlib.suppress(Exception):
            _record_failure(command, error)
        raise
    with contextlib.suppress(MlflowException, UserError):
        client, unused = _unused(command)
        if unused is not None:
            client.set_tag(unused.info.run_id, MLFLOW_RUN_NAME, command)
            client.set_terminated(unused.info.run_id)
            client.delete_run(unused.info.run_id)


def _record_failure(command: str, error: BaseException) -> None:
    client, unused = _unused(command)
    if unused is None:
        return
    run_id = unused.info.run_id
    client.set_tag(run_id, MLFLOW_RUN_NAME, command)
    reason = error_messages.user_message(error) or repr(error)
    client.set_tag(run_id, runs.ERROR_TAG, reason[: runs.TAG_LIMIT])
    client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


def _unused(command: str) -> tuple[MlflowClient, Run | None]:
    """Return a client, and the run that `mlflow run` made if the command has left it alone."""
    runs.connect()
    client = MlflowClient()
    found = client.get_run(os.environ["MLFLOW_RUN_ID"])
    ours = found.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT) == command
    # The run of a command that uses it has ended by now.
    running = found.info.status == RunStatus.to_string(RunStatus.RUNNING)
    return client, found if ours and running and not found.data.metrics else None
