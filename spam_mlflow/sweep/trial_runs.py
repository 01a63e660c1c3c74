"""The nested runs of trials."""

import os
import platform
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Run

from spam_mlflow.config.schema import Value
from spam_mlflow.sweep.study import Outcome
from spam_mlflow.tracking import run_logging, run_names

STATE_TAG = "trial.state"
"""Tag of a trial's run: complete, pruned, fail or lost."""

PROCESS_TAG = "trial.process"
"""Tag of a trial's run: the machine that it runs on, and the process that has begun it."""

_NUMBER_TAG = "trial"
_LOST = "lost"


def open_run(
    client: MlflowClient, parent: str, experiment: str, number: int, values: Mapping[str, Value]
) -> str:
    """Return the ID of a trial's run, which is created if it does not exist yet.

    Args:
        client: Client of the tracking store.
        parent: ID of the run that it is nested in.
        experiment: ID of their experiment.
        number: Number of the trial.
        values: The trial's values by key.
    """
    # The run is searched in MLflow: a process may be killed before it can store it in the trial.
    known = _find(client, parent, experiment, number)
    # The fluent interface would take the project's own run under `mlflow run`.
    name = f"trial {number}: {run_names.cut(run_names.short_values(values))}"
    tags = _tags(parent, number)
    run = known or client.create_run(experiment, tags=tags, run_name=name)
    run_id = str(run.info.run_id)
    if known:
        client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, PROCESS_TAG, f"{platform.node()}:{os.getpid()}")
    run_logging.log_parameters_of(client, run_id, values)
    return run_id


def close(client: MlflowClient, run_id: str, outcome: Outcome) -> None:
    """Close the run of a trial that has ended."""
    client.set_tag(run_id, STATE_TAG, outcome.state.lower())
    if outcome.error is not None:
        run_logging.log_error_of(client, run_id, outcome.error)
    client.set_terminated(run_id, "FAILED" if outcome.state == "FAIL" else "FINISHED")


def close_lost(client: MlflowClient, parent: str, number: int) -> None:
    """Close the run of a trial whose process was lost, if there is one that says otherwise.

    Args:
        client: Client of the tracking store.
        parent: ID of the run that it is nested in.
        number: Number of the trial.
    """
    run = _find(client, parent, client.get_run(parent).info.experiment_id, number)
    if run is None or (run.data.tags.get(STATE_TAG), run.info.status) == (_LOST, "KILLED"):
        return
    client.set_tag(run.info.run_id, STATE_TAG, _LOST)
    run_logging.log_error_of(client, run.info.run_id, "its process was lost, or gave it up")
    client.set_terminated(run.info.run_id, "KILLED")


def _find(client: MlflowClient, parent: str, experiment: str, number: int) -> Run | None:
    ours = " and ".join(f"tags.`{k}` = '{value}'" for k, value in _tags(parent, number).items())
    found = client.search_runs([experiment], ours)
    return found[0] if found else None


def _tags(parent: str, number: int) -> dict[str, str]:
    return {"mlflow.parentRunId": parent, _NUMBER_TAG: str(number)}
