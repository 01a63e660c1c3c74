"""Where runs go, and stores that cannot be used."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.project import STORE_FILE, Project, require_one_line, without_progress

from spam_mlflow.config import paths


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that is started from a folder outside its checkout, which is empty as well."""
    for name in ("checkout", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path / "checkout")
    return Project(tmp_path / "elsewhere", {"MLFLOW_TRACKING_URI": ""})


@pytest.mark.parametrize("uri", ["", "sqlite:///../checkout/mlflow.db"], ids=["default", "given"])
def test_database_and_artifacts_lie_together_wherever_a_job_is_started(
    elsewhere: Project, empty_store: Path, tmp_path: Path, uri: str
) -> None:
    checkout = tmp_path / "checkout"
    if uri:  # of the default, the store is made, too
        (checkout / STORE_FILE).write_bytes(empty_store.read_bytes())
    project = Project(elsewhere.folder, {"MLFLOW_TRACKING_URI": uri})
    for seed in (1,) if uri else (1, 2):  # a second job in the same process
        done = project.run("main", "debug=one_batch", f"seed={seed}")
        assert done.returncode == 0, done.stderr
    assert not list(project.folder.iterdir())
    assert sorted(path.name for path in checkout.iterdir()) == [STORE_FILE, "mlruns"]
    client = MlflowClient(f"sqlite:///{checkout / STORE_FILE}")
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        assert Path(run.info.artifact_uri, "config.yaml").is_relative_to(checkout / "mlruns")
        assert Path(run.info.artifact_uri, "config.yaml").is_file()
    if not uri:
        assert client.get_experiment("0").artifact_location == str(checkout / "mlruns" / "0")


def test_eight_first_jobs_at_once_make_one_database(bare_project: Project) -> None:
    done = bare_project.open_at_once(8)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    runs = bare_project.runs()
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    assert len({run.info.experiment_id for run in runs}) == 1


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Have nothing written to a folder or file; root needs a mount for that."""
    if os.geteuid() != 0:
        path.chmod(0o555)
        yield
        path.chmod(0o755)
        return
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        mounted = subprocess.run(["mount", *options, path, path], check=False, capture_output=True)
        if mounted.returncode:
            pytest.skip("root can mount nothing here, and may write everywhere")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)  # the database may be open


def test_a_database_that_may_not_be_written(project: Project) -> None:
    with read_only(project.folder):
        done = project.run("main", "debug=one_batch", "output_dir=/tmp")
    require_one_line(done, "the database may not be written")
    assert "sqlite3" not in done.stderr.splitlines()[-1]
    assert len(without_progress(done.stderr)) == 1


def test_a_folder_in_which_no_database_can_be_made(bare_project: Project) -> None:
    with read_only(bare_project.folder):
        done = bare_project.run("main", "debug=one_batch")
    require_one_line(done, f"MLFLOW_TRACKING_URI=sqlite:///{bare_project.folder / STORE_FILE} ")
    assert len(without_progress(done.stderr)) == 1


def test_what_is_read_from_a_database_needs_no_permission_to_write(
    trained_project: Project,
) -> None:
    with read_only(trained_project.folder):
        done = trained_project.run("history")
    assert done.returncode == 0, done.stderr


def test_a_folder_for_artifacts_that_may_not_be_written(project: Project) -> None:
    artifacts = project.folder / "mlruns"
    artifacts.mkdir()
    with read_only(artifacts):
        done = project.run("main", "debug=one_batch")
    require_one_line(done, f"{artifacts}/")
    assert "cannot be used" in done.stderr
    assert project.last_run().info.status == "FAILED"
    assert "cannot be used" in project.last_run().data.tags["error"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:////proc/nowhere/x.db", "cannot be opened"),
        ("sqlite:///garbage.db", "file is not a database"),
        ("postgresql://ann:s3cr3t@127.0.0.1:9/x", "connection"),
        ("postgresql://ann:s3cr3t@[x/x", "cannot be opened"),
        ("mssql://ann:s3cr3t@127.0.0.1:9/x", "pyodbc"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named_at_once(
    bare_project: Project, uri: str, reason: str
) -> None:
    (bare_project.folder / "garbage.db").write_text("no database " * 100)
    done = Project(bare_project.folder, {"MLFLOW_TRACKING_URI": uri}).run("history")
    require_one_line(done, "error: the tracking database MLFLOW_TRACKING_URI=")
    assert reason in done.stderr
    assert len(without_progress(done.stderr)) == 1
    assert "s3cr3t" not in done.stderr


@pytest.mark.parametrize("named_by", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_a_deleted_experiment_is_restored_with_the_printed_command(
    project: Project, named_by: str
) -> None:
    number = project.client.create_experiment("own", str(project.folder / "mlruns"))
    project.client.delete_experiment(number)
    value = number if named_by.endswith("ID") else "own"
    inside = Project(project.folder, {named_by: value})
    done = inside.run("main", "debug=one_batch")
    require_one_line(done, "the experiment own was deleted; restore it with `")
    command = done.stderr.split("`")[1]
    subprocess.run(command, shell=True, check=True, cwd="/", env=os.environ, capture_output=True)
    assert project.client.get_experiment(number).lifecycle_stage == "active"
