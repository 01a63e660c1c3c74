"""Log-in data in addresses, and values of environment variables, are not shown."""

import logging
from collections.abc import Iterator

import pytest

from spam_mlflow import cli
from spam_mlflow.config import masking
from spam_mlflow.config.compose import compose, flatten, to_yaml
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.masking import mask_record, masked, masked_address, remember
from spam_mlflow.error_messages import user_message
from spam_mlflow.errors import UserError
from spam_mlflow.sweep.study_database import StudyDatabase
from spam_mlflow.tracking.store import open_database

SECRET = "it's \\ s3cr3t"


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Let other tests know nothing of the values that these remember."""
    before = dict(masking._values)
    yield
    masking._values.clear()
    masking._values.update(before)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MY_SECRET", SECRET)
    return SECRET


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://ann:pw@host:1/x", "http://***@host:1/x"),
        ("http://ann:p@ss@host", "http://***@host"),
        ("https://token@host/repo.git", "https://***@host/repo.git"),
        ("postgresql://ann:p/w@host/db", "postgresql://***@host/db"),
        ("mysql+pymysql://ann:p/w@x@host/db", "mysql+pymysql://***@host/db"),
        ("see 'http://a:b@c', and x@y", "see 'http://***@c', and x@y"),
        (
            "s3://bucket/me@home http://host:80/me@home",
            "s3://bucket/me@home http://host:80/me@home",
        ),
        ("models:/spam-classifier@champion", "models:/spam-classifier@champion"),
        ("mysql://host/db?user=a&password=b&x=1", "mysql://host/db?user=a&password=***&x=1"),
    ],
)
def test_log_in_data_of_an_address_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://ann:it's \"p w@host/db", "postgresql://***@host/db"),
        ("postgresql://ann:it's/p@host/db", "postgresql://***@host/db"),
        ("mysql://host/db?password=it's p w&x=1", "mysql://host/db?password=***&x=1"),
        ("s3://bucket/a b/me@home", "s3://bucket/a b/me@home"),
        ("for it, see http://a b@c", "for it, see http://a b@c"),
    ],
)
def test_a_password_of_an_address_may_hold_spaces_and_quotes(address: str, expected: str) -> None:
    assert masked_address(address) == expected


@pytest.mark.parametrize("password", ["p@s3cr3t", "p@s3/cr3t"])
def test_a_password_with_an_at_sign_has_to_be_escaped(password: str) -> None:
    address = f"postgresql://ann:{password}@host/db"
    for read, name in (StudyDatabase.of, "study_db"), (open_database, "MLFLOW_TRACKING_URI"):
        with pytest.raises(UserError, match=f"^{name}: this address has an @ .* as %40$"):
            read(address)
    assert StudyDatabase.of(address.replace(password, password.replace("@", "%40"))).file is None


def test_what_is_logged_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    remember("s3cr3t", "${oc.env:X}")
    caplog.handler.addFilter(mask_record)
    try:
        logging.getLogger("x").warning("%s and %s", "s3cr3t", "http://a:b@c")
    finally:
        caplog.handler.filters.clear()
    assert caplog.messages == ["${oc.env:X} and http://***@c"]


def test_an_address_in_the_configuration_is_recorded_without_log_in_data() -> None:
    cfg = compose("main", ["data.files.base_url=https://ann:s3cr3t@mirror/x"])
    assert flatten(cfg)["data.files.base_url"] == "https://***@mirror/x"
    assert "s3cr3t" not in to_yaml(cfg)
    assert validate("main", cfg).data.files.base_url == "https://ann:s3cr3t@mirror/x"


def test_a_refused_address_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pull", "bucket=abc", "endpoint_url=http://me:s3cr3t@host"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: endpoint_url='http://***@host': String should"
    )


@pytest.mark.parametrize(
    ("command", "override"),
    [
        ("main", "data_dir=${oc.env:MY_SECRET}"),
        ("main", "data_dir='/data/${oc.env:MY_SECRET}'"),
        ("main", "data_dir=${oc.env:MY_SECRET,elsewhere}"),
        ("main", "data.fallback=${oc.env:MY_SECRET}"),
        ("main", "data=csv data.path=a.csv data.ham_labels=['${oc.env:MY_SECRET}']"),
        ("main", "storage.endpoint_url=${oc.env:MY_SECRET}"),
        ("resume", "folder=${oc.select:nothing,${oc.env:MY_SECRET}}"),
        ("resume", "folder=${oc.decode:${oc.env:MY_LIST}}"),
    ],
)
def test_a_value_of_the_environment_is_not_shown(
    command: str, override: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_LIST", "[part one, part two]")
    cfg = compose(command, override.split(" "))
    shown = to_yaml(cfg) + str(flatten(cfg))
    try:
        shown += str(validate(command, cfg) and "")
    except UserError as error:
        shown += str(user_message(error))
    assert "${oc." in shown
    for hidden in (secret, repr(secret)[1:-1], "part one", "part two"):
        assert hidden not in shown


def test_the_code_that_needs_it_gets_the_value(secret: str) -> None:
    settings = validate("main", compose("main", ["data_dir='/x/${oc.env:MY_SECRET}'"]))
    assert settings.data_dir == settings.data.files.data_dir == f"/x/{secret}"


def test_a_default_is_no_secret() -> None:
    assert compose("main", ["data_dir=${oc.env:NO_SUCH_VARIABLE,/data}"]).data_dir == "/data"


@pytest.mark.parametrize(
    ("command", "override"),
    [
        ("rollback", "reason='because of ${oc.env:MY_SECRET}'"),
        ("main", "preset=${oc.env:MY_SECRET}"),
        ("main", "model.name=${oc.env:MY_SECRET}"),
        ("bucket", "name=${oc.env:MY_SECRET}"),
        ("compare", "columns=[test_f1,'${oc.env:MY_SECRET}']"),
        ("sweep", "study=${oc.env:MY_SECRET}"),
    ],
)
def test_what_is_recorded_as_text_cannot_come_from_the_environment(
    command: str, override: str, secret: str
) -> None:
    with pytest.raises(UserError, match="reads the environment variable MY_SECRET") as caught:
        compose(command, ["bucket=abc"] * (command == "bucket") + [override])
    assert "s3cr3t" not in str(caught.value)


def test_the_configuration_is_printed_without_it(
    secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["main", "data_dir=${oc.env:MY_SECRET}", "--config"]) == 0
    printed = capsys.readouterr().out
    assert "data_dir: ${oc.env:MY_SECRET}" in printed
    assert "s3cr3t" not in printed


def test_a_defect_is_reported_without_it(
    secret: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AssertionError(f"{secret} and http://a:pw@c")

    monkeypatch.setattr(cli, "_run", broken)
    remember(secret, "${oc.env:MY_SECRET}")
    assert cli.main(["history"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "AssertionError: ${oc.env:MY_SECRET} and http://***@c" in printed
