"""Time the served model beside the no-op baseline and a naive Keras server.

    python -m scripts.bench_serving --data-dir FOLDER [--model-uri models:/spam-classifier@champion]
                                    [--soak 20000] [--turn 50]

All three run at once in MLflow's scoring server (`mlflow models serve --env-manager local`), with
the same packages, and are measured in turns over persistent connections. A turn has 50 messages: in
turns of one, the LSTM would evict the processor's caches before every message. The naive server is
the tutorial's LSTM behind Keras's `predict`; its weights are untrained, which changes no times. The
soak test sends valid and invalid requests from 8 clients and checks every answer.
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
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import PACKAGE
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.gate import gate, scoring_server, service
from spam_mlflow.gate.scoring_server import ScoringServer
from spam_mlflow.registry import loading, model_logging
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.classifier import Classifier, Metadata
from spam_mlflow.tracking import runs

CLIENTS = 8
BATCHES = (256, 4096)
ROUNDS = 12  # batches that are timed, after as many to warm up
BAD: dict[str, tuple[Any, str]] = {
    **{name: (body, "application/json") for name, body in service.BAD_BODIES.items()},
    "1 MB text": ({"inputs": ["a" * 2**20]}, "application/json"),
    "content type": ("text", "text/plain"),
}


@dataclass(frozen=True)
class Soak:
    """The result of a soak test.

    Attributes:
        good: Number of valid requests.
        bad: Number of invalid requests.
        wrong: Number of valid requests with a wrong answer.
        unrefused: Number of invalid requests without a clean 4xx answer, by kind.
        memory: Resident MB of the server after a tenth of the requests and at the end.
        same_process: Whether the server's process was the same at the end.
    """

    good: int
    bad: int
    wrong: int
    unrefused: Counter[str]
    memory: tuple[float, float]
    same_process: bool


def soak(server: ScoringServer, texts: Sequence[str], count: int) -> Soak:
    """Send many requests from 8 clients, every tenth an invalid one, and check every answer.

    Args:
        server: The server.
        texts: Texts of the valid requests.
        count: Number of requests.
    """
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
    """Yield the results of `ask` for all `numbers`, from 8 clients with a connection each."""

    def work(client: int) -> list[Any]:
        with server.another_client() as mine:
            return [ask(mine, number) for number in numbers[client::CLIENTS]]

    with ThreadPoolExecutor(CLIENTS) as pool:
        yield from itertools.chain.from_iterable(pool.map(work, range(CLIENTS)))


def _save_naive(texts: list[str], folder: Path) -> Path:
    """Save the tutorial's LSTM, untrained, with a pyfunc model that calls Keras's `predict`."""
    architecture = validate("main", compose("main", ["model=tutorial_lstm"])).model
    vectorizer = architecture.vectorizer()
    vectorizer.fit_transform(texts)
    network = architecture.build(vectorizer, 0.001, 1)
    metadata = Metadata(
        "tutorial_lstm", 0.5, 0.5, vectorizer.max_words, vectorizer.max_sequence, ""
    )
    Classifier(vectorizer, network, metadata).save(folder / "files")
    with model_logging.quiet_mlflow():
        mlflow.pyfunc.save_model(
            folder / "naive",
            python_model=str(Path(__file__).parent / "naive" / "pyfunc_model.py"),
            artifacts={"classifier": str(folder / "files")},
            code_paths=[str(PACKAGE)],
            signature=model_logging.signature(0.5),
            input_example=pd.DataFrame({"text": model_logging.EXAMPLES}),
            pip_requirements=[],
        )
    return folder / "naive"


class Client:
    """A persistent connection with as little overhead as possible, for timing.

    Args:
        server: The server to connect to.
    """

    def __init__(self, server: ScoringServer) -> None:
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        self._connection.connect()

    def seconds(self, texts: Sequence[str]) -> float:
        """Return the seconds from sending `texts` to the end of the answer."""
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
    """Return the milliseconds of `count` single messages per server, shape (servers, count)."""
    endless = itertools.cycle(texts)
    taken: list[list[float]] = [[] for _ in servers]
    while len(taken[-1]) < turn + count:
        asked = list(itertools.islice(endless, turn))
        for server, seconds in zip(servers, taken, strict=True):
            client = Client(server)  # a new one: the server closes connections that idle for 5 s
            seconds += [client.seconds([text]) for text in asked]
    return 1000 * np.array(taken)[:, turn : turn + count]  # the first turn is a warm-up


def _requests_per_second(server: ScoringServer, texts: Sequence[str], count: int) -> float:
    """Return the throughput of `count` single messages from 8 clients."""

    def work(number: int) -> None:
        client = Client(server)
        for at in range(number, count, CLIENTS):
            client.seconds([texts[at % len(texts)]])

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    return count / (time.perf_counter() - start)


def _messages_per_second(server: ScoringServer, texts: Sequence[str], size: int) -> float:
    """Return the median throughput in batches of `size` messages, after a warm-up."""
    endless, client = itertools.cycle(texts), Client(server)
    taken = [client.seconds(list(itertools.islice(endless, size))) for _ in range(2 * ROUNDS)]
    return size / float(np.median(taken[ROUNDS:]))


def measure(
    servers: dict[str, ScoringServer], texts: Sequence[str], count: int, turn: int
) -> pd.DataFrame:
    """Return the measurements of each server.

    Args:
        servers: The servers by name.
        texts: Messages to send.
        count: Number of single messages whose latency is measured.
        turn: Number of messages that a server gets in a row.

    Returns:
        A row for each server; units are in the names of the columns.
    """
    latency = _latency_ms(list(servers.values()), texts, count, turn)
    rows = {}
    for (name, server), taken in zip(servers.items(), latency, strict=True):
        slow = np.median(taken) > 50  # ms; a slow server gets fewer requests
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
    parser.add_argument("--model-uri", default=f"models:/{runs.REGISTERED_MODEL}@champion")
    parser.add_argument("--requests", type=int, default=400, help="single messages to time")
    parser.add_argument("--turn", type=int, default=50, help="single messages in a row per server")
    parser.add_argument("--soak", type=int, default=0, help="requests of the soak test; 0: no test")
    arguments = parser.parse_args()
    if min(arguments.turn, arguments.requests) < 1:
        parser.error("--turn and --requests must be 1 or more")
    runs.connect()
    texts = bench_quality.load(arguments.data_dir)["text"].tolist()
    keras_backend.load()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        gate.save_noop(folder / "noop")
        models = {
            "no-op baseline": folder / "noop",
            "served model": loading.download(arguments.model_uri),
            "LSTM behind `predict`": _save_naive(texts, folder),
        }
        servers = {
            name: stack.enter_context(scoring_server.running(model, folder / f"{number}.log"))
            for number, (name, model) in enumerate(models.items())
        }
        table = measure(servers, texts, arguments.requests, arguments.turn)
        table.loc["served model / no-op baseline"] = table.iloc[1] / table.iloc[0]
        rows = [
            (name, *("-" if np.isnan(x) else f"{x:,.4g}" for x in row))
            for name, row in zip(table.index, table.to_numpy(), strict=True)
        ]
        print(markdown(("", *table.columns), rows), flush=True)
        if arguments.soak:
            print(soak(servers["served model"], texts[:500], arguments.soak))


if __name__ == "__main__":
    main()
