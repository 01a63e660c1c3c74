"""A process of its own that empties the spool of a store, beside a server that is busy.

In a thread of the server it would take turns with the answers, since both need the interpreter.
"""

import contextlib
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

LOOK_SECONDS = 0.2
"""Seconds after which the process looks whether anything is in the spool."""

_AGAIN_SECONDS = 10.0  # after which a process that has ended is started again
_END_SECONDS = 10.0  # that it has to end
_ERROR_BYTES = 500

logger = logging.getLogger(__name__)


class Shipping(Protocol):
    """A store that ships its spool by itself."""

    def ship(self) -> None:
        """Ship what is in the spool, in a thread."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Return the store's own metrics by name."""
        ...

    @property
    def error(self) -> str:
        """Why nothing is shipped; "" if it is."""
        ...

    def close(self) -> None:
        """Ship what is waiting, if that is quick, and let go of the spool."""
        ...


class ShippingSettings(Protocol):
    """The section `store` of a configuration; it can be pickled."""

    def open(self) -> Shipping:
        """Return the store."""
        ...


class Shipper:
    """Has a process ship the spool until it is closed or this process ends, however that comes.

    Args:
        settings: Those of the store.
    """

    def __init__(self, settings: ShippingSettings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._context = multiprocessing.get_context("spawn")
        # Without locks, which a process that is killed would keep; it alone writes.
        self._shipped: Any = self._context.Value("Q", 0, lock=False)
        self._error: Any = self._context.Array("c", _ERROR_BYTES, lock=False)
        self._process: Any = None
        self._ours: Connection | None = None
        self._started = 0.0
        self.start()

    @property
    def shipped(self) -> int:
        """How many inferences were shipped."""
        return int(self._shipped.value)

    @property
    def error(self) -> str:
        """Why nothing is shipped; "" if it is."""
        if self._process is not None and not self._process.is_alive():
            return f"the process that ships has ended with status {self._process.exitcode}"
        return bytes(self._error.value).decode("utf-8", "ignore")

    def start(self) -> None:
        """Start the process if it does not run, but not again and again."""
        with self._lock:
            if self._process is not None and self._process.is_alive():
                return
            if self._process is not None and time.monotonic() < self._started + _AGAIN_SECONDS:
                return
            if self._process is not None:
                logger.warning("Inferences wait in the spool: %s; it is started again", self.error)
            self._let_go()
            theirs, self._ours = self._context.Pipe(duplex=False)
            self._process = self._context.Process(
                target=_ship, args=(self._settings, theirs, self._shipped, self._error), daemon=True
            )
            self._process.start()
            theirs.close()
            self._started = time.monotonic()

    def close(self) -> None:
        """Have the process ship what is waiting, if that is quick, and end."""
        with self._lock:
            self._let_go()
            self._process.join(_END_SECONDS)
            if self._process.is_alive():
                self._process.terminate()

    def _let_go(self) -> None:
        if self._ours is not None:
            self._ours.close()


def _ship(settings: ShippingSettings, parent: Connection, shipped: Any, error: Any) -> None:
    """Ship until the other end of a connection is closed, which the end of its process does too.

    Args:
        settings: Those of the store.
        parent: The connection.
        shipped: Where to count inferences.
        error: Where to write why nothing is shipped.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the server as well
    before = shipped.value
    with contextlib.closing(settings.open()) as store:
        while not wait([parent], LOOK_SECONDS):
            store.ship()
            shipped.value = before + int(store.stats()["shipped_total"])
            error.value = store.error.encode()[: _ERROR_BYTES - 1]
