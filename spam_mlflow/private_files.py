"""Files that nobody but their owner may read, from the moment that they exist."""

import os
from pathlib import Path
from typing import TextIO

_OTHERS = 0o077


def descriptor(path: Path, flags: int) -> int:
    """Open a file, which is made if it is missing, and return its descriptor.

    Args:
        path: The file.
        flags: Those of `os.open`, such as `os.O_RDWR`.

    Raises:
        OSError: If that is not possible, or an existing file is someone else's.
    """
    found = os.open(path, flags | os.O_CREAT, 0o600)
    try:
        if os.fstat(found).st_mode & _OTHERS:
            os.fchmod(found, 0o600)
    except OSError:
        os.close(found)
        raise
    return found


def writer(path: Path, replaces: bool) -> TextIO:
    """Open a text file to write to, in UTF-8 and with line ends as they are given.

    Args:
        path: The file.
        replaces: Whether there may be such a file already, which is overwritten.

    Raises:
        OSError: As by `descriptor`, and if there is one that may not be overwritten.
    """
    flags = os.O_WRONLY | (os.O_TRUNC if replaces else os.O_EXCL)
    return os.fdopen(descriptor(path, flags), "w", encoding="utf-8", newline="")
