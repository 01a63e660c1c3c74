"""Compressed files, read as what they hold, up to where they are damaged."""

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from .folders import is_of_storage

Compression = Literal["", "gzip", "bzip2", "xz"]
"""How a file is compressed; "" for one that is not."""

SUFFIXES = (".gz", ".bz2", ".xz")
"""Ends of the names of compressed files."""

_BUFFER = 2**20  # bytes that are fetched at once: each fetch is a request where the file is stored
_AT_ONCE = 2**16  # bytes; of what comes before damage, less than that is lost
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
_STARTS: Mapping[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}
_OPENED: Mapping[Compression, Callable[[Any], Any]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}


class DamagedFileError(Exception):
    """A compressed file cannot be unpacked from some position on.

    What was unpacked before may be wrong, too: a checksum comes after what it is of.
    """


class CutFileError(DamagedFileError):
    """A compressed file ends too early: what comes before is most probably as it was."""


def find(content: bytes) -> Compression:
    """Return how a file is compressed.

    Args:
        content: The file's first bytes.
    """
    return next((name for start, name in _STARTS.items() if content.startswith(start)), "")


class Unpacked:
    """What a compressed file holds, from any position on; to go back is to read it from its start.

    Args:
        stream: The file, which is closed with this object.
        compression: How it is compressed.
    """

    def __init__(self, stream: Any, compression: Compression) -> None:
        self._packed = io.BufferedReader(stream, _BUFFER)
        self._stream = _OPENED[compression](self._packed)
        self._damage: DamagedFileError | None = None

    def __enter__(self) -> "Unpacked":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._packed.close()

    @property
    def share(self) -> float:
        """Bytes of the file for each byte that was read, up to here."""
        return float(self._packed.tell() / max(self._stream.tell(), 1))

    def seek(self, position: int) -> None:
        """Go to a position in what the file holds.

        Raises:
            DamagedFileError: If the file is damaged before.
            OSError: If it cannot be read.
        """
        before = self._stream.tell()
        if position < before:
            self._damage = None
        elif self._damage and position > before:
            raise self._damage
        with _damage_named():
            self._stream.seek(position)

    def read(self, size: int) -> bytes:
        """Return the next bytes: fewer at the end, or if the file is damaged after them.

        Args:
            size: Number of bytes.

        Raises:
            DamagedFileError: If the file is damaged right here.
            OSError: If it cannot be read.
        """
        if self._damage:
            raise self._damage
        found: list[bytes] = []
        left = size
        try:
            with _damage_named():
                # What one of these calls has unpacked is lost if it ends with an error.
                while left and (piece := self._stream.read1(min(left, _AT_ONCE))):
                    found.append(piece)
                    left -= len(piece)
            if left:
                self._require_end()
        except DamagedFileError as error:
            self._damage = error  # if asked again, the streams tell something else, or nothing
            if not found:
                raise
        return b"".join(found)

    def read_all(self) -> bytes:
        """Return all that follows.

        Raises:
            DamagedFileError: If the file is damaged.
            OSError: If it cannot be read.
        """
        with _damage_named():
            content = bytes(self._stream.read())
        self._require_end()
        return content

    def _require_end(self) -> None:
        """Raise DamagedFileError if the file goes on after what was unpacked.

        The standard library takes a stream of bzip2 or xz that begins with damage for the end. It
        reads a block of it before, so that a stream shorter than that is not missed here.
        """
        if self._packed.peek(1):
            raise DamagedFileError("damaged and cannot be unpacked (a part of it begins wrongly)")


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Raise DamagedFileError for what the standard library raises if a file is damaged."""
    try:
        yield
    except _DAMAGE as error:
        if is_of_storage(error):
            raise
        reason = str(error).strip() or type(error).__name__
        kind = CutFileError if isinstance(error, EOFError) else DamagedFileError
        raise kind(f"damaged and cannot be unpacked ({reason})") from error
