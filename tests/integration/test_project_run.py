"""The run that `mlflow run` makes: used by commands that log, marked by those that do not."""

import shlex
import time

import pytest
from mlflow.entities import Run
from support.project import ROOT, Project

from spam_mlflow.jobs import history


def made_by_mlflow(project: Project, entry_point: str) -> str:
    """Make a run as `mlflow run` does, and return its ID."""
    client = project.client
    found = client.get_experiment_by_name("projects")
    experiment = found.experiment_id if found else client.create_experiment("projects")
    tags = {"mlflow.project.entryPoint": entry_point}
    return str(client.create_run(experiment, tags=tags, run_name="gifted-crow-12").info.run_id)


def run_in(project: Project, run_id: str, *arguments: str) -> tuple[int, str, Run]:
    """Return exit status and messages of a command in that run, and the run afterwards."""
    inside = Project(project.folder, {"MLFLOW_RUN_ID": run_id})
    done = inside.run(*arguments)
    return done.returncode, done.stderr, project.client.get_run(run_id)


@pytest.mark.parametrize(
    "arguments",
    [
        ("history",),
        ("compare",),
        ("main", "data=sample", "train.epochs=1", "track=false", "register=false"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_run_that_a_command_does_not_use_says_so(
    trained_project: Project, arguments: tuple[str, ...]
) -> None:
    run_id = made_by_mlflow(trained_project, arguments[0])
    status, errors, run = run_in(trained_project, run_id, *arguments)
    assert status == 0, errors
    assert (run.info.status, run.info.run_name) == ("FINISHED", arguments[0])
    assert run.data.tags["kind"] == "command"
    listed = trained_project.run("compare", "experiment_name=projects")
    assert listed.stdout.splitlines()[-1] == "0 of 0 runs, by test_f1"


def test_such_runs_are_deleted_once_mlflow_is_done_with_them(trained_project: Project) -> None:
    """Not at once: MLflow sets a run's status after the command, which fails for a deleted one."""
    client = trained_project.client
    runs = [made_by_mlflow(trained_project, "history") for _ in range(3)]
    assert run_in(trained_project, runs[0], "history")[2].info.lifecycle_stage == "active"
    client.set_terminated(runs[0], end_time=int((time.time() - 700) * 1000))
    assert run_in(trained_project, runs[1], "history")[2].info.lifecycle_stage == "active"
    assert run_in(trained_project, runs[2], "history")[2].info.lifecycle_stage == "active"
    stages = [client.get_run(run_id).info.lifecycle_stage for run_id in runs]
    assert stages == ["deleted", "active", "active"]


def test_a_run_that_a_command_uses_is_kept(trained_project: Project) -> None:
    trained = trained_project.last_run().info.run_id
    run_id = made_by_mlflow(trained_project, "compare")
    arguments = ("compare", f"runs=[{trained}]", "experiment_name=spam-classifier")
    status, errors, run = run_in(trained_project, run_id, *arguments)
    assert status == 0, errors
    assert run.info.status == "FINISHED"
    assert run.data.tags["kind"] == "comparison"


def test_a_failed_command_is_a_failed_run_that_says_why(project: Project) -> None:
    named = f"train one with `cd {shlex.quote(str(ROOT))} && "
    for arguments, reason in (
        (("rollback",), named),
        (("history", "alias=king"), "alias='king'"),
    ):
        run_id = made_by_mlflow(project, arguments[0])
        status, _, run = run_in(project, run_id, *arguments)
        assert status == 1
        assert run.info.status == "FAILED"
        assert run.info.run_name == f"{arguments[0]} (failed)"
        assert reason in run.data.tags["error"]


def test_the_run_of_a_caller_is_left_alone(trained_project: Project) -> None:
    """A project of someone else's may call this one's commands in its own run."""
    run_id = made_by_mlflow(trained_project, "pipeline")
    status, errors, run = run_in(trained_project, run_id, "history")
    assert status == 0, errors
    assert run.info.status == "RUNNING"
    assert "kind" not in run.data.tags


def test_a_defect_is_a_failed_run_and_still_a_defect(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(history, "run", broken)
    run_id = made_by_mlflow(project, "history")
    status, errors, run = run_in(project, run_id, "history")
    assert status == 1
    assert "RuntimeError: a defect" in errors
    assert run.data.tags["error"] == "RuntimeError('a defect')"


def test_a_password_that_mlflow_has_recorded_is_named(trained_project: Project) -> None:
    run_id = made_by_mlflow(trained_project, "history")
    overrides = "study_db=postgresql://ann:s3cr3t@host/db trials=2"
    trained_project.client.log_param(run_id, "overrides", overrides)
    status, errors, _ = run_in(trained_project, run_id, "history")
    assert status == 0
    assert f"recorded a password in the parameter overrides of the run {run_id}" in errors
