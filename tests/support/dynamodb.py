"""Two DynamoDB servers of other people: moto's, and dynalite, which keeps to DynamoDB's limits."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest
import requests

from spam_mlflow.gate.scoring_server import free_port

_VERSION = "4.0.0"
_FOLDER = Path(pooch.os_cache("spam_mlflow-tests")) / f"dynalite-{_VERSION}"


def dynalite_program() -> Path:
    """Return dynalite, which npm installs once; skip the test where it cannot."""
    program = _FOLDER / "node_modules" / ".bin" / "dynalite"
    if not program.is_file():
        command = ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix"]
        try:
            done = subprocess.run(
                [*command, str(_FOLDER), f"dynalite@{_VERSION}"],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm cannot install dynalite: {error}")
        if done.returncode:
            pytest.skip(f"npm cannot install dynalite: {done.stderr[-200:]}")
    return program


@contextlib.contextmanager
def dynalite() -> Iterator[str]:
    """Run dynalite on the loopback interface, and yield its address."""
    port = free_port()
    command = [str(dynalite_program()), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*command, "--createTableMs", "0"], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def wait_for(url: str) -> None:
    """Return when a server answers, whatever it answers."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(url, timeout=5)
            return
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.05)
