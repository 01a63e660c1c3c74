"""Sweeps by several processes on one study, in a real PostgreSQL database."""

import contextlib
import os
import signal
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
import pytest
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection
from support import in_process
from support.processes import ready_processes
from support.project import Done, Project, require_one_line
from support.servers import new_database

from scripts.stack import Stack
from spam_mlflow.jobs import sweep as sweep_job
from spam_mlflow.sweep import shared_study
from spam_mlflow.sweep import study as studies
from spam_mlflow.sweep.study import Outcome
from spam_mlflow.sweep.study_database import StudyDatabase

PROCESSES, TRIALS, STUDY = 3, 4, "shared"
QUICK = ("data=sample", "train.obfuscated_fraction=0", "train.padded_fraction=0")
RUNNING = "tags.`trial.process` LIKE '%:%' and attributes.status = 'RUNNING'"
SPACE = "search.parameters=[{name: model.cost, type: float, low: 0.5, high: 1.5}]"


@dataclass(frozen=True)
class Shared:
    """What a sweep by several processes has left, one of which was killed during a trial."""

    project: Project
    database: str
    killed: int
    trials: list[FrozenTrial]
    parents: list[Run]
    runs: dict[int, Run]
    outputs: list[str]


def sweep(database: str, *arguments: str) -> tuple[str, ...]:
    fixed = f"study={STUDY}", f"study_db={database}", f"trials={TRIALS}", "lost_after=4"
    return ("sweep", *QUICK, SPACE, *fixed, *arguments)


def trials_of(database: str) -> list[FrozenTrial]:
    with StudyDatabase.of(database).storage() as storage:
        return optuna.load_study(study_name=STUDY, storage=storage).trials


def kill_one_in_a_trial(project: Project, database: str, ended: "dict[int, Future[Done]]") -> int:
    """Kill the first process that is seen to run a trial, and return the trial's number.

    Args:
        project: The processes' project.
        database: That of their study.
        ended: What the processes return, by their IDs.
    """
    while not all(future.done() for future in ended.values()):
        experiments = [e.experiment_id for e in project.client.search_experiments()]
        for run in project.client.search_runs(experiments, RUNNING):
            pid = int(run.data.tags["trial.process"].rpartition(":")[2])
            os.kill(pid, signal.SIGSTOP)
            number = int(run.data.tags["trial"])
            if trials_of(database)[number].state == TrialState.RUNNING:
                os.kill(pid, signal.SIGKILL)
                assert isinstance(ended.pop(pid).exception(), BrokenProcessPool)
                return number
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    pytest.fail(f"no process was seen in a trial: {[f.result() for f in ended.values()]}")


@pytest.fixture(scope="module")
def shared(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    project = Project(folder, stack.state.client_environment())
    database = new_database(stack, "studies")
    others = {run.info.run_id for run in project.runs()}
    with contextlib.ExitStack() as pools:
        ready = [pools.enter_context(ready_processes(1)) for _ in range(PROCESSES)]
        pids = [process.submit(os.getpid).result() for process in ready]
        ended = {
            pid: process.submit(in_process.run, sweep(database), folder, project.env())
            for pid, process in zip(pids, ready, strict=True)
        }
        killed = kill_one_in_a_trial(project, database, ended)
        done = [future.result() for future in ended.values()]
    assert [process.returncode for process in done] == [0] * (PROCESSES - 1), done
    runs = [run for run in project.runs() if run.info.run_id not in others]
    trials = {int(run.data.tags["trial"]): run for run in runs if "trial" in run.data.tags}
    parents = [run for run in runs if "trial" not in run.data.tags]
    outputs = [process.stderr for process in done]
    return Shared(project, database, killed, trials_of(database), parents, trials, outputs)


def test_the_trial_of_a_killed_process_is_run_again_and_each_counts_once(shared: Shared) -> None:
    lost = shared.trials[shared.killed]
    (again,) = [t for t in shared.trials if t.system_attrs.get("failed_trial") == lost.number]
    assert lost.state == TrialState.FAIL
    assert again.params == lost.params
    complete = [trial.number for trial in shared.trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == TRIALS
    assert sorted([*complete, lost.number]) == [trial.number for trial in shared.trials]
    states = {number: run.data.tags["trial.state"] for number, run in shared.runs.items()}
    assert states == dict.fromkeys(complete, "complete") | {lost.number: "lost"}
    statuses = {number: run.info.status for number, run in shared.runs.items()}
    assert statuses == dict.fromkeys(complete, "FINISHED") | {lost.number: "KILLED"}


def test_processes_that_start_together_make_one_parent_run(shared: Shared) -> None:
    (parent,) = shared.parents
    assert {run.data.tags["mlflow.parentRunId"] for run in shared.runs.values()} == {
        parent.info.run_id
    }
    assert len({run.data.tags["trial.process"] for run in shared.runs.values()}) > 1


def test_processes_draw_different_values(shared: Shared) -> None:
    drawn = [t.params["model.cost"] for t in shared.trials if t.number != shared.killed]
    assert len(set(drawn)) == len(drawn)


def test_the_last_process_concludes_for_all(shared: Shared) -> None:
    (parent,) = shared.parents
    assert parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    assert f"{TRIALS} complete, 0 pruned, 0 failed; 1 lost and run again." in note
    client = shared.project.client
    file = client.download_artifacts(parent.info.run_id, "trials.csv", str(shared.project.folder))
    table = pd.read_csv(file)
    assert list(table["state"] == "lost") == [t.number == shared.killed for t in shared.trials]
    files = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert files == {"best.yaml", "config.yaml", "figures", "trials.csv"}
    for output in shared.outputs:
        assert f"Best of {TRIALS} trials of the sweep {STUDY}" in output


def test_the_databases_password_is_found_nowhere(shared: Shared, stack: Stack) -> None:
    (parent,) = shared.parents
    client, folder = shared.project.client, shared.project.folder
    config = client.download_artifacts(parent.info.run_id, "config.yaml", str(folder))
    assert "study_db: postgresql://***@127.0.0.1:" in Path(config).read_text()
    recorded = [str(run.data) for run in (parent, *shared.runs.values())]
    written = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    for text in (*shared.outputs, *recorded, *written):
        assert stack.state.database_password not in text


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("/studies", "/nothing", 'database "nothing" does not exist'),
        ("mlflow:", "mlflow:not", 'password authentication failed for user "mlflow"'),
        ("/studies", "/mlflow", "has the tables of another program, such as MLflow"),
    ],
)
def test_a_database_that_is_not_for_studies(
    shared: Shared, stack: Stack, before: str, after: str, message: str
) -> None:
    done = shared.project.run(*sweep(shared.database.replace(before, after)))
    require_one_line(done, message)
    assert stack.state.database_password not in done.stderr


def test_a_process_that_logs_elsewhere_is_refused(shared: Shared, project: Project) -> None:
    (parent,) = shared.parents
    done = project.run(*sweep(shared.database))
    require_one_line(done, f"logs to the run {parent.info.run_id}, which sqlite:")


def test_a_finished_sweep_goes_on_with_more_trials(shared: Shared) -> None:
    done = shared.project.run(*sweep(shared.database, f"trials={TRIALS + 1}"))
    assert done.returncode == 0, done.stderr
    assert len(trials_of(shared.database)) == len(shared.trials) + 1
    (parent,) = shared.parents
    later = shared.project.client.get_run(parent.info.run_id)
    assert later.info.status == "FINISHED"
    assert f"{TRIALS + 1} complete" in later.data.tags["mlflow.note.content"]


# What a process that was cut off finds when it is back


def test_a_trial_that_others_count_as_lost_is_dropped_and_run_again_three_times(
    stack: Stack, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = StudyDatabase.of(new_database(stack, "cut_off"))
    with project.store_here(), shared_study.open_study(STUDY, database, False, 60) as study:
        studies.set_parent_run(study.optuna, study.client.create_run("0").info.run_id)
        with study.locked():
            study.join(seed=0, lost_after=60)
        drawn = []
        for _ in range(4):
            trial = next(study.next_trials(1, None))
            assert trial is not None
            drawn.append(trial.suggest_float("x", 0, 1))
            assert study.holds(trial)
            monkeypatch.setenv("PGTZ", "Asia/Tokyo")  # of a process on another machine
            with database.storage(60) as other:
                assert not other._get_stale_trial_ids(study.optuna._study_id)
            study.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            assert not study.tell(trial, Outcome("COMPLETE", 1.0))
        assert len(set(drawn)) == 1
        assert list(study.next_trials(1, None)) == []
        assert study.progress.lost == {0, 1, 2}
        assert [trial.number for trial in study.progress.ended] == [3]


def test_a_process_leaves_the_sweep_to_others_that_have_more_to_do(
    stack: Stack, project: Project
) -> None:
    database = StudyDatabase.of(new_database(stack, "left"))
    with project.store_here(), shared_study.open_study(STUDY, database, False, 60) as study:
        studies.set_parent_run(study.optuna, study.client.create_run("0").info.run_id)
        study.client.set_terminated(study.parent, "FINISHED")  # as `mlflow run` does in the end
        for value in (1.0, 2.0):
            trial = next(study.next_trials(2, None))
            assert trial is not None
            assert study.client.get_run(study.parent).info.status == "RUNNING"
            if value == 2.0:
                with shared_study.open_study(STUDY, database, False, 60) as other:
                    assert next(other.next_trials(2, None)) is None
                    assert next(other.next_trials(1, None), "no more") == "no more"
            assert study.tell(trial, Outcome("COMPLETE", value))
        with study.locked():
            study.set_concluded()  # by another process, while this one waits for the lock
            assert not study.give_up()
            assert study.is_concluded


def test_a_process_ends_although_the_database_hangs(
    stack: Stack,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sweep_job, "_LEAVE_SECONDS", 0.5)
    monkeypatch.setattr(shared_study, "_END_SECONDS", 0.5)
    database = StudyDatabase.of(new_database(stack, "hanging"))
    with contextlib.ExitStack() as held, project.store_here():
        with shared_study.open_study(STUDY, database, False, 4) as study:
            with study.locked():
                study.join(seed=0, lost_after=4)
            studies.set_parent_run(study.optuna, study.client.create_run("0").info.run_id)
            trial = next(study.next_trials(1, None))
            assert trial is not None
            # What waits for a lock is what waits for an answer.
            connection = held.enter_context(study.storage.engine.begin())
            connection.exec_driver_sql("LOCK TABLE trial_heartbeats, study_user_attributes")
            wait_for_locks(connection, 1)
            sweep_job._give_up(study, KeyboardInterrupt())
            wait_for_locks(connection, 2)
            assert "does not answer" in caplog.text
        assert study.heartbeat._thread.is_alive()


def wait_for_locks(connection: Connection, count: int) -> None:
    """Return when that many sessions wait for a lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while connection.exec_driver_sql(waiting).scalar_one() < count:
        time.sleep(0.05)
