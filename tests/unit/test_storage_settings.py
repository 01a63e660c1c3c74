import dataclasses
import os
from pathlib import Path

import pytest
from mlflow.entities import Param, Run, RunData, RunInfo

from spam_mlflow.config.compose import compose, flatten
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import choices
from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.errors import UserError
from spam_mlflow.storage import s3
from spam_mlflow.tracking import runs


def store(command: str, *overrides: str) -> StorageSettings:
    found: StorageSettings = validate(command, compose(command, list(overrides))).store
    return found


@pytest.mark.parametrize("name", choices("storage"))
def test_every_preset_is_valid(name: str) -> None:
    given = store("publish", f"storage={name}", "model_uri=x", "bucket=abc")
    assert given.url is None or "{" not in given.url
    assert given.url == s3.environment(given).get("MLFLOW_S3_ENDPOINT_URL")
    assert given.url is None or s3.client(given).meta.endpoint_url == given.url


def test_the_region_is_part_of_a_preset_endpoint() -> None:
    given = store("pull", "storage=linode", "bucket=abc", "region=nl-ams-1")
    assert given.url == "https://nl-ams-1.linodeobjects.com"


# The local stack


def test_the_local_stack_is_found_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    local = ("storage=local", "bucket=abc")
    assert store("pull", *local).url == "http://127.0.0.1:9000"
    (tmp_path / ".stack").mkdir()
    (tmp_path / ".stack" / "s3.env").write_text(
        "export AWS_ACCESS_KEY_ID='a b'\nexport MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:4711\n"
    )
    assert store("pull", *local).url == "http://127.0.0.1:4711"
    assert store("pull", *local, "endpoint_url=http://other").url == "http://other"
    assert store("pull", "storage=aws", "bucket=abc").url is None
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://exported")
    assert store("pull", *local).url == "http://exported"


def test_a_damaged_file_of_the_stack_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    (tmp_path / ".stack").mkdir()
    (tmp_path / ".stack" / "s3.env").write_text("export A='unbalanced\n")
    assert store("pull", "storage=local", "bucket=abc").url == "http://127.0.0.1:9000"


# Two stores: what is read and what is written


def logged_with(*overrides: str) -> Run:
    """Return a run that has logged its settings of the storage."""
    cfg = compose("main", overrides)
    params = [Param(name, str(value)) for name, value in flatten(cfg).items()]
    info = RunInfo("id", "0", "me", "FINISHED", 0, 0, "active")
    return Run(info, RunData(params=params))


def test_a_run_is_read_from_the_store_that_it_was_logged_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = store("publish", "storage=digitalocean", "model_uri=x", "bucket=abc")
    linode = logged_with("storage=linode", "storage.region=nl-ams-1", "storage.attempts=2")
    found = runs.storage_of(linode, written)
    assert found.url == "https://nl-ams-1.linodeobjects.com"
    assert (found.region, found.addressing_style, found.attempts) == ("nl-ams-1", "virtual", 2)
    assert runs.storage_of(logged_with(), written).url is None
    assert runs.storage_of(Run(linode.info, RunData()), written) == written
    (tmp_path / ".stack").mkdir()
    (tmp_path / ".stack" / "s3.env").write_text("export MLFLOW_S3_ENDPOINT_URL=http://stack:1\n")
    assert runs.storage_of(linode, written) == found
    stack = runs.storage_of(logged_with(), written)
    assert (stack.url, stack.addressing_style) == ("http://stack:1", "path")


@pytest.mark.parametrize(
    ("exported", "expected"),
    [
        (None, ("http://127.0.0.1:9000", "us-east-1", "path")),
        ("http://other", ("http://other", None, None)),
        ("http://127.0.0.1:9000", ("http://127.0.0.1:9000", "us-east-1", "path")),
    ],
)
def test_an_exported_endpoint_keeps_its_own_region_and_style(
    exported: str | None, expected: tuple[str, ...]
) -> None:
    names = ("MLFLOW_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION", "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE")
    given = store("pull", "storage=local", "endpoint_url=http://127.0.0.1:9000", "bucket=abc")
    with pytest.MonkeyPatch.context() as patch:
        for name in s3.environment(dataclasses.replace(given, profile="x")):
            patch.setenv(name, "")  # so that it is restored
            patch.delenv(name)
        if exported:
            patch.setenv("MLFLOW_S3_ENDPOINT_URL", exported)
        s3.configure_mlflow(given)
        assert tuple(os.environ.get(name) for name in names) == expected


def test_credentials_may_come_from_a_profile_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        "[writer]\naws_access_key_id = other\naws_secret_access_key = key\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    named = store("pull", "storage=local", "storage.profile=writer", "bucket=abc")
    assert s3.client(named)._request_signer._credentials.access_key == "other"
    with pytest.raises(UserError, match=r"check AWS_PROFILE, storage\.profile and"):
        s3.client(dataclasses.replace(named, profile="nobody"))
