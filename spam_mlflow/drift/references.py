"""The reference of a version, among the artifacts of its run."""

import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spam_mlflow.drift.reference import FILE, Reference
from spam_mlflow.error_messages import require_space

DRIFT_TAG = "drift.status"
"""Tag of a version with what was found last."""


def of_run(client: MlflowClient, run_id: str | None) -> Reference | None:
    """Return the reference that a run has logged, None if it has none.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run; None if it is unknown.

    Raises:
        UserError: If it is damaged, or if this machine's disk is full.
    """
    if run_id is None:
        return None
    try:
        if FILE not in {file.path for file in client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
            return Reference.read(Path(client.download_artifacts(run_id, FILE, scratch)))
    except (MlflowException, OSError) as error:
        require_space(error, f"{FILE} of run {run_id}")
        return None
