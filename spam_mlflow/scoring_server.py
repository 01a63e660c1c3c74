"""MLflow's real scoring server, started for as long as it is needed."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

from spam_mlflow.errors import UserError

_START_SECONDS = 180
_STOP_SECONDS = 30
_ANSWER_SECONDS = 120
_SHOWN = 2000  # characters of a server's log that an error repeats


@dataclass(frozen=True)
class ScoringServer:
    """A running server.

    url: of its root, on the loopback interface.
    start_seconds: from the start of the process to its first answer.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    session: requests.Session
    start_seconds: float

    def post(self, body: Any, content_type: str = "application/json") -> requests.Response:
        """Return the answer to `body`: a string or bytes as they are, all else as JSON."""
        data = {"data": body} if isinstance(body, str | bytes) else {"json": body}
        return self.session.post(
            f"{self.url}/invocations",
            headers={"Content-Type": content_type},
            timeout=_ANSWER_SECONDS,
            **data,
        )

    def score(self, body: Any) -> list[dict[str, Any]]:
        """Return the rows of the answer.

        Raises UserError where the server refuses.
        """
        answer = self.post(body)
        if answer.status_code != requests.codes.ok:
            raise UserError(f"the scoring server answered {answer.status_code}: {answer.text}")
        return list(answer.json()["predictions"])

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        return np.array([row["spam_probability"] for row in self.score({"inputs": list(texts)})])

    def memory_mb(self) -> float:
        """Return the resident memory of the process that listens, and so scores."""
        return float(self.listener().memory_info().rss) / 2**20

    def listener(self) -> psutil.Process:
        """Return the process that listens."""
        port = int(self.url.rpartition(":")[2])
        first = psutil.Process(self.process.pid)
        return next(
            process
            for process in [*reversed(first.children(recursive=True)), first]
            if any(c.laddr.port == port for c in process.net_connections("tcp") if c.laddr)
        )

    @contextlib.contextmanager
    def another_client(self) -> "Iterator[ScoringServer]":
        """Yield the same server behind a connection of its own, for use in another thread."""
        with requests.Session() as session:
            yield dataclasses.replace(self, session=session)


@contextlib.contextmanager
def running(model: Path, log: Path) -> Iterator[ScoringServer]:
    """Serve the model in the folder `model` with `mlflow models serve`, on a free port.

    It runs in the packages of this process. log: file for what the server prints.

    Raises UserError, with the end of the log, where the server does not start.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    # The model must bring its own code: the project's is not on the path, nor in the folder.
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    start = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=variables,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        _wait(url, process, log)
        seconds = time.perf_counter() - start
        with requests.Session() as session:
            yield ScoringServer(url, process, session, seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        time.sleep(0.05)
    text = log.read_text(encoding="utf-8", errors="replace")
    raise UserError(f"the scoring server did not start; the end of its log:\n{text[-_SHOWN:]}")
