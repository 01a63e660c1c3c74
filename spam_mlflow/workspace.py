"""What every command does first: a folder for its files, and the messages it works on."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow import wiring
from spam_mlflow.data import Messages
from spam_mlflow.data.messages import write_rejected
from spam_mlflow.errors import UserError

REJECTED_FILE = "rejected.csv"

_SPACE_MB = 100

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def folder(output_dir: str | None) -> Iterator[Path]:
    """Yield the folder for the run's files, a temporary one without `output_dir`.

    Raises UserError where it cannot be written or its disk is full, before any work is done.
    """
    if output_dir is None:
        scratch = Path(tempfile.mkdtemp(prefix="spam_mlflow-"))
        try:
            _require_space(scratch, "TMPDIR")
            yield scratch
        finally:
            # A folder that must stay, since a store failed, has another name by now.
            shutil.rmtree(scratch, ignore_errors=True)
        return
    target = Path(output_dir).expanduser().resolve()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise UserError(
            f"output_dir={output_dir!r} cannot be written: {error.strerror}; give another folder"
        ) from error
    _require_space(target, "output_dir")
    yield target


def is_temporary(folder: Path) -> bool:
    """Return whether it is a temporary folder of a run, or was one and is kept."""
    return folder.parent == Path(tempfile.gettempdir())


def _require_space(folder: Path, setting: str) -> None:
    free = shutil.disk_usage(folder).free // 2**20
    if free < _SPACE_MB:
        raise UserError(
            f"only {free} MB are free on the disk of {folder}, {_SPACE_MB} MB are needed for the "
            f"run's files; free some, or name another folder with {setting}"
        )


def load_messages(data: DictConfig, sources: Sequence[str] | None, folder: Path) -> Messages:
    """Return the messages of `sources`, None for all; rejected rows go to rejected.csv."""
    messages: Messages = wiring.build(data).load()
    if sources is not None:
        messages = messages.only(sources)
    if len(messages.rejected):
        write_rejected(messages, folder / REJECTED_FILE)
        logger.warning(
            "%s of %s rows were rejected; see rejected.csv in the run's artifacts",
            len(messages.rejected),
            len(messages.rejected) + len(messages.frame),
        )
    return messages
