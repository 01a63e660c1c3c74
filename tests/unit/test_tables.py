"""Tables as a terminal and a file show them."""

import io

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


def test_on_a_terminal_a_table_is_as_wide_as_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, widest in (("60", 60), ("100", 100), ("300", 120)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = tables.terminal(("check", "value", "why"), ROWS, Terminal()).splitlines()
        assert widest - 10 <= len(lines[1]) <= widest
