"""Folders on this machine and in S3 stores, in which files appear whole or not at all."""

import contextlib
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem

TEMPORARY = ".unfinished-"
"""Beginning of the names of local files that are not complete; readers of data sets skip them."""

_ABANDONED = 3600  # seconds after which no one is still writing a file


@dataclass(frozen=True)
class Folder:
    """A folder, which all processes that score reach in the same way.

    Attributes:
        path: Its absolute path, or bucket/prefix.
        store: How to reach the S3 store, as arguments of pyarrow's S3FileSystem and the number of
            `attempts`; None for a folder on this machine. Credentials are not among them: each
            process finds them as those of AWS do.
    """

    path: str
    store: Mapping[str, Any] | None = None
    _opened: "list[FileSystem]" = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs."""
        return {"path": self.path, "store": self.store, "_opened": []}

    @property
    def files(self) -> "FileSystem":
        """Pyarrow's file system."""
        if not self._opened:
            self._opened.append(_file_system(self.store))
        return self._opened[0]

    def address(self, name: str) -> str:
        """Return the path of a file as the file system knows it.

        Args:
            name: The file's path below the folder.
        """
        return f"{self.path}/{name}" if self.path else name

    def open(self, name: str) -> "NativeFile":
        """Open a file for reading at any position.

        Raises:
            OSError: If it cannot be read.
        """
        return self.files.open_input_file(self.address(name))

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every complete file below the folder, by its path there.

        Raises:
            OSError: If the folder cannot be listed.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.path, recursive=True, allow_not_found=True)
        found = {}
        for entry in self.files.get_file_info(selector):
            if entry.type == FileType.File and not entry.base_name.startswith(TEMPORARY):
                found[entry.path[len(self.path) + 1 :]] = entry.size
        return found

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: If it cannot be read.
        """
        with self.open(name) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which appears whole or not at all, and replaces one of its name.

        A writer whose job was ended meanwhile does no harm: what it writes is what its successor
        writes.

        Args:
            name: The file's path below the folder.
            content: Its bytes.

        Raises:
            OSError: If it cannot be written.
        """
        if self.store is None:
            _write_local(Path(self.address(name)), content)
            return
        # A store shows an object when its upload is complete; small ones are a single request.
        with self.files.open_output_stream(self.address(name)) as stream:
            stream.write(content)

    def clean(self) -> None:
        """Remove what ended writers left unfinished; what is newer may be of another call."""
        if self.store is not None:
            return
        now = time.time()
        for file in Path(self.path).rglob(f"{TEMPORARY}*"):
            with contextlib.suppress(FileNotFoundError):  # its writer has just completed it
                if now - file.stat().st_mtime > _ABANDONED:
                    file.unlink()


def is_of_storage(error: Exception) -> bool:
    """Return whether an error is of a disk or a store, and says nothing of what a file holds.

    Pyarrow raises OSError for damaged files as well. Those have no number, nor have errors of a
    store, which it words in this way.
    """
    return isinstance(error, OSError) and (error.errno is not None or is_of_store(error))


def is_of_store(error: Exception) -> bool:
    """Return whether an error is the answer of an S3 store, or the lack of one."""
    return isinstance(error, OSError) and "AWS Error" in str(error)


def _file_system(store: Mapping[str, Any] | None) -> "FileSystem":
    from pyarrow import fs

    if store is None:
        return fs.LocalFileSystem()
    options = dict(store)
    attempts = fs.AwsStandardS3RetryStrategy(max_attempts=options.pop("attempts"))
    return fs.S3FileSystem(retry_strategy=attempts, **options)


def _write_local(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        error.filename = str(path)  # a full disk is told without any name
        raise
    # The new name is lost with the power, too, unless the folder is on the disk.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
