"""Finding the files of an input: a file, a folder or a pattern, on this machine or in a store."""

import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from spam_mlflow.batch_worker.folders import Folder
from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.errors import UserError
from spam_mlflow.storage import s3, s3_errors

_S3 = re.compile(r"s3a?://([^/]+)/?(.*)", re.IGNORECASE | re.DOTALL)
_OTHER_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PATTERN = re.compile(r"[*?[]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # what Python has for a byte that is not in UTF-8
_SKIPPED = ("_", ".")  # beginnings of names that no reader of data sets takes for data


@dataclass(frozen=True)
class Listed:
    """A file of the input.

    Attributes:
        name: What users call it.
        path: Its path below the input's folder.
        size: Bytes.
        etag: What the store knows its content by; None on this machine.
    """

    name: str
    path: str
    size: int
    etag: str | None = None


def folder(address: str, storage: StorageSettings) -> Folder:
    """Return the folder that a path or an s3:// address names.

    Args:
        address: As users give it.
        storage: How to reach the S3 store.

    Raises:
        UserError: If it is an address of another kind.
    """
    found = _S3.fullmatch(address)
    if found:
        return Folder(f"{found[1]}/{found[2]}".rstrip("/"), _options(storage))
    _require_path(address)
    path = str(Path(address).expanduser().resolve())
    _require_unicode(path)
    return Folder(path)


def find(address: str, storage: StorageSettings, output: Folder) -> tuple[Folder, list[Listed]]:
    """Return the folder of an input, and its files in the order of their names.

    Args:
        address: A file, a folder or a pattern such as "data/*.csv".
        storage: How to reach the S3 store.
        output: Folder of the scores; files below it are not part of the input.

    Raises:
        UserError: If there is no such file.
    """
    found = _S3.fullmatch(address)
    if found:
        source = Folder(found[1], _options(storage))
        files = list(_objects(found[1], found[2], storage))
    else:
        _require_path(address)
        source, files = _local(address)
        _require_unicode(source.path)
    below = f"{output.path}/"
    kept = [file for file in files if not source.address(file.path).startswith(below)]
    if files and not kept:
        raise UserError(f"input={address!r} is in the output's folder; give another output")
    if not kept:
        raise UserError(f"input={address!r} names no file; give a file, a folder or a pattern")
    return source, sorted(kept, key=lambda file: file.path)


def digest(source: Folder, file: Listed) -> str:
    """Return what the content of a file is known by: its SHA-256 (hex), or the store's ETag.

    Raises:
        OSError: If the file cannot be read.
    """
    if file.etag is not None:
        return file.etag
    with Path(source.address(file.path)).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_path(address: str) -> None:
    scheme = _OTHER_SCHEME.match(address)
    if scheme:
        raise UserError(
            f"{address!r}: {scheme[1]}:// addresses are not known; give a path or s3://"
        )


def _require_unicode(path: str) -> None:
    if not is_unicode(path):
        raise UserError(f"{path!r} is a folder whose name is not in UTF-8; rename it")


def is_unicode(name: str) -> bool:
    """Return whether a name on this machine's disk is in UTF-8, as names in an output must be."""
    return _SURROGATE.search(name) is None


def _options(storage: StorageSettings) -> dict[str, Any]:
    """Return how pyarrow reaches a store."""
    scheme, _, host = (storage.url or "https://").rstrip("/").partition("://")
    return {
        "endpoint_override": host or None,
        "scheme": scheme,
        "region": storage.region,
        "force_virtual_addressing": bool(host) and storage.addressing_style == "virtual",
        "connect_timeout": storage.connect_timeout,
        "request_timeout": storage.read_timeout,
        "attempts": storage.attempts,
    }


def _local(address: str) -> tuple[Folder, list[Listed]]:
    path = Path(address).expanduser()
    if path.is_file():
        return Folder(str(path.resolve().parent)), [_listed(path.resolve(), path.resolve().parent)]
    if path.is_dir():
        base, found = path.resolve(), sorted(path.resolve().rglob("*"))
        inside = ((file, file.relative_to(base).parts) for file in found if _is_content(file))
        return Folder(str(base)), [_listed(f, base) for f, parts in inside if _is_data(parts)]
    if not _PATTERN.search(address):
        raise UserError(f"input={address!r} does not exist; give a file, a folder or a pattern")
    parts = path.absolute().parts
    fixed = next(i for i, part in enumerate(parts) if _PATTERN.search(part))
    base = Path(*parts[:fixed]).resolve()
    pattern = Path(*parts[fixed:])
    matches = glob.iglob(str(pattern), root_dir=base, recursive=True)
    files = {base / match for match in matches if _fits(Path(match).parts, pattern.parts)}
    return Folder(str(base)), [_listed(file, base) for file in files if _is_content(file)]


def _is_content(path: Path) -> bool:
    """Return whether a path is a file, or a link that leads nowhere: a file is missing there."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _listed(file: Path, base: Path) -> Listed:
    path = file.relative_to(base).as_posix()
    name = os.fsencode(path).decode(errors="replace")
    return Listed(name, path, file.stat().st_size if file.exists() else 0)


def _is_data(parts: tuple[str, ...]) -> bool:
    return not any(part.startswith(_SKIPPED) for part in parts)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path is one that a pattern names, in which "**" is any number of folders.

    As with a shell, "*" names nothing that is left out of folders, which has to be named as in
    "_*.csv".
    """
    if not pattern:
        return not parts
    if pattern[0] == "**" and _fits(parts, pattern[1:] or ("*",)):
        return True
    if not parts:
        return False
    first = parts[0]
    if not _is_data((first,)) and pattern[0][0] != first[0]:
        return False
    if pattern[0] == "**":
        return _fits(parts[1:], pattern)
    return fnmatch.fnmatchcase(first, pattern[0]) and _fits(parts[1:], pattern[1:])


def _objects(bucket: str, key: str, storage: StorageSettings) -> Iterator[Listed]:
    """Yield the objects that a key, a prefix or a pattern names."""
    pattern = _PATTERN.search(key)
    prefix = key[: pattern.start()] if pattern else key
    base = prefix.rpartition("/")[0] if pattern else prefix.rstrip("/")
    with s3_errors.explained(f"cannot list input=s3://{bucket}/{key}"):
        pages = s3.client(storage).get_paginator("list_objects_v2")
        found = [
            entry
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for entry in page.get("Contents", ())
        ]
    for entry in found:
        name = str(entry["Key"])
        below = name[len(base) :].lstrip("/")
        inside = name.startswith(f"{base}/") if base else True
        if pattern:
            wanted = _fits(name.split("/"), key.split("/"))
        else:
            wanted = name == key or (inside and _is_data(PurePosixPath(below).parts))
        if wanted and not name.endswith("/"):
            shown = below or PurePosixPath(name).name
            yield Listed(shown, name, int(entry["Size"]), str(entry["ETag"]).strip('"'))
