"""The bytes of a file that a path names: on this machine or in an S3 store, compressed or not."""

import io
import re
from pathlib import Path

from spam_mlflow.batch_worker import compression
from spam_mlflow.batch_worker.compression import DamagedFileError
from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.data.sources import files
from spam_mlflow.errors import UserError
from spam_mlflow.storage import s3, s3_errors

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)
_NO_TABLES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the sheet as CSV",
    b"%PDF": "a PDF file: export its table as CSV",
    b"\x89PNG": "an image: write its text into a table",
    b"\xff\xd8\xff": "an image: write its text into a table",
    b"GIF8": "an image: write its text into a table",
    b"SQLite format 3": "a database: export its table as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it",
    b"<!DOCTYPE": "an HTML page: download the file itself",
    b"<html": "an HTML page: download the file itself",
}
_TAR = slice(257, 262), b"ustar"  # where POSIX has an archive's magic number, and that number
_JSON_ARRAY = re.compile(rb"\s*\[\s*\{")


def read(path: str, data_dir: str | None, storage: StorageSettings | None) -> bytes:
    """Return the content of a file, unpacked if it is compressed.

    Args:
        path: A path, "~" for the home folder included, or s3://bucket/key.
        data_dir: Folder that a relative path starts at, None for the working directory.
        storage: How to reach the S3 store.

    Raises:
        UserError: If the file cannot be read, or is of a kind that cannot be used.
    """
    address = _SCHEME.fullmatch(path)
    if address is None:
        content = _local(Path(data_dir or "").expanduser() / Path(path).expanduser())
    elif address[1].lower() == "s3" and storage is not None:
        content = _object(address[2], storage)
    else:
        raise UserError(
            f"data.path={path!r}: {address[1]}:// addresses are not read; download the file and "
            "give its path, or put it into an S3 store and give s3://bucket/key"
        )
    return _unpacked(content, path)


def _local(path: Path) -> bytes:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())[:5]
        raise UserError(
            f"data.path={str(path)!r} is a folder; name a file in it, such as {', '.join(names)}"
        )
    try:
        return files.read_bytes(path)
    except UserError as error:
        raise UserError(f"data.path={str(path)!r}: {error}") from error


def _object(address: str, storage: StorageSettings) -> bytes:
    bucket, _, key = address.partition("/")
    if not bucket or not key:
        raise UserError(f"data.path='s3://{address}' must name an object: s3://bucket/key")
    with s3_errors.explained(f"cannot read data.path=s3://{address}"):
        content: bytes = s3.client(storage).get_object(Bucket=bucket, Key=key)["Body"].read()
        return content


def why_no_table(content: bytes) -> str | None:
    """Return what a file is instead of a table, and what to do about it; None for a table.

    Args:
        content: The file's first bytes; of a compressed file, those of what it holds.
    """
    if compression.find(content):
        return "compressed twice: unpack it once"
    at, magic = _TAR
    if content[at] == magic:
        return "a tar archive: unpack it"
    kind = next((kind for start, kind in _NO_TABLES.items() if content.startswith(start)), None)
    if kind is None and _JSON_ARRAY.match(content):
        return "a JSON array: write an object a line, as jq -c '.[]' does"
    return kind


def _unpacked(content: bytes, path: str) -> bytes:
    compressed = compression.find(content)
    if compressed:
        try:
            with compression.Unpacked(io.BytesIO(content), compressed) as unpacked:
                content = unpacked.read_all()
        except DamagedFileError as error:
            raise UserError(f"data.path={path!r} is {error}; copy it again") from error
    kind = why_no_table(content)
    if kind is not None:
        raise UserError(f"data.path={path!r} is {kind}")
    return content
