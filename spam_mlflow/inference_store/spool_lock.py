"""A lock beside a spool, for the processes that ship what is in it and those that delete there."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from spam_mlflow import private_files
from spam_mlflow.errors import UserError

_SECONDS = 60.0  # for which others are waited for
_AGAIN = 0.01  # seconds after which it is looked whether they are done


class SpoolLock:
    """Held while a batch is in the spool and in the table; the end of a process releases it.

    Args:
        spool: The file beside which it is.
    """

    def __init__(self, spool: Path) -> None:
        self._spool = spool

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a block.

        Raises:
            UserError: If others hold it for too long, or its file cannot be written.
        """
        ends = time.monotonic() + _SECONDS
        with contextlib.ExitStack() as stack:
            # Whoever waits has the turn, or one who ships batch after batch would keep them out.
            with self._locked("turn", ends):
                stack.enter_context(self._locked("batch", ends))
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, ends: float) -> Iterator[None]:
        path = self._spool.with_name(f"{self._spool.name}-{name}.lock")
        try:
            file = private_files.descriptor(path, os.O_RDWR)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
        try:
            while not _take(file):
                if time.monotonic() > ends:
                    raise UserError(
                        f"another process has shipped a batch from {self._spool} for "
                        f"{_SECONDS:.0f} s; see whether DynamoDB answers it, and try again"
                    )
                time.sleep(_AGAIN)
            yield
        finally:
            os.close(file)


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
