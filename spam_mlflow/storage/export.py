"""Exports of a classifier's files to an S3 store, for readers without MLflow.

A manifest names each file with its size and SHA-256. It is written last and readers rely on it, so
that they get a whole export or an error, never a mixture of two. New files are uploaded beside the
old ones, which copies inside the store then replace, so that a broken upload leaves the old export
unchanged.
"""

import logging
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spam_mlflow.errors import UserError
from spam_mlflow.scorer.classifier import METADATA_FILE, MODEL_FILE, TOKENIZER_FILE
from spam_mlflow.scorer.scorers import sha256
from spam_mlflow.storage import s3_errors
from spam_mlflow.storage.manifest import CODE_FILE, FILES, H5_FILE, MANIFEST_FILE, File, Manifest

if TYPE_CHECKING:
    from botocore.client import BaseClient

_INCOMING = "incoming"  # below the prefix, for files of an export that is being published
_READS = 5  # attempts to read an export while it is being replaced
_READ_PAUSE = 0.5  # seconds between the attempts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class S3Location:
    """A prefix in a bucket.

    Attributes:
        client: boto3 client of the store.
        bucket: Name of the bucket.
        prefix: Prefix of all keys; slashes at its ends are ignored.
    """

    client: "BaseClient"
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def key(self, *names: str) -> str:
        """Return the key below the prefix whose path consists of `names`."""
        return "/".join([self.prefix.strip("/"), *names])


def collect(keras: Path, code: Path, h5: bool, folder: Path) -> None:
    """Collect the files of an export in a folder.

    Args:
        keras: Folder with the artifacts `keras` of the model's run.
        code: Folder with the code that the model is served with.
        h5: Whether to add the network in Keras's legacy HDF5 format, which is read back and
            compared.
        folder: Existing folder for the files.

    Raises:
        UserError: If a file is missing, or if the legacy format cannot hold the network.
    """
    for name in (MODEL_FILE, TOKENIZER_FILE, METADATA_FILE):
        try:
            shutil.copy(keras / name, folder / name)
        except FileNotFoundError as error:
            raise UserError(f"the run has no artifact keras/{name}; log the model again") from error
    with zipfile.ZipFile(folder / CODE_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(code.rglob("*.py")):
            # With a fixed date, the same code gives the same bytes.
            entry = zipfile.ZipInfo(str(file.relative_to(code)), (2000, 1, 1, 0, 0, 0))
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    if h5:
        _write_h5(folder)


def _write_h5(folder: Path) -> None:
    """Write the network in `folder` in Keras's legacy format as well."""
    import numpy as np

    from spam_mlflow.scorer import keras_backend

    models = keras_backend.load().models
    network = models.load_model(folder / MODEL_FILE, compile=False)
    try:
        with keras_backend.quiet():
            network.save(folder / H5_FILE)
            again = models.load_model(folder / H5_FILE, compile=False)
        same = all(
            np.array_equal(written, read)
            for written, read in zip(network.get_weights(), again.get_weights(), strict=True)
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"Keras's old format does not hold this network ({str(error).splitlines()[0]}); "
            "leave out h5=true"
        ) from error
    if not same:
        raise UserError("Keras's old format changes this network's weights; leave out h5=true")


def publish(folder: Path, source: Mapping[str, str], location: S3Location) -> bool:
    """Upload an export, unless the location holds it already.

    Args:
        folder: Folder with the files of the export, as `collect` leaves it.
        source: What identifies the model, for readers of the manifest.
        location: Where to upload the files.

    Returns:
        Whether anything was uploaded.

    Raises:
        UserError: If the store fails; publishing again goes on where it stopped.
    """
    found = (folder / name for name in FILES)
    files = {f.name: File(f.stat().st_size, sha256(f)) for f in found if f.is_file()}
    manifest = Manifest(files, dict(source))
    with s3_errors.explained(f"cannot publish to {location}"):
        stored = all(_stored(location, location.key(name)) == file for name, file in files.items())
        if stored and _read_manifest(location) == manifest:
            return False
        _upload(folder, files, location)
        for name in files:
            _replace_stored(location, name)
        body = manifest.to_json().encode()
        _call(location, "put_object", Key=location.key(MANIFEST_FILE), Body=body)
        for name in sorted(set(FILES) - set(files)):  # an earlier export may have had an .h5
            _call(location, "delete_object", Key=location.key(name))
    return True


def _upload(folder: Path, files: Mapping[str, File], location: S3Location) -> None:
    """Upload files to `incoming`, except for those that an earlier attempt has uploaded."""
    with _progress(sum(file.size for file in files.values()), "publish") as moved:
        for name, file in files.items():
            key = location.key(_INCOMING, name)
            if _stored(location, key) == file:
                moved(file.size)
                continue
            location.client.upload_file(
                str(folder / name),
                location.bucket,
                key,
                ExtraArgs={"Metadata": {"sha256": file.sha256}},
                Callback=moved,
            )


def _replace_stored(location: S3Location, name: str) -> None:
    """Replace a file of the export by the uploaded one, inside the store."""
    incoming = location.key(_INCOMING, name)
    origin = {"Bucket": location.bucket, "Key": incoming}
    _call(location, "copy_object", Key=location.key(name), CopySource=origin)
    _call(location, "delete_object", Key=incoming)


def _stored(location: S3Location, key: str) -> File | None:
    """Return size and digest of the object at `key` by its metadata, or None if there is none."""
    from botocore.exceptions import ClientError

    try:
        head = _call(location, "head_object", Key=key)
    except ClientError as error:
        # The answer to HEAD has no body, and so no code that tells a missing bucket from a missing
        # key. The upload that follows will tell.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    # Some stores return the names of metadata in another case.
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}
    return File(head["ContentLength"], metadata.get("sha256", ""))


def pull(location: S3Location, output: Path) -> Manifest:
    """Download an export into a folder, which appears only when it is complete.

    Args:
        location: Where the export is.
        output: Absolute path of the folder, which must be new or empty or hold an earlier export.

    Returns:
        The manifest of the export.

    Raises:
        UserError: If there is no export, if the store fails, if a file differs from the manifest,
            or if `output` holds anything else. `output` is unchanged then.
    """
    _require_replaceable(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        s3_errors.explained(f"cannot pull from {location}"),
        tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as name,
    ):
        scratch = Path(name, "export")
        manifest = _download(location, output, scratch)
        _replace(scratch, output, Path(name, "before"))
    return manifest


def _download(location: S3Location, earlier: Path, folder: Path) -> Manifest:
    """Download the export into `folder`, again if it is being replaced at the same time.

    Files that do not differ are copied from `earlier`, which is a folder with an earlier export.
    """
    manifest = _read_manifest(location)
    for attempt in range(_READS):
        if manifest is None:
            raise UserError(
                f"{location} has no {MANIFEST_FILE}: no export was published there, or its first "
                "publishing is not finished; check bucket and prefix, or publish again"
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        broken = _download_files(manifest, location, earlier, folder)
        if not broken:
            (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
            return manifest
        if attempt < _READS - 1:
            time.sleep(_READ_PAUSE)
            manifest = _read_manifest(location)
    raise UserError(
        f"{', '.join(broken)} at {location} differ from {MANIFEST_FILE}: damaged, or publishing "
        "broke off while it replaced them; publish again"
    )


def _download_files(
    manifest: Manifest, location: S3Location, earlier: Path, folder: Path
) -> list[str]:
    """Fill `folder`, and return the names of the files that differ from the manifest."""
    from botocore.exceptions import ClientError

    broken = []
    with _progress(sum(file.size for file in manifest.files.values()), "pull") as moved:
        for name, file in manifest.files.items():
            target = folder / name
            if (earlier / name).is_file() and sha256(earlier / name) == file.sha256:
                shutil.copy(earlier / name, target)
                moved(file.size)
                continue
            try:
                location.client.download_file(
                    location.bucket, location.key(name), str(target), Callback=moved
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
            if not target.is_file() or sha256(target) != file.sha256:
                broken.append(name)
    return broken


def _read_manifest(location: S3Location) -> Manifest | None:
    from botocore.exceptions import ClientError

    try:
        answer = _call(location, "get_object", Key=location.key(MANIFEST_FILE))
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    try:
        return Manifest.from_json(answer["Body"].read().decode())
    except ValueError as error:
        raise UserError(f"{location}/{MANIFEST_FILE} {error}; publish again") from error


def _require_replaceable(output: Path) -> None:
    """Raise UserError if `output` is not a folder, or holds a file that no export has."""
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"output={str(output)!r} is not a folder; give another one")
    foreign = sorted({file.name for file in output.iterdir()} - {*FILES, MANIFEST_FILE})
    if foreign:
        raise UserError(
            f"output={str(output)!r} holds {foreign[0]!r}, which is not part of an export; give an "
            "empty or a new folder"
        )


def _replace(new: Path, target: Path, aside: Path) -> None:
    """Move `target` to `aside` and `new` to `target`; if that fails, `target` is restored."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _call(location: S3Location, operation: str, **arguments: Any) -> Any:
    return getattr(location.client, operation)(Bucket=location.bucket, **arguments)


@contextmanager
def _progress(size: int, title: str) -> Iterator[Callable[[int], Any]]:
    """Yield a function that advances a bar of `size` bytes, which only a terminal shows."""
    from tqdm import tqdm

    with tqdm(total=size, desc=title, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update
