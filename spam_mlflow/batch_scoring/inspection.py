"""What the files of an input are: their format, encoding, separator and columns."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spam_mlflow.batch_scoring import listing
from spam_mlflow.batch_scoring.listing import Listed
from spam_mlflow.batch_scoring.output_folder import GOES_ON
from spam_mlflow.batch_worker import compression
from spam_mlflow.batch_worker.compression import (
    Compression,
    CutFileError,
    DamagedFileError,
    Unpacked,
)
from spam_mlflow.batch_worker.folders import Folder, is_of_store
from spam_mlflow.batch_worker.jobs import InputFile
from spam_mlflow.batch_worker.readers import json_object
from spam_mlflow.batch_worker.records import Dialect, Layout, line_end, split_lines
from spam_mlflow.data.sources import dialect, encodings, locations, tables
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE = 2**20  # bytes of a text file by which it is judged
_PARQUET = b"PAR1"  # which every file of that kind begins with
_JSON_LINES = 1000  # that are read to see which keys there are
_SHOWN = 200  # characters of the columns' names in an error message
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Columns:
    """The columns that an input must have, and how text files are to be read.

    Attributes:
        text: Name of the column with the texts.
        id: Name of the column that identifies a row; None for none.
        carried: Names of the columns that are carried through.
        header: Whether the first line of a delimited file names the columns.
        encoding: Of text files, as Python names it, or "auto".
        separator: Of delimited files, as `dialect.separator` takes it.
        quoting: Whether their fields may stand in quotation marks, or "auto".
    """

    text: str
    id: str | None
    carried: tuple[str, ...]
    header: bool
    encoding: str
    separator: str
    quoting: dialect.Quoting

    def __post_init__(self) -> None:
        """Raise UserError for a setting that is none, or columns of one name in the output."""
        _require_distinct(self.carried)
        dialect.separator(self.separator, "separator")
        if self.encoding == "auto":
            return
        try:
            suits = "\n".encode(self.encoding) == b"\n"
        except LookupError as error:
            raise UserError(
                f"encoding={self.encoding!r} is no encoding that Python knows; encoding=auto finds "
                "it out"
            ) from error
        if not suits:
            raise UserError(f"encoding={self.encoding!r} is not read; convert the files to UTF-8")

    def missing(self, names: Iterable[str]) -> str:
        """Return which column a file lacks, "" if none.

        Args:
            names: Of the file's columns.
        """
        found = list(names)
        keys = [("text_column", self.text), ("id_column", self.id)]
        keys += [("columns", name) for name in self.carried]
        for key, name in keys:
            if name is not None and name not in found:
                return f"{key}={name!r} is not a column; it has {str(found)[:_SHOWN]}"
        return ""

    def ambiguous(self, names: Sequence[str]) -> str:
        """Return which column is there more than once, "" if none.

        Args:
            names: Of the file's columns.
        """
        for name in [self.text, *self.others]:
            if names.count(name) > 1:
                return f"{names.count(name)} columns are called {name!r}"
        return ""

    @property
    def decisive(self) -> list[str]:
        """The columns without which a line is no record."""
        return [self.text, *([self.id] if self.id else [])]

    @property
    def others(self) -> list[str]:
        """The columns besides the text, that of the IDs first."""
        return [*([self.id] if self.id else []), *self.carried]


def _require_distinct(carried: Sequence[str]) -> None:
    """Raise UserError for carried columns that have one name in the output."""
    given: dict[str, str] = {}
    for column in carried:
        name = output_name(column)
        if name in given:
            what = f"names {column!r} twice"
            if given[name] != column:
                what = (
                    f"names {given[name]!r} and {column!r}, which are both {name!r} in the output"
                )
            raise UserError(f"columns={','.join(carried)} {what}; leave one out")
        given[name] = column


@dataclass(frozen=True)
class Inspected:
    """The files of an input.

    Attributes:
        files: All files; those that cannot be scored have a problem.
        types: Types of the output's column `id` and of those carried through.
    """

    files: tuple[InputFile, ...]
    types: "pa.Schema"


def inspect(source: Folder, listed: Sequence[Listed], columns: Columns) -> Inspected:
    """Look into the files of an input.

    Args:
        source: The folder that they are in.
        listed: The files.
        columns: What they must have.

    Raises:
        UserError: If none of them can be scored, or the store does not give one.
    """
    found = [_inspected(source, entry, columns) for entry in listed]
    for name in columns.others:
        found = _without_odd(found, name)
    files = tuple(file for file, _ in found)
    usable = [schema for file, schema in found if not file.problem]
    if not usable:
        first = files[0]
        others = f", nor can {len(files) - 1:,} others" if len(files) > 1 else ""
        raise UserError(f"{first.name} cannot be scored{others}: {first.problem}")
    return Inspected(files, _types(usable, columns))


def _inspected(
    source: Folder, listed: Listed, columns: Columns
) -> "tuple[InputFile, pa.Schema | None]":
    """Return a file, and its columns' types if it is a Parquet file."""
    import pyarrow as pa

    file = InputFile(listed.name, listed.path, listed.size, "")
    if not listing.is_unicode(listed.path):
        return replace(file, problem="its name is not in UTF-8; rename it"), None
    try:
        file = replace(file, digest=listing.digest(source, listed))
        with source.open(file.path) as stream:
            start = stream.read(_SAMPLE)
        if start.startswith(_PARQUET):
            return _parquet(source, file, columns)
        whole = len(start) == file.size
        compressed = compression.find(start)
        if compressed:
            start, whole = _unpacked(source.open(file.path), compressed)
        return _text_file(replace(file, compression=compressed), start, whole, columns), None
    except DamagedFileError as error:
        return replace(file, problem=f"it is {error}; copy it again"), None
    except (OSError, pa.ArrowException) as error:
        if is_of_store(error):
            # It may pass, and the file would be taken for another one then.
            raise UserError(f"{file.name}: {_words(error)}; {GOES_ON}") from error
        return replace(file, problem=f"it cannot be read ({_words(error)})"), None
    except UserError as error:
        return replace(file, problem=str(error)), None


def _unpacked(stream: Any, compressed: Compression) -> tuple[bytes, bool]:
    """Return the beginning of what a compressed file holds, and whether that is all.

    The whole file is unpacked, since its checksum, which may be at its end, tells whether any of it
    is right. A file that was cut off is taken for right up to there.

    Raises:
        DamagedFileError: If it is damaged, or nothing of it can be unpacked.
        UserError: If it holds a Parquet file, which cannot be read from its beginning.
    """
    with Unpacked(stream, compressed) as unpacked:
        start = unpacked.read(_SAMPLE)
        if start.startswith(_PARQUET):
            raise UserError(f"it is a Parquet file in {compressed}; unpack it")
        whole = True
        with contextlib.suppress(CutFileError):
            while unpacked.read(_SAMPLE):
                whole = False
            return start, whole
        return start, False


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is gone, or a link that leads nowhere"
    words = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(words).splitlines()[0]


def _parquet(
    source: Folder, file: InputFile, columns: Columns
) -> "tuple[InputFile, pa.Schema | None]":
    from pyarrow.parquet import ParquetFile

    schema = ParquetFile(source.open(file.path)).schema_arrow
    problem = columns.missing(schema.names) or columns.ambiguous(schema.names)
    if not problem and not _holds_text(schema.field(columns.text).type):
        kind = schema.field(columns.text).type
        problem = f"text_column={columns.text!r} holds {kind} and no texts"
    return replace(file, form="parquet", columns=tuple(schema.names), problem=problem), schema


def _holds_text(kind: "pa.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return types.is_null(kind) or any(getattr(types, f"is_{name}")(kind) for name in tests)


def _text_file(file: InputFile, content: bytes, whole: bool, columns: Columns) -> InputFile:
    """Return what a file of JSON or of separated fields is.

    Args:
        file: The file.
        content: The beginning of what it holds.
        whole: Whether that is all.
        columns: What it must have.

    Raises:
        UserError: If it is neither.
    """
    if not content.strip():
        raise UserError("it is empty")
    kind = locations.why_no_table(content)
    if kind is not None:
        raise UserError(f"it is {kind}")
    end = line_end(content.decode("latin-1"))
    cut = content if whole else content[: content.rfind(end.encode()) + 1] or content
    encoding = _encoding(cut, columns.encoding)
    file = replace(file, encoding=encoding, line_end=end)
    mark = len(_BYTE_ORDER_MARK.encode()) * content.startswith(_BYTE_ORDER_MARK.encode())
    lines = split_lines(cut[mark:].decode(encoding, "surrogateescape"), end)
    name = file.name.lower()
    for suffix in compression.SUFFIXES:
        name = name.removesuffix(suffix)
    if name.endswith((".jsonl", ".ndjson")) or content[mark:].lstrip().startswith(b"{"):
        return _json_lines(replace(file, form="json", start=mark), lines, columns)
    return _delimited(file, mark, lines, len(content) if whole else None, columns)


def _json_lines(file: InputFile, lines: Sequence[str], columns: Columns) -> InputFile:
    """Return the file, with a problem if none of its first objects has the texts' key."""
    names: dict[str, None] = {}
    for line in lines[:_JSON_LINES]:
        names.update(dict.fromkeys(json_object(line)[0]))
    wanted = replace(columns, id=None, carried=())  # an object may lack what is null
    return replace(file, problem=wanted.missing(names))


def _encoding(content: bytes, asked: str) -> str:
    if asked != "auto":
        return asked
    try:
        found = encodings.detect(content, "")
    except UserError as error:
        raise UserError("it holds no text, but zero bytes") from error
    if found.startswith(("utf-16", "utf-32")):
        raise UserError(f"it is in {found}; convert it to UTF-8")
    return found


def _delimited(
    file: InputFile, mark: int, lines: Sequence[str], size: int | None, columns: Columns
) -> InputFile:
    """Return the file with its dialect and columns.

    Args:
        file: The file.
        mark: Bytes of its byte-order mark.
        lines: Its first lines.
        size: Bytes of all lines; None if these are not all.
        columns: What it must have.

    Raises:
        UserError: If it has no line, or if a setting does not suit it.
    """
    first, excel = tables.beginning(lines)
    if first == len(lines):
        raise UserError("it is empty")
    wanted = [columns.text, *columns.others]
    names = wanted if columns.header else []
    asked = dialect.separator(columns.separator, "separator") or excel
    character = asked or dialect.find_separator(lines[first:], names, lambda _: False)
    if columns.header:
        fields, count = dialect.header(lines[first:], character, columns.quoting)
        found = tables.named(fields, wanted)
    else:
        fields, count = dialect.first_fields(lines[first], character), 0
        found = [str(number + 1) for number in range(len(fields))]
    before = lines[: first + count]
    skipped = mark + sum(len(line.encode(file.encoding, "surrogateescape")) for line in before)
    problem = columns.missing(found)
    needed = 1 if problem else 1 + max(found.index(name) for name in columns.decisive)
    layout = Layout(len(found), needed)
    quoting = dialect.find_quoting(
        lines, character, layout, columns.quoting, "auto", len(before), size is None
    )
    return replace(
        file,
        dialect=Dialect(**vars(quoting)),
        columns=tuple(found),
        start=skipped if size is None else min(skipped, size),
        header_lines=len(before),
        problem=problem,
    )


def _types(schemas: "Sequence[pa.Schema | None]", columns: Columns) -> "pa.Schema":
    """Return the types of `id` and of the carried columns: the files' own where they agree."""
    import pyarrow as pa

    fields: list[Any] = [] if columns.id else [pa.field("id", pa.string())]
    for name in columns.others:
        kinds = {_kind(schema, name) for schema in schemas}
        kind = kinds.pop() if len(kinds) == 1 else pa.string()
        fields.append(pa.field(output_name(name) if fields else "id", kind))
    return pa.schema(fields)


def _without_odd(
    found: "Sequence[tuple[InputFile, pa.Schema | None]]", name: str
) -> "list[tuple[InputFile, pa.Schema | None]]":
    """Return the files, with a problem where a column cannot be written as that of most others.

    Values of different types are written as text, which bytes, lists and objects are not.
    """
    kinds = [None if file.problem else _kind(schema, name) for file, schema in found]
    shown = [str(kind) if kind and _is_odd(kind) else "text or the like" for kind in kinds]
    counts = Counter(what for what, kind in zip(shown, kinds, strict=True) if kind)
    most = max(counts, key=counts.__getitem__, default="")

    def judged(file: InputFile, kind: "pa.DataType | None", what: str) -> InputFile:
        if kind is None or what == most:
            return file
        other = f"is {what[:_SHOWN]}, but {most[:_SHOWN]} in most files"
        problem = f"column {name!r} {other}; score it apart"
        return replace(file, problem=problem)

    each = zip(found, kinds, shown, strict=True)
    return [(judged(file, kind, what), schema) for (file, schema), kind, what in each]


def _is_odd(kind: "pa.DataType") -> bool:
    """Return whether a type holds bytes or is nested."""
    from pyarrow import types

    tests = ("nested", "binary", "large_binary", "binary_view", "fixed_size_binary")
    return any(getattr(types, f"is_{test}")(kind) for test in tests)


def _kind(schema: "pa.Schema | None", name: str) -> "pa.DataType":
    """Return the type of a column; files without types hold strings."""
    import pyarrow as pa

    return _plain(schema.field(name).type) if schema else pa.string()


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """Return the type of a column's values: how they are stored may differ between files."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    texts = ("is_string", "is_large_string", "is_string_view", "is_null")
    return pa.string() if any(getattr(pa.types, test)(kind) for test in texts) else kind


def output_name(column: str) -> str:
    """Return what a carried column is called in the output, whose own columns come first.

    Args:
        column: Its name in the input.
    """
    from spam_mlflow.batch_worker.tables import EXPLANATION, SCORES

    return f"input_{column}" if column in ("id", *SCORES, EXPLANATION) else column
