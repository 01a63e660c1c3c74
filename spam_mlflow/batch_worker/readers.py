"""Reading a part of a file into rows, a thousand at a time."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .compression import DamagedFileError, Unpacked
from .folders import is_of_storage
from .jobs import InputFile, Job, Part
from .records import Layout, records, split_lines
from .rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 1024
"""Rows that are scored together: more need more memory and no less time."""

_BAD_BYTES = re.compile(r"[\ud800-\udfff]")  # what stands for bytes that are not in the encoding
_OTHER_ENCODING = "not in the encoding of the file"
_NO_OBJECT = "no JSON object"


class UnreadablePartError(Exception):
    """A part of a file that is damaged; the other parts can be scored."""


class Reader:
    """Reads the parts of a job's files.

    Args:
        job: The job.
    """

    def __init__(self, job: Job) -> None:
        import pyarrow as pa

        self._job = job
        self._types = pa.ipc.read_schema(pa.py_buffer(job.types))
        self._parquet: _ParquetRows | None = None
        self._unpacked: tuple[int, Unpacked] | None = None

    def read(self, part: Part) -> Iterator[Rows]:
        """Yield the rows of a part.

        Raises:
            UnreadablePartError: If the file is damaged there.
            OSError: If the file cannot be read at all.
        """
        file = self._job.files[part.file]
        if file.form == "parquet":
            yield from self._parquet_rows(file, part)
            return
        content = self._content(file, part)
        lines = split_lines(content.decode(file.encoding, "surrogateescape"), file.line_end)
        read = self._delimited if file.form == "delimited" else self._json
        found = read(file, lines, part.row)
        while rows := list(itertools.islice(found, AT_ONCE)):
            yield self._rows(file, rows)

    def _content(self, file: InputFile, part: Part) -> bytes:
        """Return a part of a text file."""
        if file.compression:
            content = self._unpacked_content(file, part)
        else:
            with self._job.source.open(file.path) as stream:
                stream.seek(part.start)
                content = bytes(stream.read(part.length))
        if len(content) < part.length:
            raise OSError(f"{file.name} has changed since this call began")
        return content

    def _unpacked_content(self, file: InputFile, part: Part) -> bytes:
        # The file stays open: most parts follow another one of it, so that less is unpacked again.
        number, unpacked = self._unpacked or (-1, None)
        self._unpacked = None  # after an error, it would be in the middle of something
        if unpacked is None or number != part.file:
            unpacked = Unpacked(self._job.source.open(file.path), file.compression)
        try:
            unpacked.seek(part.start)
            content = unpacked.read(part.length)
        except DamagedFileError:  # it was not when it was divided into parts
            return b""
        self._unpacked = part.file, unpacked
        return content

    def _delimited(
        self, file: InputFile, lines: Sequence[str], first: int
    ) -> Iterator["tuple[int, Any, Sequence[Any], str]"]:
        """Yield number, text, other cells and problem of each row."""
        layout, at, others = delimited_layout(file.columns, self._job)
        for record in records(lines, file.dialect, layout):
            number, fields = first + record.line, record.fields
            problem = record.problem or _wrong_bytes(fields)
            if problem:
                whole = "".join(lines[record.line : record.line + record.lines])
                yield number, whole.rstrip("\r\n"), [None] * len(others), problem
            else:
                cells = [fields[i] if i < len(fields) else None for i in others]
                yield number, fields[at], cells, ""

    def _json(
        self, file: InputFile, lines: Sequence[str], first: int
    ) -> Iterator["tuple[int, Any, Sequence[Any], str]"]:
        """Yield number, text, other cells and problem of each row."""
        text_column, others = self._job.text_column, _others(self._job)
        for number, line in enumerate(lines, first):
            if line.isspace():
                continue
            entry, problem = json_object(line)
            problem = problem or _missing(entry, text_column)
            text = line.rstrip("\r\n") if problem else entry[text_column]
            yield number, text, [_cell(entry.get(name)) for name in others], problem

    def _rows(self, file: InputFile, rows: "list[tuple[int, Any, Sequence[Any], str]]") -> Rows:
        import pyarrow as pa

        numbers = [row[0] for row in rows]
        columns = zip(*(row[2] for row in rows), strict=True)
        arrays = [pa.array(cells, pa.string()) for cells in columns]
        problems = {i: row[3] for i, row in enumerate(rows) if row[3]}
        texts = [row[1] for row in rows]
        return Rows(numbers, texts, self._with_id(file, numbers, arrays), problems)

    def _with_id(
        self, file: InputFile, numbers: Sequence[int], arrays: "list[pa.Array]"
    ) -> "pa.Table":
        """Return the columns `id` and those that are carried through, in their types."""
        import pyarrow as pa

        if self._job.id_column is None:
            arrays = [pa.array([f"{file.name}:{number}" for number in numbers]), *arrays]
        return pa.table(
            [a.cast(t) for a, t in zip(arrays, self._types.types, strict=True)], schema=self._types
        )

    def _parquet_rows(self, file: InputFile, part: Part) -> Iterator[Rows]:
        import pyarrow as pa

        if self._parquet is None or not self._parquet.can_reach(part):
            self._parquet = _ParquetRows(self._job, part)
        try:
            for start, (texts, *others) in self._parquet.read(part):
                numbers = range(start + 1, start + 1 + len(texts))
                problems = _undecodable(_others(self._job), others)
                yield Rows(numbers, _texts(texts), self._with_id(file, numbers, others), problems)
        except (pa.ArrowException, OSError) as error:
            self._parquet = None
            if is_of_storage(error):
                raise
            raise UnreadablePartError(str(error).splitlines()[0]) from error


class _ParquetRows:
    """The rows of a Parquet file from the row group on that a part begins in.

    A row group can only be read from its beginning, so that a process goes on where its last part
    ended if the next one comes later.

    Args:
        job: The job.
        part: The part that is read first.
    """

    def __init__(self, job: Job, part: Part) -> None:
        from pyarrow.parquet import ParquetFile

        self._file, self._at = part.file, 0
        source = job.source.open(job.files[part.file].path)
        opened = ParquetFile(source, page_checksum_verification=True)
        sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
        first = 0
        while first < len(sizes) - 1 and self._at + sizes[first] <= part.start:
            self._at += sizes[first]
            first += 1
        self._names = [job.text_column, *_others(job)]
        self._rest: pa.RecordBatch | None = None
        # Parts of long texts have few rows, and so must batches.
        at_once = min(AT_ONCE, part.length)
        # Each by itself: a batch of several would be lost where one of them is damaged.
        self._batches = itertools.chain.from_iterable(
            opened.iter_batches(
                at_once, row_groups=[i], columns=list(dict.fromkeys(self._names)), use_threads=False
            )
            for i in range(first, len(sizes))
        )

    def can_reach(self, part: Part) -> bool:
        """Return whether a part lies in this file, after what was read."""
        return self._file == part.file and self._at <= part.start

    def read(self, part: Part) -> "Iterator[tuple[int, list[pa.Array]]]":
        """Yield the columns of a part's rows, each time with the position of the first row."""
        end = part.start + part.length
        while self._at < end:
            batch = next(self._batches) if self._rest is None else self._rest
            skipped = min(max(part.start - self._at, 0), batch.num_rows)
            taken = min(end - self._at, batch.num_rows) - skipped
            rest = batch.slice(skipped + taken)
            self._rest = rest if rest.num_rows else None
            start = self._at + skipped
            self._at = start + taken
            if taken:
                found = batch.slice(skipped, taken)
                yield start, [found.column(name) for name in self._names]


def _texts(column: Any) -> list[Any]:
    """Return the cells of a column of texts; those that are bytes of UTF-8 as strings."""
    import pyarrow as pa

    try:
        cells = column.to_pylist()
    except UnicodeDecodeError:  # some writers put any bytes into a column of strings
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        cells = column.cast(pa.binary()).to_pylist()
    return [_decoded(cell) if cell.__class__ is bytes else cell for cell in cells]


def _decoded(cell: bytes) -> "str | bytes":
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell


def _undecodable(names: Sequence[str], columns: "Sequence[pa.Array]") -> dict[int, str]:
    """Return what is wrong with cells that say that they are UTF-8, by position."""
    import pyarrow as pa

    problems: dict[int, str] = {}
    for name, column in zip(names, columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:  # it does not say which cells
            wrong = (i for i, cell in enumerate(column) if not _is_readable(cell))
            problems |= dict.fromkeys(wrong, f"column {name!r} is not in UTF-8")
    return problems


def _is_readable(cell: Any) -> bool:
    try:
        cell.as_py()
    except UnicodeDecodeError:
        return False
    except Exception:  # it is of a time that Arrow knows, but not Python
        return True
    return True


def delimited_layout(columns: Sequence[str], job: Job) -> tuple[Layout, int, list[int]]:
    """Return how lines are judged, and the positions of the text and of the other columns.

    Args:
        columns: Names of the file's columns, in which those of the job are.
        job: The job.
    """
    at = columns.index(job.text_column)
    others = [columns.index(name) for name in _others(job)]
    needed = max([at, *others[: job.id_column is not None]]) + 1
    return Layout(len(columns), needed), at, others


def _others(job: Job) -> list[str]:
    return [*([job.id_column] if job.id_column else []), *job.columns]


def json_object(line: str) -> tuple[dict[str, Any], str]:
    """Return the object in a line of JSON, and what is wrong with it, "" if nothing."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}, _wrong_bytes([line]) or _NO_OBJECT
    return (entry, _wrong_bytes([line])) if isinstance(entry, dict) else ({}, _NO_OBJECT)


def _missing(entry: dict[str, Any], column: str) -> str:
    return "" if column in entry else f"there is no {column!r}"


def _cell(value: Any) -> str | None:
    """Return a value of JSON as text that can be written."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isascii() else _BAD_BYTES.sub("\ufffd", text)


def _wrong_bytes(cells: Sequence[str]) -> str:
    """Return what is wrong with the characters of some cells, "" if nothing."""
    wrong = any(not cell.isascii() and _BAD_BYTES.search(cell) for cell in cells)
    return _OTHER_ENCODING if wrong else ""
