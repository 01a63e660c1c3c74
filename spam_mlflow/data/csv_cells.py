"""Cells of CSV files that a spreadsheet would take for formulas, and how they are kept as text.

Excel, LibreOffice and others calculate a cell that begins with one of a few characters, even in
quotes, and a message can be written so that this sends data away. With an apostrophe in front they
show it as text. See OWASP, "CSV Injection".
"""

import csv
import gzip
import re
import zlib
from pathlib import Path
from typing import IO, Any

import pandas as pd

# Full-width forms as well, which some versions of Excel take for the narrow ones.
_STARTS = r"=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
# A text that begins with apostrophes before such a character gets one more, so that one is removed
# from every cell that was changed, and from no other.
_FORMULA = re.compile(rf"'*[{_STARTS}]")
_ESCAPED = re.compile(rf"'+[{_STARTS}]")


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
    return table.map(_unescaped) if safe else table


def escaped(cell: object) -> object:
    """Return a cell with an apostrophe in front if it is text that looks like a formula."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unescaped(cell: object) -> object:
    return cell[1:] if isinstance(cell, str) and _ESCAPED.match(cell) else cell
