"""Tables of files in the formats that people keep messages in: separated fields, JSONL, Parquet."""

import dataclasses
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from spam_mlflow.batch_worker.records import Layout, Record, records, split_lines
from spam_mlflow.data.sources import dialect, encodings
from spam_mlflow.errors import UserError

ROW = "row"
"""Column of `Table.rejected`, and attribute of `Table.rows`: the number of the line, from 1."""

_WIDTH_LINES = 1000  # lines that the number of columns is counted in if there is no header
_SHOWN = 200  # characters of the columns' names in an error message
_NO_OBJECT = "no JSON object"
_OTHER_ENCODING = "not in the encoding of the file"


@dataclass(frozen=True)
class Wanted:
    """The columns that a file must have.

    Attributes:
        text: Name of the column with the texts.
        label: Name of the column with the labels.
        others: Names of further columns by the key that names them, such as "data.source_column".
        is_label: Tells whether a cell holds one of the labels.
    """

    text: str
    label: str
    others: Sequence[tuple[str, str]]
    is_label: Callable[[str], bool]

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return [self.text, self.label, *(name for _, name in self.others)]

    def layout(self, columns: Sequence[str]) -> Layout:
        """Return by what the lines of a file with these columns are judged."""
        text, label = columns.index(self.text), columns.index(self.label)
        return Layout(len(columns), max(text, label) + 1, label, self.is_label)

    def require(self, columns: Sequence[str], name: str, remedy: str = "") -> None:
        """Raise UserError if a column is missing.

        Args:
            columns: Names of the columns that there are.
            name: Name of the file.
            remedy: What else might be wrong, as the end of the message.
        """
        for key, column in [
            ("data.text_column", self.text),
            ("data.label_column", self.label),
            *self.others,
        ]:
            if column not in columns:
                found = str(list(columns))[:_SHOWN]
                raise UserError(
                    f"{key}={column!r} is not a column of {name}; it has {found}, of which "
                    f"{key}=NAME chooses one{remedy}"
                )


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        frame: The usable rows; cells of separated fields are str.
        rows: Number of the line that each row begins in, from 1; shape (rows,).
        lines: Number of lines with content, without the header.
        form: What the file turned out to be, in a few words.
        rejected: Columns `text`, `row` and `reason` of what could not be read.
        reread: Number of rows whose quotation marks do not pair up.
        separator: Character between two fields.
    """

    frame: pd.DataFrame
    rows: Sequence[int]
    lines: int
    form: str
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame)
    reread: int = 0
    separator: str = ","


@dataclass(frozen=True)
class Separated:
    """A text file with a record in each line.

    Attributes:
        header: Whether its first line names the columns; without, they are called "1", "2", ….
        encoding: As for `encodings.decode`.
        separator: As for `dialect.separator`.
        quoting: As for `dialect.find_quoting`.
        escape: As for `dialect.find_quoting`.
    """

    header: bool
    encoding: str
    separator: str
    quoting: dialect.Quoting
    escape: dialect.Escape

    def read(self, content: bytes, wanted: Wanted, name: str) -> Table:
        """Return the table.

        Args:
            content: The file's bytes.
            wanted: The columns that it must have.
            name: The file's name, for messages.

        Raises:
            UserError: If it is empty, no text, or lacks a column.
        """
        text, encoding = encodings.decode(content, self.encoding, name)
        lines = split_lines(text)
        start, excel = beginning(lines)
        if start == len(lines):
            raise UserError(f"data.path={name!r} cannot be read: it is empty")
        asked = dialect.separator(self.separator) or excel
        names = wanted.names if self.header else []
        character = asked or dialect.find_separator(lines[start:], names, wanted.is_label)
        columns, first = self._columns(lines[start:], character, wanted)
        wanted.require(columns, name, self._remedy(lines[start], character, wanted))
        layout = wanted.layout(columns)
        start += first
        found = dialect.find_quoting(lines, character, layout, self.quoting, self.escape, start)
        form = f"{encoding}, {dialect.described(found)}"
        table = _table(list(records(lines, found, layout, start)), lines, columns, form)
        return dataclasses.replace(table, separator=character)

    def _columns(
        self, lines: Sequence[str], character: str, wanted: Wanted
    ) -> tuple[list[str], int]:
        """Return the names of the columns, and the number of the header's lines."""
        if self.header:
            fields, count = dialect.header(lines, character, self.quoting)
            return named(fields, wanted.names), count
        widths = Counter(
            len(dialect.first_fields(line, character)) for line in lines[:_WIDTH_LINES]
        )
        return [str(number + 1) for number in range(widths.most_common(1)[0][0])], 0

    def _remedy(self, line: str, character: str, wanted: Wanted) -> str:
        """Return what to do if the first line names no columns, or the columns have no names."""
        fields = dialect.first_fields(line, character)
        labels = [i + 1 for i, cell in enumerate(fields) if wanted.is_label(cell)]
        if self.header and not labels:
            return ""
        label = labels[0] if labels else 1
        longest = max(range(len(fields)), key=lambda i: (i + 1 != label, len(fields[i]))) + 1
        reason = "; its first line is no header" if self.header else "; name columns by number"
        return f"{reason}: data.header=false data.label_column={label} data.text_column={longest}"


def beginning(lines: Sequence[str]) -> tuple[int, str | None]:
    """Return the position of the first line with content, and the separator that Excel's names."""
    start = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    excel = dialect.separator_line(lines[start : start + 1])
    return start + (excel is not None), excel


def named(fields: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the names of a header's columns, as pandas names those that have none or another's.

    Columns without a name at the end count only if they are wanted, so that the rest of a text that
    was split at its separators is not taken for one of them.
    """
    names: list[str] = []
    for number, cell in enumerate(fields):
        name = cell.strip() or f"Unnamed: {number}"
        names.append(f"{name}.{names.count(name)}" if name in names else name)
    while names and not fields[len(names) - 1].strip() and names[-1] not in wanted:
        names.pop()
    return names


def _table(
    kept: Sequence[Record], lines: Sequence[str], columns: Sequence[str], form: str
) -> Table:
    """Return the table of records, those that cannot be used as rejected rows."""
    judged = [(r, r.problem or _wrong_bytes(r.fields)) for r in kept]
    usable = [record for record, problem in judged if not problem]
    width = len(columns)
    cells = [[*r.fields[:width], *[""] * (width - len(r.fields))] for r in usable]
    rejected = [
        ("".join(lines[r.line : r.line + r.lines]).rstrip("\r\n"), r.line + 1, problem)
        for r, problem in judged
        if problem
    ]
    return Table(
        frame=pd.DataFrame(cells, columns=pd.Index(columns), dtype=str),
        rows=[r.line + 1 for r in usable],
        lines=sum(_filled(lines, r) for r in kept),
        form=form,
        rejected=_rejected(rejected),
        reread=sum(r.reread for r in usable),
    )


def _filled(lines: Sequence[str], record: Record) -> int:
    if record.lines == 1:
        return 1
    return sum(bool(line.strip()) for line in lines[record.line : record.line + record.lines])


def _wrong_bytes(fields: Iterable[object]) -> str:
    """Return what is wrong with the characters of some cells, "" if nothing."""
    cells = (cell for cell in fields if isinstance(cell, str) and not cell.isascii())
    return _OTHER_ENCODING if any(map(encodings.BAD_BYTES.search, cells)) else ""


def _rejected(rows: Sequence[tuple[str, int, str]]) -> pd.DataFrame:
    whole = [(encodings.BAD_BYTES.sub("\ufffd", text), row, why) for text, row, why in rows]
    return pd.DataFrame(whole, columns=pd.Index(["text", ROW, "reason"]))


def json_lines(content: bytes, encoding: str, wanted: Wanted, name: str) -> Table:
    """Return the table of a file with a JSON object in each line.

    Args:
        content: The file's bytes.
        encoding: As for `encodings.decode`.
        wanted: The columns that it must have.
        name: The file's name, for messages.

    Raises:
        UserError: If it is no text, or no object has one of the columns.
    """
    text, found = encodings.decode(content, encoding, name)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    parsed = [(number, line, *_object(line)) for number, line in lines]
    objects = [(number, entry) for number, _, entry, problem in parsed if not problem]
    rejected = [(line, number, problem) for number, line, _, problem in parsed if problem]
    frame = pd.DataFrame([entry for _, entry in objects], dtype=object)
    wanted.require(list(map(str, frame.columns)), name)
    rows = [number for number, _ in objects]
    return Table(frame, rows, len(lines), f"{found}, an object in each line", _rejected(rejected))


def _object(line: str) -> tuple[Mapping[str, object], str]:
    """Return the object in a line of JSON, and what is wrong with it, "" if nothing."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}, _NO_OBJECT
    if not isinstance(entry, dict):
        return {}, _NO_OBJECT
    return entry, _wrong_bytes([*entry, *entry.values()])


def parquet(content: bytes, wanted: Wanted, name: str) -> Table:
    """Return the table of a Parquet file.

    Args:
        content: The file's bytes.
        wanted: The columns that it must have.
        name: The file's name, for messages.

    Raises:
        UserError: If it is damaged or lacks a column.
    """
    import pyarrow.parquet  # slow to import

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
        wanted.require(file.schema_arrow.names, name)
        table = file.read(columns=list(dict.fromkeys(wanted.names)))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"data.path={name!r} is no readable Parquet file: {error}") from error
    frame = table.to_pandas().astype(object)
    return Table(frame, range(1, len(frame) + 1), len(frame), "Parquet")
