"""Labels of a file: what they mean, and what is said of those that mean nothing yet."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.own_files import load

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.sources.csv_file import CsvSource
from spam_mlflow.data.sources.labels import LabelMap
from spam_mlflow.errors import UserError


@pytest.mark.parametrize(
    ("ham", "spam", "values"),
    [
        (["ham"], ["spam"], ["Ham", " SPAM "]),
        ([0], [1], ["0.0", "1.0"]),
        ([0], [1], ["0", "1e0"]),
        (["0"], ["1"], ["0.00", "01"]),
        ([0.0], [1.0], ["0", "1"]),
        ([False], [True], ["FALSE", "True"]),
        (["false"], ["true"], [False, True]),
        ([0], [1], [0, 1.0]),
        (["legitimate"], ["smishing"], ["Legitimate", "SMISHING"]),
        (["не спам"], ["СПАМ"], ["Не спам", "спам"]),
    ],
)
def test_labels_are_compared_without_case_and_as_numbers(
    ham: list[Any], spam: list[Any], values: list[Any]
) -> None:
    classes = LabelMap(ham, spam).classes(pd.Series(values, dtype=object), "label")
    assert list(classes) == ["ham", "spam"]


def test_a_truth_value_is_no_number() -> None:
    labels = LabelMap([0], [1])
    assert not labels.is_label("true")
    assert not labels.is_label("nan")


@pytest.mark.parametrize(
    ("ham", "spam", "name"), [(["1"], [1.0], "1"), (["X"], ["x "], "x"), ([True], ["true"], "true")]
)
def test_a_label_with_two_meanings_is_refused(ham: list[Any], spam: list[Any], name: str) -> None:
    with pytest.raises(UserError, match=f"data.ham_labels and data.spam_labels both hold {name}"):
        LabelMap(ham, spam)


def test_a_single_label_needs_no_list(tmp_path: Path) -> None:
    messages = load(tmp_path, "label,text\n0,hi\n1,win\n", ham_labels=0, spam_labels="1")
    assert list(messages.frame["label"]) == ["ham", "spam"]


def rows(**counts: int) -> pd.Series:
    return pd.Series([label for label, count in counts.items() for _ in range(count)])


def test_a_few_rows_with_other_labels_are_rejected() -> None:
    classes = LabelMap(["ham"], ["spam"]).classes(rows(ham=800, spam=195, header=5), "label")
    assert classes.value_counts().to_dict() == {"ham": 800, "spam": 195, "'header'": 5}
    assert classes.iloc[-1] == "'header'"


def test_labels_that_are_none_are_not_counted() -> None:
    cells = pd.concat([rows(ham=8, spam=4), pd.Series([None, "", " ", float("nan")])])
    assert list(LabelMap(["ham"], ["spam"]).classes(cells, "label").iloc[-4:]) == [None] * 4


@pytest.mark.parametrize(
    "counts",
    [
        {"ham": 800, "spam": 189, "other": 11},  # more than 1 % of the rows
        {"ham": 990, "spam": 5, "other": 5},  # few, but as many as there is spam
        {"ham": 990, "other": 5},
    ],
)
def test_other_labels_that_change_the_data_stop_the_job(counts: dict[str, int]) -> None:
    with pytest.raises(UserError, match=rf"'ham' \({counts['ham']}\), .*'other' \("):
        LabelMap(["ham"], ["spam"]).classes(rows(**counts), "kind")
    ignored = LabelMap(["ham"], ["spam"], ["OTHER"]).classes(rows(**counts), "kind")
    assert ignored.iloc[-1] == "'other'"


def test_the_spellings_of_a_public_set_are_one_label() -> None:
    cells = pd.Series(["ham"] * 50 + ["spam", "Spam", "Smishing", "smishing"] * 5)
    with pytest.raises(
        UserError, match=r"'data\.ham_labels=\[ham\]' 'data\.spam_labels=\[spam,Smishing\]'$"
    ):
        LabelMap(["ham"], ["spam"]).classes(cells, "LABEL")
    assert (LabelMap(["ham"], ["spam", "smishing"]).classes(cells, "LABEL") == "spam").sum() == 20


@pytest.mark.parametrize(
    ("ham", "spam"),
    [
        ("0", "1"),
        ("FALSE", "TRUE"),
        ("legitimate", "smishing"),
        ("not spam", "spam!"),
        ("it's ham", 'a "b"'),
        ("null", "x,y"),
    ],
)
def test_the_overrides_in_the_message_map_the_labels(ham: str, spam: str) -> None:
    """They are read as the shell and the command line read them."""
    cells = pd.Series([ham, spam, ham])
    with pytest.raises(UserError) as error:
        LabelMap(["h"], ["s"]).classes(cells, "label")
    words = shlex.split(str(error.value).partition(". Give ")[2].replace(", or the other", " "))
    given = [word for word in words if word.startswith("data.")]
    cfg = compose("main", ["data=csv", "data.path=x", *given])
    source = validate("main", cfg).data
    assert isinstance(source, CsvSource)
    named = LabelMap(source.ham_labels, source.spam_labels, source.ignored_labels)
    assert named.classes(cells, "label").notna().all()


def test_a_column_that_holds_no_labels_is_called_so() -> None:
    texts = pd.Series([f"text {number}" for number in range(100)])
    with pytest.raises(UserError, match=r"and 90 others\. Is it the column with the labels\?"):
        LabelMap(["ham"], ["spam"]).classes(texts, "text")
