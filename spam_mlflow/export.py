"""A classifier's files in an S3 store, for readers without MLflow.

A manifest names each file with its size and SHA-256. It is written last, and readers go by it: they
get a whole export or an error, never a mixture. New files are uploaded beside the old ones and put
in their place by copies inside the store, so that a broken upload leaves the old export as it was.
"""

import json
import logging
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spam_mlflow import s3
from spam_mlflow.classifier import METADATA_FILE, MODEL_FILE, TOKENIZER_FILE
from spam_mlflow.errors import UserError
from spam_mlflow.scoring import sha256

if TYPE_CHECKING:
    from botocore.client import BaseClient

MANIFEST_FILE = "manifest.json"
H5_FILE = "spam-model.h5"
CODE_FILE = "spam-classifier-code.zip"
FILES = (MODEL_FILE, H5_FILE, TOKENIZER_FILE, METADATA_FILE, CODE_FILE)
"""Every name that an export may hold besides its manifest."""

_INCOMING = "incoming"  # below the prefix: files of an export that is being published
_DIGEST = re.compile(r"[0-9a-f]{64}")
_READS = 5  # of a manifest, while the export is being replaced
_READ_PAUSE = 0.5  # seconds between them

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file of an export: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an export holds, by file name, and which model it is."""

    files: Mapping[str, File]
    source: Mapping[str, str]

    def to_json(self) -> str:
        """Return it as JSON, the same for the same export."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Return the manifest that `to_json` wrote; raises ValueError for anything else.

        A name that is none of `FILES` is refused, so that a manifest cannot name a path.
        """
        try:
            state = json.loads(text)
            files = {name: File(**file) for name, file in state["files"].items()}
            source = dict(state["source"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is not a manifest: {error}") from error
        unknown = sorted(set(files) - set(FILES))
        if unknown or not all(_DIGEST.fullmatch(str(file.sha256)) for file in files.values()):
            raise ValueError(f"is not a manifest: {unknown or 'a SHA-256 is malformed'}")
        return cls(files, source)


@dataclass(frozen=True)
class Place:
    """A prefix in a bucket."""

    client: "BaseClient"
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def key(self, *names: str) -> str:
        """Return the key of what is called `names` below the prefix."""
        return "/".join([self.prefix.strip("/"), *names])


def collect(keras: Path, code: Path, h5: bool, folder: Path) -> None:
    """Put an export's files into `folder`: those of a run's `keras` folder, and the served `code`.

    h5: also in Keras's old format, which is read back and compared.

    Raises UserError where a file is missing, or Keras's old format does not hold the network.
    """
    for name in (MODEL_FILE, TOKENIZER_FILE, METADATA_FILE):
        try:
            shutil.copy(keras / name, folder / name)
        except FileNotFoundError as error:
            raise UserError(f"the run has no artifact keras/{name}; log the model again") from error
    with zipfile.ZipFile(folder / CODE_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(code.rglob("*.py")):
            # A fixed date, so that the same code gives the same bytes.
            entry = zipfile.ZipInfo(str(file.relative_to(code)), (2000, 1, 1, 0, 0, 0))
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    if h5:
        _write_h5(folder)


def _write_h5(folder: Path) -> None:
    import numpy as np

    from spam_mlflow import keras_backend

    models = keras_backend.load().models
    network = models.load_model(folder / MODEL_FILE, compile=False)
    try:
        with keras_backend.quiet():
            network.save(folder / H5_FILE)
            again = models.load_model(folder / H5_FILE, compile=False)
        same = all(
            np.array_equal(ours, theirs)
            for ours, theirs in zip(network.get_weights(), again.get_weights(), strict=True)
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"Keras's old format does not hold this network ({str(error).splitlines()[0]}); "
            "leave out h5=true"
        ) from error
    if not same:
        raise UserError("Keras's old format changes this network's weights; leave out h5=true")


def publish(folder: Path, source: Mapping[str, str], place: Place) -> bool:
    """Upload the files of `folder` to `place`; return False where they are there already.

    source: which model it is, for readers of the manifest.

    Raises UserError where the store fails; publishing again then goes on where it stopped.
    """
    found = (folder / name for name in FILES)
    files = {f.name: File(f.stat().st_size, sha256(f)) for f in found if f.is_file()}
    manifest = Manifest(files, dict(source))
    with s3.explained(f"cannot publish to {place}"):
        there = all(_stored(place, place.key(name)) == file for name, file in files.items())
        if there and _read_manifest(place) == manifest:
            return False
        _upload(folder, files, place)
        for name in files:
            _move_into_place(place, name)
        body = manifest.to_json().encode()
        _call(place, "put_object", Key=place.key(MANIFEST_FILE), Body=body)
        for name in sorted(set(FILES) - set(files)):  # of an earlier export, such as its .h5
            _call(place, "delete_object", Key=place.key(name))
    return True


def _upload(folder: Path, files: Mapping[str, File], place: Place) -> None:
    """Upload to `incoming`, leaving out what an earlier attempt has brought there."""
    with _progress(sum(file.size for file in files.values()), "publish") as moved:
        for name, file in files.items():
            key = place.key(_INCOMING, name)
            if _stored(place, key) == file:
                moved(file.size)
                continue
            place.client.upload_file(
                str(folder / name),
                place.bucket,
                key,
                ExtraArgs={"Metadata": {"sha256": file.sha256}},
                Callback=moved,
            )


def _move_into_place(place: Place, name: str) -> None:
    incoming = place.key(_INCOMING, name)
    origin = {"Bucket": place.bucket, "Key": incoming}
    _call(place, "copy_object", Key=place.key(name), CopySource=origin)
    _call(place, "delete_object", Key=incoming)


def _stored(place: Place, key: str) -> File | None:
    """Return what is stored under `key`, as its metadata say; None where nothing is."""
    from botocore.exceptions import ClientError

    try:
        head = _call(place, "head_object", Key=key)
    except ClientError as error:
        # The answer to HEAD has no body and so no code that tells a missing bucket from a missing
        # key; the upload that follows does.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    # Some stores give the names of metadata back in another case.
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}
    return File(head["ContentLength"], metadata.get("sha256", ""))


def pull(place: Place, output: Path) -> Manifest:
    """Download the export at `place` into the folder `output`, which appears as a whole.

    Raises UserError where there is no export, where the store fails, where a file differs from the
    manifest, and where `output` holds anything but an earlier export. `output` is unchanged then.
    """
    _require_replaceable(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        s3.explained(f"cannot pull from {place}"),
        tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as name,
    ):
        scratch = Path(name, "export")
        manifest = _download(place, output, scratch)
        _replace(scratch, output, Path(name, "before"))
    return manifest


def _download(place: Place, earlier: Path, folder: Path) -> Manifest:
    """Download into `folder`, again where the export is being replaced meanwhile."""
    manifest = _read_manifest(place)
    for attempt in range(_READS):
        if manifest is None:
            raise UserError(
                f"{place} has no {MANIFEST_FILE}, so no export was published there, or its first "
                "publishing is not finished; check bucket and prefix, or publish again"
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        broken = _download_files(manifest, place, earlier, folder)
        if not broken:
            (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
            return manifest
        if attempt < _READS - 1:
            time.sleep(_READ_PAUSE)
            manifest = _read_manifest(place)
    raise UserError(
        f"{', '.join(broken)} at {place} differ from {MANIFEST_FILE}: damaged, or publishing broke "
        "off while it replaced them; publish again"
    )


def _download_files(manifest: Manifest, place: Place, earlier: Path, folder: Path) -> list[str]:
    """Fill `folder`; return the names of the files that are not what the manifest says."""
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
                place.client.download_file(
                    place.bucket, place.key(name), str(target), Callback=moved
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
            if not target.is_file() or sha256(target) != file.sha256:
                broken.append(name)
    return broken


def _read_manifest(place: Place) -> Manifest | None:
    from botocore.exceptions import ClientError

    try:
        answer = _call(place, "get_object", Key=place.key(MANIFEST_FILE))
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    try:
        return Manifest.from_json(answer["Body"].read().decode())
    except ValueError as error:
        raise UserError(f"{place}/{MANIFEST_FILE} {error}; publish again") from error


def _require_replaceable(output: Path) -> None:
    """Raise UserError where `output` is not a folder, or holds what no export does."""
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
    """Put `new` in the place of `target`, which goes to `aside`; it comes back where that fails."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _call(place: Place, operation: str, **arguments: Any) -> Any:
    return getattr(place.client, operation)(Bucket=place.bucket, **arguments)


@contextmanager
def _progress(size: int, title: str) -> Iterator[Callable[[int], Any]]:
    """Yield a function that moves a bar of `size` bytes on, shown where someone looks at it."""
    from tqdm import tqdm

    with tqdm(total=size, desc=title, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update
