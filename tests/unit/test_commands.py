"""Commands that messages name: what they do, pasted, is what is meant."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.project import ROOT

from spam_mlflow.config import commands
from spam_mlflow.config.compose import compose, flatten
from spam_mlflow.sweep.search_space import applied, overlay

SHARED = ("data", "split.", "seed", "sources", "train.", "storage.")


@pytest.fixture(autouse=True)
def activated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


@pytest.mark.parametrize(
    "given",
    [
        ["split.test=0.3", "seed=3", "sources=[uci_sms]", "train.epochs=7", "train.ham_fpr=null"],
        ["data=csv", "data.path='it\\'s, mine.csv'", "data.ham_labels=['0','no spam']"],
        ["data=kaggle_sms", 'data_dir="a=b \\"c\\" $HOME `x`"', "data.encoding=utf-8"],
        ["data=tutorial", "split=cross_source", "storage=linode", "storage.region=nl-ams-1"],
        ["data_dir='null'", "data.files.data_dir='12'"],
    ],
)
def test_a_printed_command_composes_what_it_is_printed_for(given: Sequence[str]) -> None:
    wanted = {k: v for k, v in flatten(compose("sweep", given)).items() if k.startswith(SHARED)}
    found = commands.overrides("main", wanted, ("data", "split", "storage"))
    assert len(found) <= len(given)
    program, option, module, name, *pasted = shlex.split(commands.command("main", found))
    assert (program, option, module, name) == ("python", "-m", "spam_mlflow", "main")
    composed = flatten(compose("main", pasted))
    assert {key: composed[key] for key in wanted} == wanted


def test_an_address_that_this_process_has_set_is_part_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = "http://127.0.0.1:4711"
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", address)
    wanted = {"storage.endpoint_url": address}
    found = commands.overrides("resume", wanted, ["storage"], ["storage=local"])
    assert found == ["storage=local", f"storage.endpoint_url={address}"]


def test_overrides_that_are_read_without_quotes_have_none() -> None:
    line = commands.command("bucket", ["bucket=b", commands.override("endpoint_url", "http://a:1")])
    assert line == "python -m spam_mlflow bucket bucket=b endpoint_url=http://a:1"


def test_an_interpreter_that_the_shell_does_not_find_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(commands.command("history"))[0] == sys.executable


def test_where_the_shell_may_be_elsewhere_folder_and_interpreter_are_named() -> None:
    before = commands.NAMES_FOLDER.set(True)
    try:
        start = f"cd {shlex.quote(str(ROOT))} && {shlex.quote(sys.executable)} -m "
        assert commands.command("history").startswith(start)
    finally:
        commands.NAMES_FOLDER.reset(before)


def test_a_preset_has_what_all_trials_had() -> None:
    """Not only what was searched."""
    cfg = compose("sweep", ["model=cnn", "search=cnn", "train.batch_size=64", "data=sample"])
    text = overlay(cfg, {"train.epochs": 3}, "found", "A comment.")
    assert "batch_size: 64" in text
    assert "epochs: 3" in text
    assert "sample" not in text
    assert applied(cfg, {"train.epochs": 3}).train.batch_size == 64
