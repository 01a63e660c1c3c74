"""Tables for terminals and for files."""

import io
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

_PLAIN = 80  # columns of a table that does not go to a terminal
_NAME = 28  # columns up to which the first cell of a row is not wrapped
_WIDEST = 120  # columns that a table uses of a wider terminal


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are padded to even width.

    Args:
        header: Name of each column.
        rows: Cells of each row, as many as there are columns.
    """
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def as_json(value: Any) -> str:
    """Return data as JSON, for programs that read what a command prints.

    Args:
        value: Mappings, sequences, strings, numbers and None. Numbers that are not finite, which
            JSON does not have, become null.
    """
    return json.dumps(_finite(value), indent=2, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def terminal(
    header: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO, style: str = ""
) -> str:
    """Return a table whose cells are wrapped to the width of a terminal.

    Args:
        header: Name of each column.
        rows: Cells of each row, as many as there are columns.
        stream: Where the table will be written. If that is no terminal, the table is plain text
            of at most 80 columns.
        style: Color of the first column on a terminal, such as "red".
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    live = stream.isatty()
    width = min(shutil.get_terminal_size().columns, _WIDEST) if live else _PLAIN
    cells = [tuple(row) for row in rows]
    longest = [
        max(len(line) for cell in column for line in cell.splitlines() or [""])
        for column in zip(header, *cells, strict=True)
    ]
    word = max(len(part) for row in [header, *cells] for part in [*row[0].split(), ""])
    fits = sum(longest) + 3 * len(header) + 1 <= width
    table = Table(box=box.MARKDOWN)
    for number, name in enumerate(header):
        # Names and IDs in the first column are read, and looked for, as a whole.
        fixed = None if fits or number else min(max(min(longest[0], _NAME), word), width // 2)
        table.add_column(
            Text(name), overflow="fold", width=fixed, style=style if live and not number else None
        )
    for row in cells:
        table.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=width, force_terminal=live, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
