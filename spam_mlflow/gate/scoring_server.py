"""MLflow's scoring server, started for as long as it is needed."""

import contextlib
import dataclasses
import os
import shlex
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
from mlflow.pyfunc.scoring_server import get_cmd

from spam_mlflow.errors import UserError
from spam_mlflow.gate import child_process
from spam_mlflow.scorer.batches import batches

_START_SECONDS = 180
_STOP_SECONDS = 30
_ANSWER_SECONDS = 120


@dataclass(frozen=True)
class ScoringServer:
    """A running server.

    Attributes:
        url: URL of the server's root, on the loopback interface.
        process: The process that was started, which may not be the one that listens.
        session: The HTTP connection to the server.
        start_seconds: Time from the start of the process to its first answer.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    session: requests.Session
    start_seconds: float

    def post(self, body: Any, content_type: str = "application/json") -> requests.Response:
        """Send a request to score and return the answer, whatever its status.

        Args:
            body: The request's body; strings and bytes are sent as they are, all else as JSON.
            content_type: The body's content type.
        """
        data = {"data": body} if isinstance(body, str | bytes) else {"json": body}
        return self.session.post(
            f"{self.url}/invocations",
            headers={"Content-Type": content_type},
            timeout=_ANSWER_SECONDS,
            **data,
        )

    def score(self, body: Any) -> list[dict[str, Any]]:
        """Send a request to score and return the predictions.

        Args:
            body: As for `post`.

        Returns:
            For each text its `label`, `spam_probability` and `ham_probability`.

        Raises:
            UserError: If the server answers with an error.
        """
        answer = self.post(body)
        if answer.status_code != requests.codes.ok:
            raise UserError(f"the scoring server answered {answer.status_code}: {answer.text}")
        return list(answer.json()["predictions"])

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the spam probability of each text, shape (texts,), float64."""
        rows = [row for batch in batches(texts) for row in self.score({"inputs": list(batch)})]
        return np.array([row["spam_probability"] for row in rows], dtype=np.float64)

    def memory_mb(self) -> float:
        """Return the resident memory, in MiB, of the process that listens, which also scores."""
        return float(self.listener().memory_info().rss) / 2**20

    def listener(self) -> psutil.Process:
        """Return the process that listens on the server's port."""
        port = int(self.url.rpartition(":")[2])
        first = psutil.Process(self.process.pid)
        return next(
            process
            for process in [*reversed(first.children(recursive=True)), first]
            if any(c.laddr.port == port for c in process.net_connections("tcp") if c.laddr)
        )

    @contextlib.contextmanager
    def another_client(self) -> "Iterator[ScoringServer]":
        """Yield the same server with a connection of its own, for use in another thread."""
        with requests.Session() as session:
            yield dataclasses.replace(self, session=session)


@contextlib.contextmanager
def running(model: Path, log: Path) -> Iterator[ScoringServer]:
    """Serve a model as `mlflow models serve` does, on a free port and with this process's packages.

    The command itself is left out, since it imports all of MLflow, which takes it two seconds
    whatever the model, and then starts this server. The server gets none of this process's
    credentials; see `child_process`.

    Args:
        model: Local folder with a logged model.
        log: File for the server's output; its home is a folder beside it.

    Yields:
        The server, once it answers.

    Raises:
        UserError: If the server does not start; the message has the log's last error.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    host: Any = "127.0.0.1"  # which MLflow annotates as a number
    command, wanted = get_cmd(str(model), port, host, nworkers=1)
    added = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    variables = {**child_process.environment(log.with_suffix(".home")), **added}
    start = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=log.parent,
            env=variables,
            stdin=subprocess.DEVNULL,
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
    """Return a TCP port of the loopback interface on which nothing listens."""
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
    words = child_process.last_words(log.read_text(encoding="utf-8", errors="replace"))
    raise UserError(f"the scoring server of {log.stem} did not start: {words}")
