"""Dividing files into numbered parts, the same ones in every call."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from spam_mlflow.batch_worker.compression import DamagedFileError, Unpacked
from spam_mlflow.batch_worker.folders import Folder
from spam_mlflow.batch_worker.jobs import InputFile, Job, Part
from spam_mlflow.batch_worker.readers import delimited_layout
from spam_mlflow.batch_worker.records import Record, records

_BLOCK = 4 * 2**20  # bytes that are read at once
_LONGEST_LINE = 16 * 2**20  # bytes of a line; no text that is scored needs more
_PART_BYTES = 32 * 2**20  # of a part, so that its memory is bounded
_AHEAD = 1000  # lines after a part that are read to see whether a text in quotes goes on


def parts(job: Job, rows: int) -> Iterator[Part]:
    """Yield the parts of an input, in its order.

    Args:
        job: The job.
        rows: Rows or lines that a part has at most.

    Raises:
        OSError: If a file cannot be read any more.
    """
    found = itertools.chain.from_iterable(
        (replace(part, file=i) for part in _file_parts(job, file, rows))
        for i, file in enumerate(job.files)
    )
    for number, part in enumerate(found):
        yield replace(part, number=number)


def _file_parts(job: Job, file: InputFile, rows: int) -> Iterator[Part]:
    if file.problem:
        yield Part(0, 0, weight=file.size, problem=file.problem)
    elif file.form == "parquet":
        yield from _parquet_parts(job.source, file, rows)
    else:
        yield from _TextParts(job, file, rows).parts()


def _parquet_parts(source: Folder, file: InputFile, rows: int) -> Iterator[Part]:
    from pyarrow.parquet import ParquetFile

    found = ParquetFile(source.open(file.path)).metadata
    size = sum(found.row_group(i).total_byte_size for i in range(found.num_row_groups))
    each = max(size, 1) / max(found.num_rows, 1)
    rows = max(1, min(rows, int(_PART_BYTES / each)))
    for start in range(0, found.num_rows, rows):
        length = min(rows, found.num_rows - start)
        weight = round(file.size * length / found.num_rows)
        yield Part(0, 0, start, length, start + 1, weight)


@dataclass
class _Line:
    """A line of a file.

    Attributes:
        content: Its bytes with its end; none of them if it is too long.
        size: Number of bytes.
    """

    content: bytes
    size: int


class _TextParts:
    """Divides a text file where records end.

    Args:
        job: The job.
        file: The file.
        rows: Lines that a part has at most, unless a record has more.
    """

    def __init__(self, job: Job, file: InputFile, rows: int) -> None:
        self._job, self._file, self._rows = job, file, rows
        self._quoted = file.form == "delimited" and file.dialect.quoted
        self._share = 1.0  # bytes of the file for each byte that it holds
        self._damage = ""

    def parts(self) -> Iterator[Part]:
        """Yield the parts, without their number and file."""
        start, row = self._file.start, self._file.header_lines + 1
        pending: list[_Line] = []
        for lines, last in self._blocks():
            pending += lines
            if last and self._damage and self._quoted:
                pending = pending[: self._torn_from(pending)]
            while end := self._end(pending, last):
                taken, pending = pending[:end], pending[end:]
                size = sum(line.size for line in taken)
                too_long = not taken[0].content
                problem = f"the line has {size:,} bytes" if too_long else ""
                yield Part(0, 0, start, size, row, round(size * self._share), problem)
                start, row = start + size, row + end
        if self._damage:
            unchecked = "without its end, what comes before could not be checked"
            problem = f"from here on, the file is {self._damage}; {unchecked}"
            yield Part(0, 0, start, 0, row, 0, problem)

    def _end(self, lines: Sequence[_Line], last: bool) -> int:
        """Return how many lines make up the next part; 0 if more must be read before."""
        if not lines or not lines[0].content:
            return min(1, len(lines))
        size = 0
        limit = len(lines)
        for i, line in enumerate(lines):
            size += line.size
            if i == self._rows or (i and size > _PART_BYTES) or not line.content:
                limit = i
                break
        if limit == len(lines):
            return limit if last else 0
        if not self._quoted or not any(b'"' in line.content for line in lines[:limit]):
            return limit
        if len(lines) < limit + _AHEAD and not last and lines[limit].content:
            return 0
        return self._record_start(lines[: limit + _AHEAD], limit)

    def _record_start(self, lines: Sequence[_Line], limit: int) -> int:
        """Return the first line from `limit` on in which a record begins, or after all records."""
        texts = self._texts(itertools.takewhile(lambda line: line.content, lines))
        following = limit
        for record in self._records(texts):
            if record.line >= limit:
                return record.line
            following = max(limit, record.line + record.lines)
        return following

    def _torn_from(self, lines: Sequence[_Line]) -> int:
        """Return the line in which a text in quotes begins that would go on after all of them.

        Returns:
            Its position, or the number of lines if no text goes on.
        """
        texts = self._texts(lines)
        *_, last = self._records([*texts, '"\n'])  # it ends a text, or is a record by itself
        return last.line

    def _texts(self, lines: Iterable[_Line]) -> list[str]:
        encoding, end = self._file.encoding, self._file.line_end
        return [
            line.content.decode(encoding, "surrogateescape").removesuffix(end) + "\n"
            for line in lines
        ]

    def _records(self, texts: Sequence[str]) -> Iterator[Record]:
        layout, _, _ = delimited_layout(self._file.columns, self._job)
        return records(texts, self._file.dialect, layout)

    def _blocks(self) -> Iterator[tuple[list[_Line], bool]]:
        """Yield lines, and whether they are the last ones."""
        rest, dropped, mark = b"", 0, self._file.line_end.encode()
        for block in self._content():
            *whole, rest = (rest + block).split(mark)
            lines = [_Line(line + mark, len(line) + 1) for line in whole]
            if dropped and lines:
                lines[0] = _Line(b"", lines[0].size + dropped)
                dropped = 0
            yield [_bounded(line) for line in lines], False
            if len(rest) > _LONGEST_LINE or dropped:
                dropped, rest = dropped + len(rest), b""
        # A line that ends where the file is damaged is torn.
        whole_line = (rest or dropped) and not self._damage
        end = [_Line(b"" if dropped else rest, len(rest) + dropped)] if whole_line else []
        yield [_bounded(line) for line in end], True

    def _content(self) -> Iterator[bytes]:
        """Yield what the file holds after its header, up to where it is damaged."""
        opened = self._job.source.open(self._file.path)
        if not self._file.compression:
            with opened as stream:
                stream.seek(self._file.start)
                while block := stream.read(_BLOCK):
                    yield block
            return
        with Unpacked(opened, self._file.compression) as unpacked:
            try:
                unpacked.seek(self._file.start)
                while block := unpacked.read(_BLOCK):
                    self._share = unpacked.share
                    yield block
            except DamagedFileError as error:
                self._damage = str(error)


def _bounded(line: _Line) -> _Line:
    return _Line(b"", line.size) if line.size > _LONGEST_LINE else line
