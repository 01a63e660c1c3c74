"""Every preset of an experiment and of a quick check runs."""

from pathlib import Path

import pytest
from support.project import Project

from spam_mlflow.config.paths import choices
from spam_mlflow.tracking import run_metrics

SMALL_LSTM = ("model.units=4", "model.embedding=4", "model.max_sequence=20", "train.epochs=1")


def test_without_tracking_nothing_is_logged(bare_project: Project) -> None:
    done = bare_project.run("main", "debug=no_tracking", "output_dir=out")
    assert done.returncode == 0, done.stderr
    assert "Not tracked: test_f1" in done.stderr
    assert {file.name for file in bare_project.folder.iterdir()} == {"out"}
    assert (bare_project.folder / "out" / "keras" / "spam-model.keras").is_file()


def test_the_profiler_says_what_took_the_time(project: Project) -> None:
    done = project.run("main", "debug=profiler")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    profile = Path(project.client.download_artifacts(run.info.run_id, "profile.txt")).read_text()
    assert "cumtime" in profile
    assert "spam_mlflow/training/fit.py" in profile


def test_ten_messages_are_learned_by_heart(project: Project) -> None:
    done = project.run("main", "debug=overfit")
    assert done.returncode == 0, done.stderr
    metrics = project.last_run().data.metrics
    assert metrics["test_accuracy"] == 1
    assert metrics["loss"] < 0.05


@pytest.mark.parametrize("preset", ["fast", "one_batch"])
def test_quick_checks_run_and_register_nothing(project: Project, preset: str) -> None:
    done = project.run("main", f"debug={preset}")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert run.info.status == "FINISHED"
    assert not project.client.search_model_versions()
    history = project.client.get_metric_history(run.info.run_id, "loss")
    assert len(history) == 1


def test_there_is_a_test_for_every_debug_preset() -> None:
    assert choices("debug") == ["fast", "no_tracking", "one_batch", "overfit", "profiler"]


# What a preset asks of UCI's sources, said of the sample's.
ON_SAMPLE = {
    "sms_only": ("sources=[sample_sms]",),
    "youtube_only": ("sources=[sample_comment]",),
    "cross_domain": ("split.held_out=sample_comment",),
}


@pytest.mark.parametrize("preset", [name for name in choices("experiment") if name != "tutorial"])
def test_every_experiment_preset_runs(project: Project, preset: str) -> None:
    done = project.run("main", f"experiment={preset}", "data=sample", *ON_SAMPLE.get(preset, ()))
    assert done.returncode == 0, done.stderr
    assert project.last_run().data.tags["preset"] == preset


def test_the_tutorial_preset_runs_on_its_own_data(project: Project, uci_dir: Path) -> None:
    done = project.run("main", "experiment=tutorial", f"data_dir={uci_dir}", *SMALL_LSTM)
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert (run.data.tags["split.name"], run.data.tags["split.leaky"]) == ("tutorial", "true")
    assert run.data.params["rows.read"] == "7762"
    assert run.data.metrics["val_accuracy"] == run.data.metrics["test_accuracy"]


def test_the_default_model_reaches_its_quality_on_uci(
    project: Project, uci_dir: Path, tmp_path: Path
) -> None:
    done = project.run("main", f"data_dir={uci_dir}")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    with project.store_here():
        metrics = run_metrics.read(run, tmp_path)
    assert run.data.params["rows.read"] == str(5574 + 1956)
    assert metrics["test_f1"] >= 0.94
    assert metrics["test_f1__uci_sms"] >= 0.93
    assert metrics["test_f1__uci_youtube"] >= 0.93
