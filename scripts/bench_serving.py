"""Time the served model beside the floor, a model that does nothing, and the obvious Keras server.

    python -m scripts.bench_serving --data-dir FOLDER [--model-uri models:/spam-classifier@champion]
                                    [--soak 20000] [--turn 50]

All three run at once in MLflow's scoring server (`mlflow models serve --env-manager local`), in
the same packages, and are measured in turns over kept-alive connections. A turn is 50 messages
long: in turns of one, every message would meet the processor's caches as the LSTM left them. The
obvious server is the tutorial's LSTM behind Keras's `predict`; its weights are untrained, which
changes no time. The soak sends good and bad requests from 8 clients and checks every answer.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import requests

from scripts import bench_quality
from spam_mlflow import (
    config,
    gate,
    keras_backend,
    registry,
    scoring_server,
    tables,
    tracking,
    wiring,
)
from spam_mlflow.classifier import Classifier, Metadata
from spam_mlflow.scoring_server import ScoringServer

CLIENTS = 8
BATCHES = (256, 4096)
ROUNDS = 12  # of batches, the median is shown; as many others come first, uncounted
BAD: dict[str, tuple[Any, str]] = {
    **{name: (body, "application/json") for name, body in gate.BAD_BODIES.items()},
    "1 MB text": ({"inputs": ["a" * 2**20]}, "application/json"),
    "content type": ("text", "text/plain"),
}


@dataclass(frozen=True)
class Soak:
    """What came of many mixed requests.

    wrong: good requests with a wrong answer; unrefused: bad ones without a clean 4xx.
    memory: resident MB after a tenth of the requests and at the end.
    """

    good: int
    bad: int
    wrong: int
    unrefused: Counter[str]
    memory: tuple[float, float]
    same_process: bool


def soak(server: ScoringServer, texts: Sequence[str], count: int) -> Soak:
    """Send `count` requests from 8 clients, every tenth a bad one, and check every answer."""
    expected = server.spam_probability(texts)
    bad = itertools.cycle(BAD.items())
    kinds = [next(bad) if number % 10 == 0 else None for number in range(count)]
    pid = server.listener().pid

    def ask(client: ScoringServer, number: int) -> tuple[str, bool]:
        kind = kinds[number]
        if kind is None:
            at = number % len(texts)
            found = client.score({"inputs": [texts[at]]})[0]["spam_probability"]
            return "good", abs(found - expected[at]) < 1e-9
        name, (body, content_type) = kind
        answer = client.post(body, content_type)
        refused = requests.codes.bad <= answer.status_code < requests.codes.server_error
        return name, refused and "Traceback" not in answer.text and bool(answer.text)

    warm = count // 10
    answers = list(_from_clients(server, ask, range(warm)))
    before = server.memory_mb()
    answers += _from_clients(server, ask, range(warm, count))
    good = [right for name, right in answers if name == "good"]
    return Soak(
        good=len(good),
        bad=len(answers) - len(good),
        wrong=good.count(False),
        unrefused=Counter(name for name, right in answers if name != "good" and not right),
        memory=(before, server.memory_mb()),
        same_process=server.listener().pid == pid,
    )


def _from_clients(
    server: ScoringServer, ask: Callable[[ScoringServer, int], Any], numbers: Sequence[int]
) -> Iterator[Any]:
    """Yield the answers to all `numbers`, asked by 8 clients with a connection each."""

    def work(client: int) -> list[Any]:
        with server.another_client() as mine:
            return [ask(mine, number) for number in numbers[client::CLIENTS]]

    with ThreadPoolExecutor(CLIENTS) as pool:
        yield from itertools.chain.from_iterable(pool.map(work, range(CLIENTS)))


def _save_naive(texts: list[str], folder: Path) -> Path:
    """Write the tutorial's LSTM, untrained, with a servable that calls Keras's `predict`."""
    architecture = wiring.build(config.compose("main", ["model=seed_lstm"]).model)
    vectorizer = architecture.vectorizer()
    vectorizer.fit_transform(texts)
    network = architecture.build(vectorizer, 0.001, 1)
    metadata = Metadata("seed_lstm", 0.5, 0.5, vectorizer.max_words, vectorizer.max_sequence, "")
    Classifier(vectorizer, network, metadata).save(folder / "files")
    with registry.quiet():
        mlflow.pyfunc.save_model(
            folder / "naive",
            python_model=str(Path(__file__).parent / "naive" / "servable.py"),
            artifacts={"classifier": str(folder / "files")},
            code_paths=[str(config.ROOT / "spam_mlflow")],
            signature=registry.signature(0.5),
            input_example=pd.DataFrame({"text": registry.EXAMPLES}),
            pip_requirements=[],
        )
    return folder / "naive"


class Client:
    """A kept-alive connection with as little work of its own as can be, for timing."""

    def __init__(self, server: ScoringServer) -> None:
        """Connect to `server`."""
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        self._connection.connect()

    def seconds(self, texts: Sequence[str]) -> float:
        """Return the seconds from sending `texts` to having read the answer."""
        body = json.dumps({"inputs": list(texts)}).encode()
        start = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/invocations", body, headers)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the server answered {answer.status}")
        return time.perf_counter() - start


def _latency_ms(
    servers: Sequence[ScoringServer], texts: Sequence[str], count: int, turn: int
) -> np.ndarray:
    """Return milliseconds of `count` single messages, measured in turns; shape (servers, count)."""
    endless = itertools.cycle(texts)
    taken: list[list[float]] = [[] for _ in servers]
    while len(taken[-1]) < turn + count:
        asked = list(itertools.islice(endless, turn))
        for server, seconds in zip(servers, taken, strict=True):
            client = Client(server)  # a new one: the server closes what was idle for five seconds
            seconds += [client.seconds([text]) for text in asked]
    return 1000 * np.array(taken)[:, turn : turn + count]  # the first turn is not counted


def _requests_per_second(server: ScoringServer, texts: Sequence[str], count: int) -> float:
    def work(number: int) -> None:
        client = Client(server)
        for at in range(number, count, CLIENTS):
            client.seconds([texts[at % len(texts)]])

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    return count / (time.perf_counter() - start)


def _messages_per_second(server: ScoringServer, texts: Sequence[str], size: int) -> float:
    """Return the median over batches of `size` messages, after as many other messages."""
    endless, client = itertools.cycle(texts), Client(server)
    taken = [client.seconds(list(itertools.islice(endless, size))) for _ in range(2 * ROUNDS)]
    return size / float(np.median(taken[ROUNDS:]))


def measure(
    servers: dict[str, ScoringServer], texts: Sequence[str], count: int, turn: int
) -> pd.DataFrame:
    """Return the figures of each server, one row each."""
    latency = _latency_ms(list(servers.values()), texts, count, turn)
    rows = {}
    for (name, server), taken in zip(servers.items(), latency, strict=True):
        slow = np.median(taken) > 50  # ms; such a server gets fewer requests
        rows[name] = {
            "start, s": server.start_seconds,
            "memory, MB": server.memory_mb(),
            "p50, ms": float(np.median(taken)),
            "p99, ms": float(np.percentile(taken, 99)),
            f"requests/s, {CLIENTS} clients": _requests_per_second(
                server, texts, count // 10 if slow else 5 * count
            ),
        } | {
            f"messages/s in {size}s": _messages_per_second(server, texts, size)
            for size in (BATCHES[:1] if slow else BATCHES)
        }
    return pd.DataFrame(rows).T


def main() -> None:
    """Run what the command line asks for and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--model-uri", default=f"models:/{tracking.REGISTERED_MODEL}@champion")
    parser.add_argument("--requests", type=int, default=400, help="single messages to time")
    parser.add_argument("--turn", type=int, default=50, help="single messages in a row for each")
    parser.add_argument("--soak", type=int, default=0, help="mixed requests to soak with")
    arguments = parser.parse_args()
    if min(arguments.turn, arguments.requests) < 1:
        parser.error("--turn and --requests must be 1 or more")
    tracking.connect()
    texts = bench_quality.load(arguments.data_dir)["text"].tolist()
    keras_backend.load()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        registry.save_noop(folder / "noop")
        models = {
            "does nothing": folder / "noop",
            "served model": registry.download(arguments.model_uri),
            "LSTM behind `predict`": _save_naive(texts, folder),
        }
        servers = {
            name: stack.enter_context(scoring_server.running(model, folder / f"{number}.log"))
            for number, (name, model) in enumerate(models.items())
        }
        table = measure(servers, texts, arguments.requests, arguments.turn)
        table.loc["served model / does nothing"] = table.iloc[1] / table.iloc[0]
        rows = [
            (name, *("-" if np.isnan(x) else f"{x:,.4g}" for x in row))
            for name, row in zip(table.index, table.to_numpy(), strict=True)
        ]
        print(tables.markdown(("", *table.columns), rows), flush=True)
        if arguments.soak:
            print(soak(servers["served model"], texts[:500], arguments.soak))


if __name__ == "__main__":
    main()
