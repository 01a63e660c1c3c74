"""Overrides as they are given: split, quoted, taken as they are."""

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.overrides import literal, split_overrides
from spam_mlflow.config.paths import CONF
from spam_mlflow.errors import UserError


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}")
def test_every_configuration_says_what_it_is(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", []),
        ("", []),
        ("model=tutorial_lstm train.batch_size=64", ["model=tutorial_lstm", "train.batch_size=64"]),
        ("  a=1   b=2 ", ["a=1", "b=2"]),
        ("data.path='my file, new.csv' a=1", ["data.path='my file, new.csv'", "a=1"]),
        ("'data.path=my file' a=1", ["data.path=my file", "a=1"]),
        ('a="it\'s" b=[1, 2]', ['a="it\'s"', "b=[1, 2]"]),
        ("a={x: 1, y: 2}", ["a={x: 1, y: 2}"]),
        (
            "a=[{x: [1, 2], y: {z: 3}}, 4] b=[[], {}]",
            ["a=[{x: [1, 2], y: {z: 3}}, 4]", "b=[[], {}]"],
        ),
        ("a=$(touch x) ", ["a=$(touch", "x)"]),
    ],
)
def test_overrides_are_split_at_spaces_outside_quotes(text: str, expected: list[str]) -> None:
    assert split_overrides(text) == expected


@pytest.mark.parametrize("text", ["a='b", "a=[1, 2", 'a="b c', "a=[{x: 1]", "a=]1["])
def test_unbalanced_overrides_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unbalanced"):
        split_overrides(text)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "with space",
        "it's",
        r"back\slash",
        "at the end\\",
        r"it\'s",
        'a "quote"',
        "a,b=[c]{d}",
        "$(x)",
        "\xfcml\xe4ut",
        "null",
    ],
)
def test_a_value_arrives_as_it_is(value: str) -> None:
    # Of all configurations, that of `rollback` is composed the fastest.
    assert compose("rollback", [literal("reason", value)]).reason == value


def test_a_data_dir_arrives_as_it_is() -> None:
    value = r"""it\'s a "quote", a,b=[c]{d} $(x) \xfcml\xe4ut null\\"""
    assert compose("main", [literal("data_dir", value)]).data_dir == value


def test_ids_that_look_like_numbers_stay_what_they_are() -> None:
    given = "runs=[12e45678, 1234,0012,null0,'a b',cnn on uci]"
    wanted = ["12e45678", "1234", "0012", "null0", "a b", "cnn on uci"]
    assert compose("compare", [given]).runs == wanted


# Text is taken as it is written on the command line


@pytest.mark.parametrize(
    "value",
    [
        "it's here",
        "a=b",
        "a, b",
        "a,b",
        "[x]",
        "{x}",
        "012",
        "1e3",
        "true",
        "a b ",
        "x#y; z | $(w) & (v)!",
        'say "hi',
        "'unbalanced",
        "line\nbreak",
        "größer 大",
        "\\t",
        "",
    ],
)
def test_text_is_taken_as_it_is_written(value: str) -> None:
    assert compose("rollback", [f"reason={value}"]).reason == value


@pytest.mark.parametrize(
    ("command", "override", "key"),
    [
        ("main", "data_dir=/data/it's = here, now", "data_dir"),
        ("main", "output_dir=1e3", "output_dir"),
        ("pull", "prefix=it's(1)", "prefix"),
        ("compare", "experiment_name=spam, 'ham' & eggs", "experiment_name"),
        ("compare", "filter=tags.preset = 'tiny' and metrics.test_f1 > 0.9", "filter"),
        ("bucket", "name=a=b", "name"),
        ("resume", "folder=/tmp/a [b] {c}", "folder"),
        ("promote", "override=isn't worse, is it?", "override"),
        ("main", "storage.region=012", "storage.region"),
        ("main", "data.path=it's, mine.csv", "data.path"),
        ("main", "data.separator=;", "data.separator"),
        ("main", "data.separator=,", "data.separator"),
    ],
)
def test_every_text_may_hold_any_characters(command: str, override: str, key: str) -> None:
    more = {"pull": ["bucket=abc"], "bucket": ["bucket=abc"], "promote": ["version=1"]}
    csv = ["data=csv"] if key.startswith("data.") else []
    path = ["data.path=x"] if key == "data.separator" else []
    cfg = compose(command, [*more.get(command, ()), *csv, *path, override])
    assert OmegaConf.select(cfg, key) == override.partition("=")[2]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("'quoted, text'", "quoted, text"),
        ('"it\'s"', "it's"),
        (r"'it\'s'", "it's"),
        (r"a\,b", "a,b"),
        ("to ${alias}", "to champion"),
        ("null", None),
    ],
)
def test_quotes_escapes_and_references_mean_what_they_mean_to_hydra(
    override: str, expected: str | None
) -> None:
    assert compose("rollback", [f"reason={override}"]).reason == expected


def test_what_is_no_text_is_refused_by_its_type() -> None:
    for override in ("train.epochs=it's", "train.epochs=1,2", "train.epochs=[1"):
        with pytest.raises(UserError, match=r"train\.epochs=.*: Input should be a valid integer"):
            validate("main", compose("main", [override]))


@pytest.mark.parametrize(
    "override",
    [
        "hydra.run.dir=/tmp/x",
        "+hydra.x=1",
        "~hydra",
        "hydra/job_logging=none",
        "hydra.searchpath=[file:///tmp]",
        "+data@hydra=csv",
        "data@hydra.run:data=csv",
    ],
)
def test_hydras_own_settings_are_refused(override: str) -> None:
    with pytest.raises(UserError, match="Hydra's own settings have no effect here"):
        compose("main", [override])


@pytest.mark.parametrize("command", ["main", "sweep"])
@pytest.mark.parametrize(
    "override",
    [
        "data={outside}",
        "+data={outside}",
        "++data={outside}",
        "~data={outside}",
        "data=/{outside}",
        "data='{outside}'",
        "data=[sample,{outside}]",
        "data=sample,{outside}",
        "data=../model/cnn",
        "data=_uci_files",
        "data=sample.yaml",
        "data=null",
        "data=5",
        "data=${{oc.env:OUTSIDE}}",
        "data@data={outside}",
        "+data@other={outside}",
        "+base/data={outside}",
        "+nowhere/data={outside}",
        "experiment={outside}",
        "experiment=[fast,{outside}]",
        "+experiment={outside}",
        "storage=../../{outside}",
    ],
)
def test_a_choice_names_no_file_outside_its_group(
    command: str, override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yaml").write_text("# @package _global_\nseed: 12345\n")
    outside = os.path.relpath(tmp_path / "own", CONF / "data")
    monkeypatch.setenv("OUTSIDE", outside)
    with pytest.raises(UserError, match=r"does not exist|is not a config group"):
        compose(command, [override.format(outside=outside)])


def test_several_presets_may_be_chosen() -> None:
    assert compose("main", ["experiment=[fast,sms_only]"]).preset == "sms_only"
    assert compose("main", ["experiment=fast", "experiment=null"]).preset is None


def test_values_of_a_section_may_be_given_together() -> None:
    assert compose("main", ["train={epochs: 3, batch_size: 7}"]).train.batch_size == 7
