"""The project as `mlflow run` runs it."""

import shutil
from pathlib import Path

import pytest
import yaml
from support.project import EXPERIMENT, MLFLOW, ROOT, Project

SAMPLE = ROOT / "spam_mlflow" / "data" / "sources" / "sample.csv"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files alone, as a clone has them."""
    target = tmp_path_factory.mktemp("clone") / "a clone"
    target.mkdir()
    for name in ("MLproject", "conda.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, target)
    for name in ("conf", "spam_mlflow"):
        shutil.copytree(ROOT / name, target / name)
    return target


def run_project(project: Project, clone: Path, *arguments: str, manager: str = "local") -> str:
    options = ["--env-manager", manager, "--experiment-name", EXPERIMENT]
    inside = Project(project.folder, {"PYTHONPATH": "", **project.environment})
    done = inside.call(MLFLOW, "run", str(clone), *options, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_main_job_in_an_environment_of_its_own(project: Project, clone: Path) -> None:
    run_project(project, clone, "-P", "epochs=1", "-P", "data=sample", manager="uv")
    require_main_job(project)


def require_main_job(project: Project) -> None:
    """Assert that one training of one epoch is all that the store holds."""
    run = project.last_run()
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "1"
    assert run.data.metrics["test_f1"] > 0.5
    assert len(project.runs()) == 1  # the run that `mlflow run` made, not a second one
    assert project.client.get_model_version("spam-classifier", "1").run_id == run.info.run_id


def test_parameters_reach_the_configuration_as_they_are(project: Project, clone: Path) -> None:
    shell = "$(touch ran) `touch ran`; touch ran"
    (project.folder / shell).mkdir()
    name = 'it\'s = my "file", new.csv'
    shutil.copy(SAMPLE, project.folder / shell / name)
    overrides = 'split.test=0.3 output_dir="it\'s out"'
    arguments = [f"data_dir={project.folder / shell}", f"overrides={overrides}", "data=csv"]
    arguments += ["epochs=1", f"data.path={name}"]
    run_project(project, clone, *(piece for a in arguments for piece in ("-P", a)))
    require_main_job(project)
    run_id = project.last_run().info.run_id
    config = Path(project.client.download_artifacts(run_id, "config.yaml")).read_text()
    assert yaml.safe_load(config)["data_dir"] == str(project.folder / shell)
    assert yaml.safe_load(config)["data"]["path"] == name
    assert yaml.safe_load(config)["output_dir"] == "it's out"
    assert yaml.safe_load(config)["split"]["test"] == 0.3
    assert not list(project.folder.rglob("ran"))
    assert not list(clone.rglob("ran"))


def test_the_run_of_a_command_that_needs_none_says_so(
    trained_project: Project, clone: Path
) -> None:
    printed = run_project(trained_project, clone, "-e", "history")
    assert "succeeded ===" in printed
    run = trained_project.last_run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "history")
    assert run.data.tags["kind"] == "command"


def test_a_failure_inside_the_project_fails_its_run(project: Project, clone: Path) -> None:
    inside = Project(project.folder, {"PYTHONPATH": ""})
    done = inside.call(
        MLFLOW, "run", str(clone), "--env-manager", "local", "-P", "epochs=0", "-P", "data=sample"
    )
    assert done.returncode != 0
    assert "error: train.epochs=0: " in done.stderr
    run = project.last_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("train.epochs=0: ")
