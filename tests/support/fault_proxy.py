"""An HTTP proxy that passes everything on, counts it, and misbehaves where it is told to."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")


@dataclass(frozen=True)
class Answer:
    """An answer of the proxy's own, as an S3 store gives it."""

    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()
    more: str = ""  # XML elements besides the code

    @property
    def body(self) -> bytes:
        text = f"<Error><Code>{self.code}</Code><Message>{self.code}</Message>{self.more}</Error>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


@dataclass(frozen=True)
class Reset:
    """Half of the request is read, then the connection is reset."""


@dataclass(frozen=True)
class Truncate:
    """Half of the answer's body is sent, then the connection is closed."""


@dataclass(frozen=True)
class Stall:
    """Nothing is sent for some seconds, then the request is passed on."""

    seconds: float


@dataclass(frozen=True)
class Call:
    """Something happens, then the request is passed on."""

    function: Callable[[], None]


SLOW_DOWN = Answer(503, "SlowDown")
Fault = Answer | Reset | Truncate | Stall | Call


@dataclass
class Rule:
    fault: Fault
    method: str
    path: str  # part of the request's path
    times: int


@dataclass
class Proxy:
    """url: where it listens. requests: method and path of each request, in order."""

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(self, fault: Fault, method: str = "", path: str = "", times: int = 10**6) -> Rule:
        """Have the next `times` requests of that method whose path holds `path` meet `fault`."""
        rule = Rule(fault, method, path, times)
        with self.lock:
            self.rules.append(rule)
        return rule

    def heal(self) -> None:
        with self.lock:
            self.rules.clear()

    def note(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            for rule in self.rules:
                if rule.times and rule.method in ("", method) and rule.path in path:
                    rule.times -= 1
                    return rule.fault
        return None

    def count(self, method: str) -> int:
        return sum(found == method for found, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]
    target: ClassVar[str]
    rename_host: ClassVar[bool]

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""

    def pass_on(self) -> None:
        fault = self.proxy.note(self.command, self.path)
        if isinstance(fault, Reset):
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            # With no time to linger, closing sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if isinstance(fault, Stall):
            time.sleep(fault.seconds)
        if isinstance(fault, Call):
            fault.function()
        body = self.read_body()
        if isinstance(fault, Answer):
            self.reply(
                fault.status, [("Content-Type", "application/xml"), *fault.headers], fault.body
            )
            return
        try:
            status, headers, content = self.forward(body)
        except OSError:
            self.close_connection = True
            return
        self.reply(status, headers, content, truncate=isinstance(fault, Truncate))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = pass_on  # noqa: N815

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target = urlsplit(self.target)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() == "host" and self.rename_host:
                    value = target.netloc  # noqa: PLW2901
                if name.lower() not in (*_HOP_BY_HOP, "expect", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def reply(
        self, status: int, headers: list[tuple[str, str]], body: bytes, truncate: bool = False
    ) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # of a HEAD's answer, whose body is not sent
            elif name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if truncate:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def between(target: str, rename_host: bool = False) -> Iterator[Proxy]:
    """Yield a proxy in front of the server at the HTTP address `target`.

    rename_host: give the server its own name as Host. S3 signs that header, so not there.
    """
    proxy = Proxy()
    handler = type(
        "Handler", (_Handler,), {"target": target, "proxy": proxy, "rename_host": rename_host}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
