"""Sweeps: begun by `mlflow run`, killed, begun again, side by side."""

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from mlflow.entities import Run
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError
from support.project import MLFLOW, ROOT, Project, require_one_line

from spam_mlflow.config import compose, overrides, paths
from spam_mlflow.sweep.study_database import StudyDatabase

STUDY = "tested"
EPOCHS = optuna.distributions.IntDistribution(1, 3)
COST = optuna.distributions.CategoricalDistribution([1.0, 0.0])
# A cost of 0 fails; only with 1, epochs are drawn.
SPACE = (
    "search.parameters=["
    "{name: model.cost, type: categorical, choices: [1.0, 0.0]},"
    "{name: train.epochs, type: int, low: 1, high: 3, when: {model.cost: 1.0}}]"
)
SMALL = (
    "sweep",
    "data=sample",
    "search.parameters=[{name: train.epochs, type: int, low: 1, high: 3}]",
)


def study_of(project: Project, name: str = STUDY) -> optuna.Study:
    return optuna.load_study(
        study_name=name, storage=StudyDatabase.in_file(project.folder / "s.db").url
    )


def sweeps_and_trials(project: Project, without: Run | None = None) -> tuple[list[Run], list[Run]]:
    runs = [run for run in project.runs() if not without or run.info.run_id != without.info.run_id]
    trials = [run for run in runs if "trial" in run.data.tags]
    return [run for run in runs if run not in trials], trials


# A sweep as `mlflow run` starts it. Of its trials, three are chosen: a good one, one that cannot
# be trained, and one that six better ones have left behind after its second epoch.


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("swept"))
    study = optuna.create_study(
        study_name=STUDY,
        storage=StudyDatabase.in_file(project.folder / "s.db").url,
        direction="maximize",
    )
    for epochs in (1, 2, 3, 1, 2, 3):
        perfect = create_trial(
            params={"model.cost": 1.0, "train.epochs": epochs},
            distributions={"model.cost": COST, "train.epochs": EPOCHS},
            value=0.5 + epochs / 100,
            intermediate_values={0: 1.0, 1: 1.0, 2: 1.0},
        )
        study.add_trial(perfect)
    for values in (
        {"model.cost": 1.0, "train.epochs": 1},
        {"model.cost": 0.0},
        {"model.cost": 1.0, "train.epochs": 3},
    ):
        study.enqueue_trial(values)
    overrides = f"{SPACE} study={STUDY} study_db={project.folder / 's.db'}"
    done = project.call(
        *(MLFLOW, "run", str(ROOT), "--env-manager", "local", "--experiment-name", "sweeps"),
        *("-e", "sweep", "-P", "trials=9", "-P", "data=sample", "-P", f"overrides={overrides}"),
    )
    assert done.returncode == 0, done.stderr
    return project


def test_trials_are_nested_in_the_run_that_mlflow_made(swept: Project) -> None:
    (parent,), trials = sweeps_and_trials(swept)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.project.entryPoint"] == "sweep"
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.info.experiment_id for run in trials} == {parent.info.experiment_id}
    assert len(trials) == 3


def test_a_trial_that_fails_does_not_end_the_sweep(swept: Project) -> None:
    states = [trial.state.name for trial in study_of(swept).trials[6:]]
    assert states == ["COMPLETE", "FAIL", "PRUNED"]
    trials = {run.data.tags["trial"]: run for run in sweeps_and_trials(swept)[1]}
    assert {n: run.data.tags["trial.state"] for n, run in trials.items()} == {
        "6": "complete",
        "7": "fail",
        "8": "pruned",
    }
    assert {n: run.info.status for n, run in trials.items()} == {
        "6": "FINISHED",
        "7": "FAILED",
        "8": "FINISHED",
    }
    assert trials["7"].data.tags["error"].startswith("model.cost=0.0: ")


def test_a_trial_tells_its_values_and_metrics(swept: Project) -> None:
    trials = {run.data.tags["trial"]: run for run in sweeps_and_trials(swept)[1]}
    complete, failed, pruned = (trials[number] for number in ("6", "7", "8"))
    assert complete.info.run_name == "trial 6: cost=1, epochs=1"
    assert complete.data.params == {"model.cost": "1.0", "train.epochs": "1"}
    assert complete.data.metrics["val_pr_auc"] == study_of(swept).trials[6].value
    assert failed.data.params == {"model.cost": "0.0"}  # no epochs: their condition is not met
    history = swept.client.get_metric_history(pruned.info.run_id, "val_accuracy")
    assert [point.step for point in history] == [1, 2]


def test_the_test_part_is_not_read(swept: Project) -> None:
    (parent,), trials = sweeps_and_trials(swept)
    inputs = swept.client.get_run(parent.info.run_id).inputs
    assert inputs
    assert {entry.dataset.name for entry in inputs.dataset_inputs} == {
        "sample-train",
        "sample-validation",
    }
    assert not [p for p in parent.data.params if p.startswith("rows.test")]
    figures = {name for run in (parent, *trials) for name in run.data.metrics}
    assert not [name for name in figures if name.startswith("test_")]


def test_the_parent_shows_history_importance_and_all_trials(swept: Project) -> None:
    (parent,), _ = sweeps_and_trials(swept)
    run_id = parent.info.run_id
    for picture in ("history", "importance"):
        file = swept.client.download_artifacts(run_id, f"figures/{picture}.png")
        assert Path(file).read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(swept.client.download_artifacts(run_id, "trials.csv"))
    assert list(table["trial"]) == list(range(9))
    assert list(table["state"][6:]) == ["complete", "fail", "pruned"]
    note = parent.data.tags["mlflow.note.content"]
    assert "7 complete, 1 pruned, 1 failed. The test part was not read." in note
    history = swept.client.get_metric_history(run_id, "best_value")
    assert max(point.value for point in history) == study_of(swept).best_value


def test_the_best_parameters_are_a_preset(swept: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (parent,), _ = sweeps_and_trials(swept)
    conf = swept.folder / "conf"
    shutil.copytree(paths.CONF, conf)
    best = swept.client.download_artifacts(parent.info.run_id, "best.yaml")
    shutil.copy(best, conf / "experiment" / "found.yaml")
    monkeypatch.setattr(paths, "CONF", conf)
    monkeypatch.setattr(compose, "CONF", conf)
    cfg = compose.compose("main", ["experiment=found"])
    assert (cfg.model.cost, cfg.train.epochs) == (1.0, 1)


# Killed, and begun again


@pytest.fixture
def preset() -> Iterator[Path]:
    file = ROOT / "conf" / "experiment" / "sweep_under_test.yaml"
    yield file
    file.unlink(missing_ok=True)


def test_a_killed_sweep_goes_on_and_loses_nothing(project: Project, preset: Path) -> None:
    arguments = (*SMALL, f"study={STUDY}", "study_db=s.db", f"save_as={preset.stem}")
    process = project.start(*arguments, "trials=1000")
    try:
        wait_for_trials(project, 3)
        require_one_line(project.run(*arguments, "trials=1000"), "another sweep is working on ")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = study_of(project).trials
    running = [trial.number for trial in before if trial.state == TrialState.RUNNING]
    wanted = len(before) + 1

    done = project.run(*arguments, f"trials={wanted}")
    assert done.returncode == 0, done.stderr
    assert f"Going on with the sweep {STUDY} after {len(before) - len(running)} trials" in (
        done.stderr
    )
    after = study_of(project).trials
    assert [trial.number for trial in after] == list(range(wanted))
    assert all(trial.state.is_finished() for trial in after)
    kept = [t.number for t in before if t.number not in running]
    assert [after[n].datetime_complete for n in kept] == [before[n].datetime_complete for n in kept]
    (parent,), trials = sweeps_and_trials(project)
    assert sorted(int(run.data.tags["trial"]) for run in trials) == list(range(wanted))
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *trials)} == {"FINISHED"}
    assert f"python -m spam_mlflow main experiment={preset.stem}" in done.stderr
    cfg = compose.compose("main", [f"experiment={preset.stem}"])
    assert cfg.train.epochs == study_of(project).best_params["train.epochs"]

    other_data = project.run(*arguments, "seed=1")
    require_one_line(other_data, "was begun on other messages or another split")
    other_objective = project.run(*arguments, "search.objective=val_f1")
    message = "begun with other settings (search.objective=val_pr_auc, here val_f1), so its trials"
    require_one_line(other_objective, message)
    assert project.client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_a_study_of_which_only_the_trials_are_known_needs_the_same_choices(
    project: Project,
) -> None:
    """As one that an earlier version of the project has begun."""
    storage = StudyDatabase.in_file(project.folder / "s.db").url
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    study.add_trial(
        create_trial(params={"model.cost": 1.0}, distributions={"model.cost": COST}, value=0.5)
    )
    space = "search.parameters=[{name: model.cost, type: categorical, choices: [1.0, 2.0]}]"
    done = project.run("sweep", "data=sample", space, f"study={STUDY}", "study_db=s.db")
    require_one_line(done, f"study='{STUDY}' was begun with another search space (Categorical")


def wait_for_trials(project: Project, count: int) -> None:
    """Return when that many trials have begun."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(KeyError, SQLAlchemyError, StorageInternalError):
            if len(study_of(project).trials) >= count:
                return
        time.sleep(0.2)
    pytest.fail("the sweep does not get on")


def test_the_printed_command_trains_on_the_data_of_the_sweep(project: Project) -> None:
    """Pasted into the shell, with all that was not at its default."""
    folder = project.folder / "it's my $data"
    folder.mkdir()
    shutil.copy(ROOT / "spam_mlflow" / "data" / "sources" / "sample.csv", folder / "own.csv")
    data = ("data=csv", "data.path=own.csv", overrides.literal("data_dir", str(folder)))
    varied = ("split.test=0.3", "seed=3", "train.batch_size=64", SMALL[-1])
    done = project.run("sweep", *data, *varied, f"study={STUDY}", "study_db=s.db", "trials=1")
    assert done.returncode == 0, done.stderr
    printed = done.stderr.rpartition("Train with it: ")[2].splitlines()[0]
    pasted = project.call("bash", "-c", printed)
    assert pasted.returncode == 0, pasted.stderr
    run = project.last_run()
    assert run.data.params["data_dir"] == str(folder)
    assert run.data.params["train.batch_size"] == "64"
    (parent,), _ = sweeps_and_trials(project, without=run)
    for name in ("data.digest", "split.name"):
        assert run.data.tags[name] == parent.data.tags[name]
    shared = {name for name in parent.data.params if name.startswith(("split.", "rows.train."))}
    assert {n: run.data.params[n] for n in shared} == {n: parent.data.params[n] for n in shared}


def test_trials_can_run_side_by_side(project: Project) -> None:
    done = project.run(*SMALL, f"study={STUDY}", "study_db=s.db", "trials=3", "jobs=2")
    assert done.returncode == 0, done.stderr
    assert [trial.state for trial in study_of(project).trials] == [TrialState.COMPLETE] * 3
    (parent,), trials = sweeps_and_trials(project)
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert len(trials) == 3
