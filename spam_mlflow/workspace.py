"""What every command does first: a folder for its files, and the messages it works on."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
from omegaconf import DictConfig

from spam_mlflow import wiring
from spam_mlflow.data import Messages
from spam_mlflow.data.messages import write_rejected
from spam_mlflow.errors import UserError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def folder(output_dir: str | None) -> Iterator[Path]:
    """Yield the folder for the run's files, a temporary one without `output_dir`.

    Raises UserError where `output_dir` cannot be written, before any work is done.
    """
    if output_dir is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
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
    yield target


def load_messages(source: DictConfig, folder: Path) -> Messages:
    """Return the messages; rejected rows go to rejected.csv in `folder` and in the run."""
    messages: Messages = wiring.build(source).load()
    if len(messages.rejected):
        write_rejected(messages, folder / "rejected.csv")
        mlflow.log_artifact(str(folder / "rejected.csv"))
        logger.warning(
            "%s of %s rows were rejected; see rejected.csv in the run's artifacts",
            len(messages.rejected),
            len(messages.rejected) + len(messages.frame),
        )
    return messages
