"""The UCI SMS Spam Collection and YouTube Spam Collection (CC BY 4.0).

Almeida, Gómez Hidalgo, Yamakami 2011, DOI 10.24432/C5CC84; Alberto, Lochter, Almeida 2015,
DOI 10.24432/C58885.
"""

import csv
import dataclasses
import io
import logging
import zipfile
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, Count, Positive
from spam_mlflow.data.messages import Messages, validated
from spam_mlflow.data.sources import files, modern
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.errors import UserError

logger = logging.getLogger(__name__)

SMS_FILE = "SMSSpamCollection"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A zip on UCI's server.

    The members are verified, not the zip itself, whose bytes change whenever UCI packs it anew.

    Attributes:
        path: Last part of its URL.
        members: SHA-256 (hex) of each file in it that is used, by the file's name.
    """

    path: str
    members: dict[str, str]


SMS = Archive(
    "228/sms+spam+collection.zip",
    {SMS_FILE: "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"},
)
_YOUTUBE_VIDEOS = {
    "01-Psy": "19797e6c77690e3c8809cfd2853ae7341390636367ba66cf5d4f4083f0b88535",
    "02-KatyPerry": "902c614f8ef24f987d6f614d7e6111aa5160b89a0646b68e007bd6044a3d123b",
    "03-LMFAO": "702ef589860a1831956f527760a3d9737ef8a07ab36c7de35b92b8898b8c3928",
    "04-Eminem": "92f54eb6b22fdf3b7ae85e1f500e5aa7442edd025e504b988a97078756187e76",
    "05-Shakira": "1d8ab47b71e8037c51183b2fc62f0591a48a4b54f3a4f5d9d3043113b274e98e",
}
YOUTUBE = Archive(
    "380/youtube+spam+collection.zip",
    {f"Youtube{video}.csv": digest for video, digest in _YOUTUBE_VIDEOS.items()},
)


class UnreachableError(Exception):
    """An archive could not be downloaded from UCI's server; the message says why."""


@dataclass(frozen=True, config=CONFIG)
class UciFiles:
    """Access to the six UCI files: in `data_dir`, else in the cache, else on UCI's server.

    Attributes:
        data_dir: Folder with the files or UCI's zips, directly or one level down; None to download.
        cache_dir: Folder that keeps downloads; None for the user's cache folder.
        base_url: The part of the archives' URLs before `Archive.path`.
        timeout: Seconds without an answer after which an attempt ends.
        retries: Number of further attempts after the first.
    """

    data_dir: str | None
    cache_dir: str | None
    base_url: Annotated[str, Field(pattern="^https?://")]
    timeout: Positive
    retries: Count

    def read(self) -> dict[str, bytes]:
        """Return the verified content of each file by its name.

        Raises:
            UserError: Where a file is missing, unreadable or altered, or an archive is corrupt.
            UnreachableError: Where a download is needed and fails.
        """
        return {**self._members(SMS), **self._members(YOUTUBE)}

    def _members(self, archive: Archive) -> dict[str, bytes]:
        if self.data_dir is not None:
            return _read_folder(files.existing_folder(self.data_dir), archive)
        cache = self._cache()
        if not all((cache / name).is_file() for name in archive.members):
            self._download(archive, cache)
        return _read_folder(cache, archive)

    def _cache(self) -> Path:
        if self.cache_dir is not None:
            return Path(self.cache_dir).expanduser().resolve()
        import pooch  # slow to import, and only needed without data_dir

        return Path(pooch.os_cache("spam_mlflow"))

    def _download(self, archive: Archive, cache: Path) -> None:
        """Put the verified members of `archive` into `cache`, each by an atomic rename."""
        zip_path = _retrieve(
            f"{self.base_url.rstrip('/')}/{archive.path}", cache, self.timeout, self.retries
        )
        try:
            for name, content in _read_zip(zip_path, archive).items():
                partial = cache / f"{name}.partial"
                partial.write_bytes(content)
                partial.replace(cache / name)
        except OSError as error:
            raise UserError(
                f"cannot write to the cache {cache}: {error.strerror}; set data.cache_dir"
            ) from error
        finally:
            zip_path.unlink(missing_ok=True)


def _retrieve(url: str, cache: Path, timeout: float, retries: int) -> Path:
    """Download `url` into `cache` with a progress bar and return the file.

    Raises:
        UnreachableError: Where the download fails.
        UserError: Where the cache cannot be written.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fetcher = pooch.create(cache, "", registry={"archive.zip": None}, retry_if_failed=retries)
        fetcher.urls["archive.zip"] = url
        (cache / "archive.zip").unlink(missing_ok=True)
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=timeout)
        return Path(fetcher.fetch("archive.zip", downloader=downloader))
    except requests.RequestException as error:
        raise UnreachableError(f"{url} cannot be downloaded: {_cause(error)}") from error
    except OSError as error:
        raise UserError(
            f"cannot write to the cache {cache}: {error.strerror}; set data.cache_dir"
        ) from error


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a nested network error, which is the most specific one."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return str(reason or error)


def _read_folder(folder: Path, archive: Archive) -> dict[str, bytes]:
    """Return the verified members of `archive`: from files in `folder`, else from the zip there."""
    zip_path = files.find(Path(archive.path).name, folder)
    missing = [name for name in archive.members if files.find(name, folder) is None]
    if missing and zip_path:
        return _read_zip(zip_path, archive)
    if missing:
        raise UserError(
            f"data_dir={str(folder)!r} lacks {', '.join(missing)}; unpack UCI's "
            f"{Path(archive.path).name} there, or leave data_dir out to download it"
        )
    contents = {}
    for name, expected in archive.members.items():
        path = files.find(name, folder)
        assert path is not None  # not missing, see above
        contents[name] = files.read_bytes(path)
        remedy = "put UCI's original there, or use data=csv for a file of your own"
        files.verify_sha256(contents[name], expected, str(path), remedy)
    return contents


def _read_zip(path: Path, archive: Archive) -> dict[str, bytes]:
    """Return the verified members of the zip at `path`.

    Raises:
        UserError: Where the zip is corrupt or a member is missing or altered.
    """
    try:
        with zipfile.ZipFile(path) as zipped:
            contents = {name: zipped.read(name) for name in archive.members}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, EOFError, OSError) as error:
        raise UserError(
            f"{path.name} is not a readable zip with {', '.join(archive.members)}: "
            f"{error}; download it again or give data_dir"
        ) from error
    for name, expected in archive.members.items():
        files.verify_sha256(
            contents[name], expected, f"{name} in {path.name}", "download it again or give data_dir"
        )
    return contents


@dataclass(frozen=True, config=CONFIG)
class UciSource:
    """Both UCI collections: 5,574 SMS and 1,956 YouTube comments.

    Attributes:
        files: Access to the six files.
        fallback: What to do where UCI cannot be reached: "sample" uses the bundled sample, with a
            warning; "none" makes that an error.
        extra: Bundled sets that are trained on as well.
    """

    files: UciFiles
    fallback: Literal["sample", "none"] = "sample"
    extra: modern.Extra = ()

    def load(self) -> Messages:
        """Read and validate both collections.

        Returns:
            The messages, or the bundled sample, whose `fallback` is set then.

        Raises:
            UserError: Where files are missing, altered or corrupt, and where a download fails with
                fallback="none".
        """
        try:
            contents = self.files.read()
        except UnreachableError as error:
            if self.fallback == "none":
                raise UserError(
                    f"{error}; give data_dir, or data.fallback=sample to use the bundled sample"
                ) from error
            logger.warning(
                "%s. TRAINING ON THE BUNDLED SYNTHETIC SAMPLE INSTEAD: its metrics say nothing "
                "about real messages. Give data_dir, or data.fallback=none to stop here.",
                error,
            )
            return SampleSource().load(fallback=True)
        parts = [parse_sms(contents[SMS_FILE])]
        parts += [parse_youtube(contents[name]) for name in YOUTUBE.members]
        messages = validated(pd.concat(parts, ignore_index=True), name="uci")
        return dataclasses.replace(messages, extra=modern.training(self.extra))


def parse_sms(content: bytes, quoting: Literal[0, 3] = csv.QUOTE_NONE) -> pd.DataFrame:
    """Parse the SMS collection.

    Args:
        content: The file's bytes.
        quoting: Constant of `csv`. Quoting must be off, since some messages have a lone quotation
            mark, which would merge lines; only the tutorial has it on.

    Returns:
        Columns `label`, `text` and `source`.
    """
    frame = pd.read_csv(
        io.BytesIO(content),
        sep="\t",
        header=None,
        names=["label", "text"],
        quoting=quoting,
        keep_default_na=False,
    )
    return frame.assign(source="uci_sms")


def parse_youtube(content: bytes, strip_mark: bool = True) -> pd.DataFrame:
    """Parse the comments on one video.

    Args:
        content: The file's bytes.
        strip_mark: Remove U+FEFF, whose frequency differs between the classes, a leak of the label;
            only the tutorial's export keeps it.

    Returns:
        Columns `label`, `text` and `source`.
    """
    frame = pd.read_csv(io.BytesIO(content), keep_default_na=False)
    text = frame["CONTENT"]
    return pd.DataFrame(
        {
            "label": frame["CLASS"].map({0: "ham", 1: "spam"}),
            "text": text.str.replace("\ufeff", "", regex=False) if strip_mark else text,
            "source": "uci_youtube",
        }
    )
