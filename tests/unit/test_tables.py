"""Tables as a terminal and a file show them."""

import io
import json

import pytest

from spam_mlflow.evaluation import tables

ROWS = [
    ("behavior: invariance: another phone number", "0.0123", "a reason that needs several words"),
    ("short", "1" * 100, "[red]no markup[/red] :smile:"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_a_table_is_plain_and_at_most_80_columns_wide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = tables.terminal(("check", "value", "why"), ROWS, io.StringIO())
    assert max(map(len, table.splitlines())) <= 80
    assert table.isascii()
    assert "\x1b" not in table
    assert table.replace("|", "").split().count("1" * 100) == 0  # it is broken, not cut off
    assert table.count("1") == 101
    assert "[red]no" in table
    assert ":smile:" in table
    assert "invariance:" in table
    wide = tables.terminal(("", "", ""), [("n" * 28, "v " * 40, "w " * 40)], io.StringIO())
    assert "n" * 28 in wide
    assert (wide.count("v"), wide.count("w")) == (40, 40)
    assert max(map(len, wide.splitlines())) <= 80


def test_color_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    header, rows = ("check", "value"), [("a check", "0.1")]
    assert "\x1b[31ma check" in tables.terminal(header, rows, Terminal(), "red")
    assert "\x1b" not in tables.terminal(header, rows, io.StringIO(), "red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in tables.terminal(header, rows, Terminal(), "red")


def test_json_has_null_for_what_is_no_number() -> None:
    text = tables.as_json({"f1": float("nan"), "rows": [(1, float("inf"))], "name": "é"})
    assert json.loads(text) == {"f1": None, "rows": [[1, None]], "name": "é"}


def test_on_a_terminal_a_table_is_as_wide_as_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, widest in (("60", 60), ("100", 100), ("300", 120)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = tables.terminal(("check", "value", "why"), ROWS, Terminal()).splitlines()
        assert widest - 10 <= len(lines[1]) <= widest
