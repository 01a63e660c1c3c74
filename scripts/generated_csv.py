"""Data files that a script generates and that are committed: writing them, and checking them."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd


def write_or_check(rows: Callable[[], pd.DataFrame], target: Path, description: str | None) -> int:
    """Write generated rows to a CSV file, or compare them with it where the command has `--check`.

    Args:
        rows: Makes the rows.
        target: The file.
        description: Of the command, for its help.

    Returns:
        The exit status: 1 if the file is to be checked and differs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if different")
    check = parser.parse_args().check
    buffer = io.StringIO()
    rows().to_csv(buffer, index=False, lineterminator="\n")
    if check:
        return int(target.read_text(encoding="utf-8") != buffer.getvalue())
    target.write_text(buffer.getvalue(), encoding="utf-8")
    return 0
