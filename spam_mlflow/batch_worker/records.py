"""Records of a text with separated fields: every line ends up in one, in order, and none is lost.

A stray quotation mark makes a reader of CSV swallow the lines up to the next one. Here, a record
that spans lines which are records by themselves is taken apart again, and a line whose quotation
marks do not pair up is read as it stands.
"""

import contextlib
import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_RECORD_SHARE = 0.9  # of the lines within a record that are records themselves: it is none
_FEWER, _MORE = "fewer fields than columns", "more fields than columns"
_OPEN = "a quotation mark opens a text that does not end"


@dataclass(frozen=True)
class Dialect:
    """How the fields of a line are separated.

    Attributes:
        separator: Character between two fields.
        quoted: Whether fields may stand in quotation marks.
        backslash: Whether a backslash takes the meaning from the character after it.
        skip_blanks: Whether blanks after a separator are no part of the field.
    """

    separator: str
    quoted: bool = True
    backslash: bool = False
    skip_blanks: bool = False

    def reader(self, lines: Iterator[str]) -> Any:
        """Return a `csv.reader`, which raises csv.Error for marks that do not pair up."""
        if self.backslash:
            lines = map(self._kept_backslashes, lines)
        return csv.reader(
            lines,
            delimiter=self.separator,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            escapechar="\\" if self.backslash else None,
            skipinitialspace=self.skip_blanks,
            strict=True,
        )

    def literal(self, line: str) -> list[str]:
        """Return the fields of one line, in which quotation marks have no meaning."""
        return line.rstrip("\r\n").split(self.separator)

    def _kept_backslashes(self, line: str) -> str:
        r"""Return the line with backslashes doubled that csv.reader would drop, as that in "\n"."""
        special = f'\\"\r\n{self.separator}'
        return re.sub(r"\\(.?)", lambda m: m[0] if m[1] and m[1] in special else rf"\\{m[1]}", line)


@dataclass(frozen=True)
class Layout:
    """The columns of a file, by which its lines are judged.

    Attributes:
        width: Number of columns.
        needed: Number of fields without which a line has no text or no label.
        label: Position of the label column, from 0.
        is_label: Tells whether a field holds one of the labels; None where there are no labels.
    """

    width: int
    needed: int
    label: int = 0
    is_label: Callable[[str], bool] | None = None

    def resembles(self, fields: Sequence[str]) -> bool:
        """Return whether a line with these fields is a record by itself."""
        if self.is_label is None:
            # A line with one end of a text in quotation marks is only a part of a record.
            whole = sum(field.count('"') for field in fields) % 2 == 0
            return whole and len(fields) >= self.width and not self.problem(fields)
        return len(fields) >= self.needed and (
            self.is_label(fields[self.label])
            or (len(fields) > self.width and self.is_label(fields[self.label - self.width]))
        )

    def problem(self, fields: Sequence[str]) -> str:
        """Return what is wrong with the number of fields, "" if nothing."""
        if len(fields) < self.needed:
            return _FEWER
        return _MORE if any(field.strip() for field in fields[self.width :]) else ""


class Record(NamedTuple):
    """One record.

    Attributes:
        fields: Its fields.
        line: Position of its first line in the file, from 0.
        lines: Number of its lines.
        problem: Why it is unusable, "" if it is usable.
        reread: Whether its line was read without quoting.
    """

    fields: list[str]
    line: int
    lines: int
    problem: str
    reread: bool = False


def line_end(text: str) -> str:
    r"""Return the last character of each line: \n, or \r if there is no \n."""
    return "\r" if "\r" in text and "\n" not in text else "\n"


def split_lines(text: str, end: str = "") -> list[str]:
    r"""Return the lines, each with \n at its end.

    Args:
        text: The text.
        end: As `line_end` returns it for the whole of which this is a part; "" if it is the whole.
    """
    end = end or line_end(text)
    return [f"{line}\n" for line in text.removesuffix(end).split(end)] if text else []


def records(
    lines: Sequence[str], dialect: Dialect, layout: Layout, start: int = 0
) -> Iterator[Record]:
    """Yield the records of some lines; blank lines are skipped.

    Args:
        lines: The lines, with their ends.
        dialect: How their fields are separated.
        layout: The columns.
        start: Position of the first line that is read.
    """
    position = start
    with _long_fields():
        while position < len(lines):
            for record in _well_formed(lines, dialect, layout, position):
                position = record.line + record.lines
                if record.fields:
                    yield record
            if position < len(lines):
                yield _reread(lines, dialect, layout, position)
                position += 1


def _well_formed(
    lines: Sequence[str], dialect: Dialect, layout: Layout, start: int
) -> Iterator[Record]:
    """Yield records until one whose marks are in the wrong place; a blank line has no fields."""
    reader = dialect.reader(lines[i] for i in range(start, len(lines)))
    position = start
    with contextlib.suppress(csv.Error):
        for fields in reader:
            count = start + reader.line_num - position
            if count > 1 and swallows(lines[position : position + count], dialect, layout):
                return
            blank = count == 1 and not lines[position].strip()
            yield Record([] if blank else fields, position, count, layout.problem(fields))
            position += count


def swallows(lines: Sequence[str], dialect: Dialect, layout: Layout) -> bool:
    """Return whether nearly all lines of a record are records themselves."""
    whole = [line for line in lines if line.strip()]
    alike = sum(layout.resembles(dialect.literal(line)) for line in whole)
    return alike >= _RECORD_SHARE * len(whole)


def _reread(lines: Sequence[str], dialect: Dialect, layout: Layout, position: int) -> Record:
    """Return the record of a line whose quotation marks do not pair up.

    Its text may be the beginning of one that spans lines. Then it is not usable.
    """
    fields = dialect.literal(lines[position])
    following = next((line for line in lines[position + 1 : position + 20] if line.strip()), None)
    ends = following is None or layout.resembles(dialect.literal(following))
    problem = layout.problem(fields) or ("" if ends else _OPEN)
    marked = '"' in lines[position]  # else it holds a carriage return, at which csv stops as well
    return Record(fields, position, 1, problem, reread=marked)


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lift csv's limit of 131,072 characters a field, which is one of the process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
