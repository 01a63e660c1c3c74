"""Finding, reading and verifying data files, with errors a user can act on."""

import hashlib
from pathlib import Path

from spam_mlflow.errors import UserError


def existing_folder(path: str | Path) -> Path:
    """Return `path` as a folder that exists and can be listed; raises UserError otherwise."""
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data_dir={str(path)!r} {problem}; give the folder that holds the files")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise UserError(f"data_dir={str(path)!r} cannot be read: {error.strerror}") from error
    return folder


def find(name: str, folder: Path) -> Path | None:
    """Return the file `name` in `folder` or in one of its direct subfolders, None where absent."""
    return next(
        (path for path in [folder / name, *folder.glob(f"*/{name}")] if path.is_file()), None
    )


def read_bytes(path: Path) -> bytes:
    """Return the content of `path`; raises UserError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def verify_sha256(content: bytes, expected: str, what: str, remedy: str) -> None:
    """Raise UserError naming `what` and `remedy` unless the SHA-256 of `content` is `expected`."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(f"{what} has SHA-256 {found}, expected {expected}; {remedy}")
