"""CSV files whose texts are read as they were, and which are safe in a spreadsheet on request."""

import csv
import gzip
import zlib
from pathlib import Path
from typing import IO, Any

import pandas as pd

from spam_mlflow.batch_worker.formulas import escaped, unescaped


def write(table: pd.DataFrame, file: Path, safe: bool) -> None:
    """Write a table as CSV, without its index; compressed where the file is called .gz.

    Args:
        table: The table.
        file: The file.
        safe: Write an apostrophe in front of text that a spreadsheet would take for a formula.

    Raises:
        OSError: If the file cannot be written.
    """
    cells = table.map(escaped) if safe else table
    # All text is quoted, since pandas leaves a carriage return bare, where readers end the row.
    compression: Any = {"method": "gzip", "mtime": 0} if file.suffix == ".gz" else None
    cells.to_csv(file, index=False, quoting=csv.QUOTE_NONNUMERIC, compression=compression)


def read(
    file: "Path | str | IO[bytes]", safe: bool, dtype: type[str] | None = None
) -> pd.DataFrame:
    """Return a table that `write` wrote, with empty cells as empty text.

    Args:
        file: The file.
        safe: As it was written.
        dtype: str to return numbers as text, too.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no CSV file.
    """
    try:
        table = pd.read_csv(file, dtype=dtype, keep_default_na=False)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} is a damaged archive") from error
    return table.map(unescaped) if safe else table
