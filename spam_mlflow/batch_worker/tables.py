"""The output's files: scores as Parquet, CSV or JSONL, and the rows that were rejected."""

import csv
import io
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import formulas
from .jobs import Output
from .rows import Reject

if TYPE_CHECKING:
    import pyarrow as pa

LOW_CONFIDENCE = "low_confidence"
"""Column with the reason why a score means little; null for other texts, and without such."""

SCORES = ("label", "spam_probability", "threshold", "model_version", LOW_CONFIDENCE)
"""Columns that follow the column `id`."""

EXPLANATION = "explanation"
ENDINGS: dict[Output, str] = {"parquet": "parquet", "csv": "csv", "jsonl": "jsonl"}


def schema(types: "pa.Schema", explain: bool) -> "pa.Schema":
    """Return the columns of the output.

    Args:
        types: The column `id` and those that are carried through.
        explain: Whether there are explanations.
    """
    import pyarrow as pa

    kinds = (pa.string(), pa.float64(), pa.float64(), pa.string(), pa.string())
    fields = [pa.field(name, kind) for name, kind in zip(SCORES, kinds, strict=True)]
    if explain:
        part = pa.struct([("feature", pa.string()), ("contribution", pa.float64())])
        fields.append(pa.field(EXPLANATION, pa.list_(part)))
    first, *carried = types
    return pa.schema([first, *fields, *carried])


def encoded(table: "pa.Table", output: Output, safe_csv: bool) -> bytes:
    """Return a table as the content of a file; the same table gives the same bytes.

    Args:
        table: The scores.
        output: Format of the file.
        safe_csv: Write an apostrophe in front of cells of CSV that a spreadsheet would take for
            formulas.
    """
    if output == "parquet":
        return _parquet(table)
    names = table.column_names
    batches = table.to_batches(max_chunksize=1024)
    columns = ([_cells(batch.column(i)) for i in range(len(names))] for batch in batches)
    rows = itertools.chain.from_iterable(zip(*of_batch, strict=True) for of_batch in columns)
    return _csv(names, rows, safe_csv) if output == "csv" else _lines(names, rows)


def _cells(column: "pa.Array") -> list[Any]:
    """Return the cells of a column, with times as text, and null for what cannot be written.

    Arrow knows years after 9999 and any name of a time zone, which Python's times do not.
    """
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = _times_as_text(column)
    elif pa.types.is_nested(column.type):
        column = column.cast(_textual(column.type, "UTC")).cast(_textual(column.type, None))
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_cell(scalar) for scalar in column]


def _times_as_text(column: "pa.Array") -> "pa.Array":
    """Return times or dates as ISO 8601 has them; those of an unknown time zone in UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, zoned = column.type, pa.types.is_timestamp(column.type) and column.type.tz
    plain = (column.view(pa.timestamp(kind.unit)) if zoned else column).cast(pa.string())
    texts = plain
    if zoned:
        try:
            texts = column.cast(pa.string())
        except pa.ArrowInvalid:
            texts = column.cast(pa.timestamp(kind.unit, "UTC")).cast(pa.string())
    # Arrow says so of a year after 32767, unless there is a zone: then it writes any digits.
    beyond = pc.starts_with(plain, "<value out of range")
    return pc.if_else(beyond, pa.scalar(None, pa.string()), texts)


def _textual(kind: "pa.DataType", zone: str | None) -> "pa.DataType":
    """Return a type with strings for the times in it; if `zone` is given, with times in that."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_textual(field.type, zone)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_textual(kind.value_type, zone)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_textual(kind.value_type, zone)))
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return kind
    if zone is None:
        return pa.string()
    zoned = pa.types.is_timestamp(kind) and kind.tz
    return pa.timestamp(kind.unit, zone) if zoned else kind


def _cell(scalar: "pa.Scalar") -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return None


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    repeated = ["label", "model_version", "threshold", LOW_CONFIDENCE]
    parquet.write_table(table, sink, compression="zstd", use_dictionary=repeated)
    return sink.getvalue().to_pybytes()


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]], safe: bool) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    for row in itertools.chain([names], rows):
        cells = map(_csv_cell, row)
        writer.writerow(map(formulas.escaped, cells) if safe else cells)
    return stream.getvalue().encode()


def _lines(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    lines = (_json(dict(zip(names, row, strict=True))) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def _csv_cell(cell: Any) -> Any:
    """Return a cell that is no list or object as it is, bytes as text, others as JSON."""
    if isinstance(cell, bytes):
        return _jsonable(cell)
    return _json(cell) if isinstance(cell, list | dict) else cell


def _json(value: Any) -> str:
    return json.dumps(_jsonable(value), ensure_ascii=False, default=str, allow_nan=False)


def _jsonable(value: Any) -> Any:
    """Return a value as JSON can tell it: bytes as text, and null for NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    return value


def encoded_rejects(rejects: Sequence[Reject]) -> bytes:
    """Return rejected rows as JSONL."""
    lines = (json.dumps(reject._asdict(), ensure_ascii=False) for reject in rejects)
    return "".join(f"{line}\n" for line in lines).encode()
