"""Finding, reading and verifying data files, with errors that users can act on."""

import hashlib
from pathlib import Path

from spam_mlflow.errors import UserError


def existing_folder(path: str | Path) -> Path:
    """Return a folder's absolute path.

    Args:
        path: The folder, as the user gave it for `data_dir`.

    Raises:
        UserError: Where it does not exist, is not a folder or cannot be listed.
    """
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
    """Return the file `name` in `folder` or in one of its direct subfolders, None if absent."""
    return next(
        (path for path in [folder / name, *folder.glob(f"*/{name}")] if path.is_file()), None
    )


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.

    Raises:
        UserError: Where it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def verify_sha256(content: bytes, expected: str, what: str, remedy: str) -> None:
    """Check that content is what it is expected to be.

    Args:
        content: The bytes to check.
        expected: Their SHA-256 (hex).
        what: Name of the file in the error message.
        remedy: What the user can do about a mismatch.

    Raises:
        UserError: Where the SHA-256 is another one.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(f"{what} has SHA-256 {found}, expected {expected}; {remedy}")
