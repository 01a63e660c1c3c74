"""The serving app with each store, timed, killed and cut off from DynamoDB.

`python -m scripts.bench_serving --stores none sqlite dynamodb` calls this.
"""

import contextlib
import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from spam_mlflow.gate.scoring_server import ScoringServer, free_port
from spam_mlflow.inference_store.dynamodb import DynamoSettings
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.store import Store, inferences
from spam_mlflow.inference_store.texts import TextPolicy

CLIENTS = 8
STORES = ("none", "sqlite", "sqlite-full", "dynamodb")
_TABLE, _REGION = "bench-inferences", "eu-central-1"
_START_SECONDS = 60
_SETTLE_SECONDS = 300  # that shipping may take afterwards
_KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}


@dataclass(frozen=True)
class Dynamo:
    """A DynamoDB server of moto's in a process of its own."""

    url: str
    process: "subprocess.Popen[bytes]"

    def overrides(self, spool: Path) -> list[str]:
        """Return the overrides of `serve` that store inferences there."""
        place = [f"store.endpoint_url={self.url}", f"store.region={_REGION}"]
        return ["store=dynamodb", *place, f"store.table={_TABLE}", f"store.spool={spool}"]

    def open(self, spool: Path) -> Store:
        """Return the store, with an empty spool of its own."""
        return DynamoSettings(
            text="plain",
            days=30,
            tokens_file=None,
            table=_TABLE,
            region=_REGION,
            endpoint_url=self.url,
            profile=None,
            spool=str(spool),
            spool_rows=1_000_000,
            synchronous="normal",
        ).open()


@contextlib.contextmanager
def dynamo(folder: Path) -> Iterator[Dynamo]:
    """Run a DynamoDB server with a table in it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    os.environ.update(_KEYS)
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(url)
        server = Dynamo(url, process)
        store = server.open(folder / "create.db")
        store.create()
        store.close()
        yield server
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(
    model_uri: str, overrides: Sequence[str], folder: Path, port: int | None = None
) -> Iterator[ScoringServer]:
    """Run `spam-mlflow serve` in a process of its own."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "spam_mlflow", "serve", f"model_uri={model_uri}"]
    start = time.perf_counter()
    with (folder / f"serve-{port}.log").open("ab") as log:
        process = subprocess.Popen([*command, f"port={port}", *overrides], stdout=log, stderr=log)
    try:
        _wait(f"{url}/ping")
        seconds = time.perf_counter() - start
        with requests.Session() as session:
            yield ScoringServer(url, process, session, seconds)
    finally:
        process.terminate()
        process.wait()


def overrides(store: str, folder: Path, server: Dynamo | None) -> list[str]:
    """Return the overrides of `serve` for one of STORES, with the texts in it."""
    if store == "none":
        return ["store=none"]
    if store == "dynamodb":
        assert server is not None
        return [*server.overrides(folder / "spool.db"), "store.text=plain"]
    synchronous = "full" if store == "sqlite-full" else "normal"
    path = f"store.path={folder / f'{store}.db'}"
    return ["store=sqlite", path, "store.text=plain", f"store.synchronous={synchronous}"]


@dataclass(frozen=True)
class Load:
    """What a server does under load.

    Attributes:
        rate: Requests a second.
        own_ms: Milliseconds of processor time that its process takes for a request.
        shipper_ms: The same of the process that ships to DynamoDB, with what it ships after the
            last one; 0 without one.
        dynamo_ms: The same of the DynamoDB server; 0 without one.
    """

    rate: float
    own_ms: float
    shipper_ms: float
    dynamo_ms: float

    @classmethod
    def of(
        cls,
        server: ScoringServer,
        dynamo: Dynamo | None,
        send: Callable[[ScoringServer, Sequence[str], int], float],
        texts: Sequence[str],
        count: int,
    ) -> "Load":
        """Put a server under load.

        Args:
            server: The server.
            dynamo: The DynamoDB server; None without one.
            send: Sends this many of the texts, and returns the requests a second.
            texts: Messages to send.
            count: How many.
        """
        own = server.listener()
        others = [psutil.Process(dynamo.process.pid)] if dynamo else []
        groups = [[own], own.children(), others]
        before = [sum(map(_cpu_seconds, group)) for group in groups]
        rate = send(server, texts, count)
        metrics = server.session.get(f"{server.url}/metrics")
        if "spool_rows" in metrics.text:
            _until(lambda: "spool_rows 0\n" in server.session.get(f"{server.url}/metrics").text)
        spent = [
            1000 * (sum(map(_cpu_seconds, group)) - start) / count
            for group, start in zip(groups, before, strict=True)
        ]
        return cls(rate, *spent)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def killed(
    model_uri: str, texts: Sequence[str], count: int, kills: int, folder: Path
) -> Mapping[str, int]:
    """Send messages from 8 clients while the server is killed at random moments.

    Args:
        model_uri: What is served.
        texts: Messages to send.
        count: How many must be answered.
        kills: How often the server is killed, and started again.
        folder: Folder for the store.

    Returns:
        How many were answered, stored, answered but not stored, and stored twice.
    """
    draw, port = random.Random(0), free_port()
    answered: list[str] = []
    path = folder / "killed.db"
    chosen = ["store=sqlite", f"store.path={path}", "store.text=plain"]
    for turn in range(kills + 1):
        wanted = count if turn == kills else int(count * (turn + draw.random()) / (kills + 1))
        with serving(model_uri, chosen, folder, port) as server:
            done = threading.Event()
            with ThreadPoolExecutor(CLIENTS) as pool:
                for _ in range(CLIENTS):
                    pool.submit(_send_on, server.url, texts, answered, done)
                while len(answered) < wanted:
                    time.sleep(0.001)
                if turn < kills:
                    os.kill(server.process.pid, signal.SIGKILL)
                done.set()
    store = SqliteStore(path, TextPolicy("plain"), 30, "normal")
    try:
        return _compared(answered, store)
    finally:
        store.close()


def cut_off(
    model_uri: str, texts: Sequence[str], seconds: float, server: Dynamo, folder: Path
) -> Mapping[str, int]:
    """Send messages from 8 clients while DynamoDB is stopped.

    Args:
        model_uri: What is served.
        texts: Messages to send.
        seconds: How long it is stopped; messages are also sent for five seconds before and after.
        server: The DynamoDB server.
        folder: Folder for the spool.

    Returns:
        As `killed`, with the number of requests that failed.
    """
    answered: list[str] = []
    spool = folder / "outage.db"
    chosen = [*server.overrides(spool), "store.text=plain"]
    done = threading.Event()
    with serving(model_uri, chosen, folder) as app, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [
            pool.submit(_send_on, app.url, texts, answered, done, 0.05) for _ in range(CLIENTS)
        ]
        time.sleep(5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        server.process.send_signal(signal.SIGCONT)
        time.sleep(5)
        done.set()
        failed = sum(client.result() for client in clients)
        _until(lambda: "spool_rows 0\n" in requests.get(f"{app.url}/metrics", timeout=60).text)
    store = server.open(folder / "read.db")
    try:
        return {"requests that failed": failed, **_compared(answered, store)}
    finally:
        store.close()


def _send_on(
    url: str,
    texts: Sequence[str],
    answered: list[str],
    done: threading.Event,
    pause: float = 0.0,
) -> int:
    """Send messages until told to end or the connection breaks; return how many failed."""
    failed = 0
    with requests.Session() as session:
        while not done.is_set():
            text = random.choice(texts)
            try:
                answer = session.post(f"{url}/invocations", json={"inputs": [text]}, timeout=60)
            except (requests.RequestException, http.client.HTTPException):
                return failed + 1
            ids = answer.json().get("inference_ids") if answer.ok else None
            if ids:
                answered.extend(ids)
            else:
                failed += 1
            time.sleep(pause)
    return failed


def _compared(answered: Sequence[str], store: Store) -> dict[str, int]:
    stored = [row.id for row in inferences(store)]
    return {
        "answered": len(answered),
        "stored": len(stored),
        "answered but not stored": len(set(answered) - set(stored)),
        "stored twice": len(stored) - len(set(stored)),
    }


def _wait(url: str) -> None:
    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(url, timeout=5).status_code > 0
        return False

    _until(answers, _START_SECONDS)


def _until(condition: Callable[[], bool], seconds: float = _SETTLE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited too long")
        time.sleep(0.05)
