"""How the fields of a text are separated and quoted: as asked for, else found out."""

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from spam_mlflow.batch_worker.records import Dialect, Layout, Record, records, swallows
from spam_mlflow.errors import UserError

Quoting = Literal["auto", "quoted", "none"]
Escape = Literal["auto", "doubled", "backslash"]

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}
"""Separators by name; they are tried in this order."""

_NAMES = {character: name for name, character in SEPARATORS.items()}
_SEPARATOR_LINES = 200  # that are read to find the separator
_QUOTING_LINES = 20_000  # that are read to find out about quoting
_HEADER_LINES = 100  # that a header has at most
_EXCEL_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)


def separator(name: str, key: str = "data.separator") -> str | None:
    r"""Return the character that a key such as `data.separator` names, None for "auto".

    Args:
        name: "auto", a name from `SEPARATORS`, "\t", or the character itself.
        key: Of the configuration, for the error.

    Raises:
        UserError: If it is something else.
    """
    if name == "auto":
        return None
    character = SEPARATORS.get(name, "\t" if name == "\\t" else name)
    if len(character) != 1 or character in "\r\n\"'\\":
        raise UserError(f"{key}={name!r} is not auto, {', '.join(SEPARATORS)} or one character")
    return character


def separator_line(lines: Sequence[str]) -> str | None:
    """Return the separator in a first line such as "sep=;", which Excel reads, None without."""
    found = _EXCEL_LINE.fullmatch(lines[0]) if lines else None
    return found[1] if found else None


def first_fields(line: str, separator: str) -> list[str]:
    """Return the fields of a line, read with quoting if its quotation marks pair up."""
    dialect = Dialect(separator)
    try:
        return list(next(dialect.reader(iter([line])), []))
    except csv.Error:
        return dialect.literal(line)


def header(lines: Sequence[str], separator: str, quoting: Quoting) -> tuple[list[str], int]:
    """Return the names in a header, and the number of its lines: a name in quotes may have several.

    Args:
        lines: The lines from the header on.
        separator: Character between two names.
        quoting: Whether names may stand in quotation marks.
    """
    dialect = Dialect(separator)
    reader = dialect.reader(iter(lines[:_HEADER_LINES]))
    fields: list[str] = []
    if quoting != "none":
        with contextlib.suppress(csv.Error):
            fields = next(reader, fields)
    count = reader.line_num
    if fields and not (count > 1 and swallows(lines[:count], dialect, Layout(len(fields), 1))):
        return fields, count
    return first_fields(lines[0], separator), 1


def find_separator(
    lines: Sequence[str], columns: Sequence[str], is_label: Callable[[str], bool]
) -> str:
    """Return the separator: one that yields the columns, labels, and lines of the same width.

    Args:
        lines: The lines, the header first if there is one.
        columns: Names of columns that the header must have; empty if there is no header.
        is_label: Tells whether a field holds one of the labels.
    """

    def quality(character: str) -> tuple[int, int, int]:
        rows = [first_fields(line, character) for line in lines[:_SEPARATOR_LINES]]
        names = header(lines, character, "auto")[0] if columns else []
        found = {name.strip() for name in names}
        width, same = Counter(map(len, rows)).most_common(1)[0]
        labeled = sum(len(row) > 1 and any(map(is_label, row)) for row in rows)
        return len(found & set(columns)), labeled, same if width > 1 else 0

    return max(SEPARATORS.values(), key=quality)


@dataclass(frozen=True)
class _Reading:
    """What a dialect makes of some lines.

    Attributes:
        dialect: The dialect.
        unusable: Number of lines in records that cannot be used.
        misread: Number of records with quotation marks that such a writer would have doubled.
        needed: Number of records that are others without quoting.
    """

    dialect: Dialect
    unusable: int
    misread: int
    needed: int


def find_quoting(
    lines: Sequence[str],
    character: str,
    layout: Layout,
    quoting: Quoting,
    escape: Escape,
    start: int,
    cut: bool = False,
) -> Dialect:
    """Return the dialect that makes the fewest lines unusable.

    Among several, it is that which fewest quotation marks contradict: those within a field, or
    that do not pair up, contradict quoting, and fields that are wholly in them its absence.

    Args:
        lines: The lines.
        character: The separator.
        layout: The columns.
        quoting: What is asked for.
        escape: What is asked for.
        start: Position of the first line after the header.
        cut: Whether the file goes on after the lines.
    """
    sample = lines[start : start + _QUOTING_LINES]
    cut = cut or start + len(sample) < len(lines)
    candidates = list(_candidates("".join(sample), character, quoting, escape))
    if len(candidates) == 1:
        return candidates[0]
    readings = [_reading(sample, dialect, layout, cut) for dialect in candidates]
    quoted = [reading for reading in readings if reading.dialect.quoted]
    needed = min(quoted, key=lambda r: (r.unusable, r.misread)).needed if quoted else 0

    def cost(reading: _Reading) -> tuple[int, int]:
        return reading.unusable, reading.misread if reading.dialect.quoted else needed

    return min(readings, key=cost).dialect


def _candidates(text: str, character: str, quoting: Quoting, escape: Escape) -> Iterator[Dialect]:
    """Yield the dialects that are asked for and differ on a text, the most common first."""
    marks = {"auto": (True, False) if '"' in text else (True,), "quoted": (True,), "none": (False,)}
    escaped = '\\"' in text or f"\\{character}" in text
    slashes = {
        "auto": (False, True) if escaped else (False,),
        "doubled": (False,),
        "backslash": (True,),
    }
    blanks = (False, True) if f'{character} "' in text else (False,)
    for quoted, backslash, skip in product(marks[quoting], slashes[escape], blanks):
        if quoted or not skip:
            yield Dialect(character, quoted, backslash, skip)


def _reading(lines: Sequence[str], dialect: Dialect, layout: Layout, cut: bool) -> _Reading:
    unusable = misread = needed = 0
    for record in _whole_records(lines, dialect, layout, cut):
        unusable += record.lines if record.problem else 0
        line = lines[record.line]
        same = record.lines == 1 and record.fields == dialect.literal(line)
        misread += record.reread or (same and '"' in line)
        needed += not same
    return _Reading(dialect, unusable, misread, needed)


def _whole_records(
    lines: Sequence[str], dialect: Dialect, layout: Layout, cut: bool
) -> Iterator[Record]:
    """Yield the records of some lines, without one that ends after them.

    Args:
        lines: The lines.
        dialect: How they are read.
        layout: The columns.
        cut: Whether there are more lines after them.
    """
    last_mark = max((i for i, line in enumerate(lines) if '"' in line), default=-1) if cut else -1
    for record in records(lines, dialect, layout):
        if record.reread and record.line == last_mark:
            return
        yield record


def described(dialect: Dialect) -> str:
    """Return a dialect in a few words."""
    name = _NAMES.get(dialect.separator, repr(dialect.separator))
    quotes = "quoted" if dialect.quoted else "without quoting"
    slashes = ", with backslashes as escapes" if dialect.backslash else ""
    return f"separated by {name}, {quotes}{slashes}"
