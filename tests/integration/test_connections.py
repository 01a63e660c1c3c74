"""Connections to a real server whose clients do not finish what they send."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from spam_mlflow.serving import connections

HEADER = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
_LONG = 30.0  # seconds


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(1.0)  # longer than a client has for a header
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A connection to a server that waits half a second for a header."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    http = connections.LimitedConnection
    config = uvicorn.Config(_app, http=http, log_config=None, lifespan="off", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    with socket.create_connection(listener.getsockname(), timeout=_LONG) as made:
        yield made
    server.should_exit = True
    thread.join()


def _rest(client: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    return b"".join(iter(lambda: client.recv(4096), b""))


def test_a_header_that_does_not_end_ends_the_connection(client: socket.socket) -> None:
    client.sendall(HEADER)
    answer = _rest(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"the header of the request was not there within 0.5 s" in answer


def test_bytes_that_trickle_in_give_no_more_time(client: socket.socket) -> None:
    stopped = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):  # once the server has closed the connection
            while not stopped.wait(0.1):
                client.sendall(b"a")

    client.sendall(HEADER)
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        answer = client.recv(4096)
    finally:
        stopped.set()
        thread.join()
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_request_is_closed(client: socket.socket) -> None:
    assert _rest(client) == b""


def test_later_requests_are_limited_too_and_slow_answers_are_not(client: socket.socket) -> None:
    client.sendall(HEADER + b"\r\n")
    first = client.recv(4096)
    while not first.endswith(b"ok"):
        first += client.recv(4096)
    time.sleep(0.7)  # between requests, the limit is uvicorn's
    client.sendall(HEADER)
    assert _rest(client).startswith(b"HTTP/1.1 408")
