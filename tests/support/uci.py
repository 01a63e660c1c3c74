"""UCI's files: a folder with them, and a server that gives them out badly."""

import http.server
import io
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spam_mlflow.data.sources.uci import UciFiles

NOWHERE = "http://127.0.0.1:9"


def local_files(folder: Path) -> UciFiles:
    """Return access to the files in `folder`, and to nothing else."""
    return UciFiles(str(folder), cache_dir=None, base_url=NOWHERE, timeout=1, retries=0)


def zipped(folder: Path, names: Iterable[str]) -> bytes:
    """Return the files `names` of `folder` as a zip like UCI's."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)
        archive.writestr("__MACOSX/._junk", b"junk")
    return buffer.getvalue()


class UciServer(http.server.ThreadingHTTPServer):
    """Serves UCI's two archives; the first `failures` requests get `fault`."""

    def __init__(self, archives: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archives, self.requests = archives, list[str]()
        self.failures, self.fault = 0, "error"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet when a client has hung up, as it should after a stall."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: UciServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        body = self.server.archives[self.path.lstrip("/")]
        fault = self.server.fault if len(self.server.requests) <= self.server.failures else ""
        if fault == "error":
            self.send_error(503)
            return
        if fault == "stall":
            time.sleep(3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "torn" else body)

    def log_message(self, *arguments: Any) -> None:
        pass
