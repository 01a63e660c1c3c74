"""Overrides as they are given: split, quoted, taken as they are."""

from pathlib import Path

import pytest

from spam_mlflow.config.compose import compose, literal, split_overrides
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
