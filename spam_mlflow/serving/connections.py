"""Connections of clients that never finish the header of a request."""

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from spam_mlflow.scorer.request_bodies import refusal

HEADER_SECONDS = 30.0
"""Seconds that a client has for the header of a request."""


class LimitedConnection(H11Protocol):
    """A connection that ends if the header of a request is not there in time.

    uvicorn limits the time between requests alone, and waits for ever for the rest of a header and
    for the first request of a connection.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read what has come; where a header has only begun, its rest must come in time."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_wait()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end_wait()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._refuse)

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        """Say that the request was not there in time, if any of it was, and end the connection."""
        begun, _ = self.conn.trailing_data
        if begun and not self.transport.is_closing():
            why = f"the header of the request was not there within {HEADER_SECONDS:g} s"
            for part in _answer(HTTPStatus.REQUEST_TIMEOUT, why):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


def _answer(status: HTTPStatus, why: str) -> list[Any]:
    body = refusal(status, why).encode()
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    head = h11.Response(status_code=int(status), headers=headers, reason=status.phrase.encode())
    return [head, h11.Data(data=body), h11.EndOfMessage()]
