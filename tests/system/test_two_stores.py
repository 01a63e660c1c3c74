"""A model is read from one S3 store and published to another."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.project import STORE_FILE, Project
from support.servers import S3Server

MODEL = "model_uri=models:/spam-classifier/1"


@pytest.fixture(scope="module")
def on_rclone(
    tmp_path_factory: pytest.TempPathFactory, rclone: S3Server, empty_store: Path
) -> Project:
    """A project with a model whose artifacts lie in a bucket, as the documentation does it."""
    folder = tmp_path_factory.mktemp("on rclone")
    shutil.copy(empty_store, folder)
    project = Project(folder, rclone.credentials)
    here = ("storage=local", f"endpoint_url={rclone.url}", f"bucket={rclone.new_bucket()}")
    done = project.run("bucket", *here)
    assert done.returncode == 0, done.stderr
    store = ("storage=local", f"storage.endpoint_url={rclone.url}")
    done = project.run("main", "data=sample", "train.epochs=1", *store)
    assert done.returncode == 0, done.stderr
    assert project.last_run().info.artifact_uri.startswith("s3://")
    return project


def without_endpoint(project: Project, folder: Path) -> Project:
    """Return a copy of the project whose run says nothing of the store's endpoint."""
    shutil.copy(project.folder / STORE_FILE, folder)
    with sqlite3.connect(folder / STORE_FILE) as database:
        database.execute("UPDATE params SET value = 'None' WHERE key = 'storage.endpoint_url'")
    return Project(folder, project.environment)


def publish(project: Project, target: S3Server) -> dict[str, object]:
    """Publish the model to a new bucket of another store, and return the manifest there."""
    bucket = target.new_bucket()
    there = ("storage=local", f"endpoint_url={target.url}", f"bucket={bucket}")
    done = project.run("publish", MODEL, *there)
    assert done.returncode == 0, done.stderr
    key = "exports/spam-sms/manifest.json"
    body = target.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    manifest: dict[str, object] = json.loads(body)
    return manifest


def test_the_run_says_where_its_model_is(
    on_rclone: Project, moto: S3Server, tmp_path: Path
) -> None:
    manifest = publish(on_rclone, moto)
    assert manifest["source"]["run_id"] == on_rclone.last_run().info.run_id  # type: ignore[index]


def test_the_environment_says_where_the_model_is(
    on_rclone: Project, rclone: S3Server, moto: S3Server, tmp_path: Path
) -> None:
    project = without_endpoint(on_rclone, tmp_path)
    exported = {"MLFLOW_S3_ENDPOINT_URL": rclone.url, **project.environment}
    assert publish(Project(tmp_path, exported), moto)["files"]


def test_the_file_of_the_local_stack_says_where_the_model_is(
    on_rclone: Project, rclone: S3Server, moto: S3Server, tmp_path: Path
) -> None:
    project = without_endpoint(on_rclone, tmp_path)
    (tmp_path / ".stack").mkdir()
    (tmp_path / ".stack" / "s3.env").write_text(f"export MLFLOW_S3_ENDPOINT_URL={rclone.url}\n")
    assert publish(project, moto)["files"]


def test_the_local_stack_is_where_models_are_published_without_an_endpoint(
    on_rclone: Project, rclone: S3Server, tmp_path: Path
) -> None:
    shutil.copy(on_rclone.folder / STORE_FILE, tmp_path)
    (tmp_path / ".stack").mkdir()
    (tmp_path / ".stack" / "s3.env").write_text(f"export MLFLOW_S3_ENDPOINT_URL={rclone.url}\n")
    bucket = f"bucket={rclone.new_bucket()}"
    project = Project(tmp_path, on_rclone.environment)
    for command in (("publish", MODEL), ("pull",)):
        done = project.run(*command, bucket, "storage=local")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "exports" / "spam-sms" / "manifest.json").is_file()
