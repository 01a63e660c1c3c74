"""Time the served model beside the no-op baseline and a naive Keras server.

    python -m scripts.bench_serving --data-dir FOLDER [--model-uri models:/spam-classifier@champion]
                                    [--soak 20000] [--turn 50]
    python -m scripts.bench_serving --data-dir FOLDER --stores none sqlite sqlite-full dynamodb
                                    [--kills 5] [--soak 20000] [--outage 60]

All three run at once in MLflow's scoring server, as `mlflow models serve` starts it, with the same
packages, and are measured in turns over persistent connections. A turn has 50 messages: in
turns of one, the LSTM would evict the processor's caches before every message. The naive server is
the tutorial's LSTM behind Keras's `predict`; its weights are untrained, which changes no times. The
soak test sends single messages from 8 clients while 4 others send bad and heavy requests, which are
a tenth of all, and checks every answer.

With `--stores`, the model is served by `spam-mlflow serve` with each store, beside MLflow's server,
in turns as above. `--kills` kills the server with SQLite while `--soak` messages are sent, and
`--outage` stops DynamoDB; both compare what was answered with what is stored. DynamoDB is moto's
server on the same cores.
"""

import argparse
import contextlib
import functools
import http.client
import itertools
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import requests

from scripts import bench_quality, store_servers
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import PACKAGE
from spam_mlflow.data.slow_texts import SLOW_TEXTS
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
BAD_CLIENTS = 4
PARTS = 10  # of a soak test
_LONGEST_REFUSAL = 500  # characters
BAD: dict[str, tuple[Any, str]] = {
    **{name: (body, "application/json") for name, body in service.BAD_BODIES.items()},
    "1 MB text": ({"inputs": ["a" * 2**20]}, "application/json"),
    "content type": ("text", "text/plain"),
    "no Parquet": (b"PAR1" + bytes(4096) + b"PAR1", "application/vnd.apache.parquet"),
    "CSV": ('text\n"', "text/csv"),
    "misspelled": ({"inputs": ["a"], "params": {"thresold": 0.5}}, "application/json"),
    "nested": ("[" * 100_000, "application/json"),
    "5,001 texts and a null": ({"inputs": ["a secret " * 3] * 5001 + [None]}, "application/json"),
    "too many texts": ({"inputs": ["a"] * 100_001}, "application/json"),
    "20 MB": (b'{"inputs": ["' + b"a" * 20_000_000 + b'"]}', "application/json"),
    "many lists": (b'{"inputs": [' + b"[]," * 349_990 + b"[]]}", "application/json"),
    "many names": (
        json.dumps({"inputs": {str(number): 1.5 for number in range(200_000)}}),
        "application/json",
    ),
    "20 MB of values": (b'{"inputs": [' + b"1," * 9_999_990 + b"1]}", "application/json"),
}
"""Bodies that are refused, with their content type."""

HEAVY: dict[str, Any] = {
    **{
        name: {"inputs": [text], "params": {"explain": number % 2 == 0}}
        for number, (name, text) in enumerate(SLOW_TEXTS.items())
    },
    "16 texts": {"inputs": [*SLOW_TEXTS.values(), "a" * 200_000]},
    "200 runs": {"inputs": [f"{number}freeringtone" * 80 for number in range(200)]},
    "20,000 texts": {"inputs": ["Text WIN to 80086 now"] * 20_000},
}
"""Bodies that are answered, but take long."""


@dataclass(frozen=True)
class Soak:
    """The result of a soak test.

    Attributes:
        good: Number of single messages.
        bad: Number of requests that must be refused.
        heavy: Number of large requests.
        wrong: Number of single messages with a wrong answer.
        unrefused: Number of bad requests without a clean 4xx answer, by kind.
        unanswered: Number of large requests without an answer, by kind and status.
        p99_ms: 99th percentile of the single messages' latency, without the bad and the large
            requests and with them.
        memory_mb: Resident memory of the server at the start, after a tenth of the requests and at
            the end.
        same_process: Whether the server's process was the same at the end.
    """

    good: int
    bad: int
    heavy: int
    wrong: int
    unrefused: Counter[str]
    unanswered: Counter[str]
    p99_ms: tuple[float, float]
    memory_mb: tuple[float, float, float]
    same_process: bool


def soak(server: ScoringServer, texts: Sequence[str], count: int) -> Soak:
    """Send many single messages while other clients send bad and heavy requests.

    Args:
        server: The server.
        texts: Messages to send.
        count: Number of requests, at least 100; a tenth of them are bad or heavy.
    """
    pid, memory = server.listener().pid, [server.memory_mb()]
    expected = server.spam_probability(texts)
    disturbing = itertools.chain.from_iterable(
        zip(itertools.cycle(BAD), itertools.cycle(HEAVY), strict=False)
    )
    alone: list[tuple[bool, float]] = []
    good: list[tuple[bool, float]] = []
    others: list[tuple[str, str]] = []
    # A process of their own, as on a machine of their own, so that they delay no measurement.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(_disturb, server.url, []).result()
        for _ in range(PARTS):  # in turns, since the machine may have other work at times
            alone += _messages(server, texts, expected, count // PARTS // 5)
            kinds = list(itertools.islice(disturbing, count // PARTS // 10))
            asked = pool.submit(_disturb, server.url, kinds)
            good += _messages(server, texts, expected, count // PARTS - len(kinds))
            others += asked.result()
            memory.append(server.memory_mb())
    return Soak(
        good=len(good),
        bad=sum(name in BAD for name, _ in others),
        heavy=sum(name in HEAVY for name, _ in others),
        wrong=sum(not right for right, _ in [*alone, *good]),
        unrefused=Counter(f"{name}: {fault}" for name, fault in others if fault and name in BAD),
        unanswered=Counter(f"{name}: {fault}" for name, fault in others if fault and name in HEAVY),
        p99_ms=(_p99_ms(alone), _p99_ms(good)),
        memory_mb=(memory[0], memory[1], memory[-1]),
        same_process=server.listener().pid == pid,
    )


def _disturb(url: str, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Send bad and heavy requests; return the kind of each, and what was wrong with its answer."""

    def work(first: int) -> list[tuple[str, str]]:
        with requests.Session() as session:
            return [
                (kind, _fault(kind, _post(session, url, kind)))
                for kind in kinds[first::BAD_CLIENTS]
            ]

    with ThreadPoolExecutor(BAD_CLIENTS) as pool:
        return list(itertools.chain.from_iterable(pool.map(work, range(BAD_CLIENTS))))


def _post(session: requests.Session, url: str, kind: str) -> requests.Response:
    body, content_type = _request(kind)
    headers = {"Content-Type": content_type}
    return session.post(f"{url}/invocations", data=body, headers=headers, timeout=300)


@functools.cache
def _request(kind: str) -> tuple[bytes | str, str]:
    """Return the body of a bad or heavy request, and its content type."""
    body, content_type = BAD[kind] if kind in BAD else (HEAVY[kind], "application/json")
    return body if isinstance(body, str | bytes) else json.dumps(body), content_type


def _fault(kind: str, answer: requests.Response) -> str:
    """Return what is wrong with the answer to a bad or heavy request; "" if nothing is."""
    if kind in HEAVY:
        rows = answer.json()["predictions"] if answer.ok else []
        sound = rows and all(0 <= row["spam_probability"] <= 1 for row in rows)
        return "" if sound else str(answer.status_code)
    refused = requests.codes.bad <= answer.status_code < requests.codes.server_error
    short = 0 < len(answer.text) < _LONGEST_REFUSAL and "secret" not in answer.text
    return "" if refused and short and "Traceback" not in answer.text else str(answer.status_code)


def _messages(
    server: ScoringServer, texts: Sequence[str], expected: np.ndarray, count: int
) -> list[tuple[bool, float]]:
    """Send single messages from 8 clients; return whether each answer was right, and its ms."""

    def work(first: int) -> list[tuple[bool, float]]:
        client, found = Client(server), []
        for number in range(first, count, CLIENTS):
            at = number % len(texts)
            start = time.perf_counter()
            rows = client.predictions([texts[at]])
            taken = 1000 * (time.perf_counter() - start)
            found.append((abs(rows[0]["spam_probability"] - expected[at]) < 1e-9, taken))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(itertools.chain.from_iterable(pool.map(work, range(CLIENTS))))


def _p99_ms(answers: Sequence[tuple[bool, float]]) -> float:
    return float(np.percentile([taken for _, taken in answers], 99))


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
        self._send(body)
        return time.perf_counter() - start

    def predictions(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the server's predictions."""
        body = json.dumps({"inputs": list(texts)}).encode()
        return list(json.loads(self._send(body))["predictions"])

    def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/invocations", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the server answered {answer.status}")
        return content


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


def _measure_stores(arguments: argparse.Namespace, texts: Sequence[str]) -> None:
    """Print the times of each store, and what was lost."""
    uri = arguments.model_uri
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        dynamo = None
        if "dynamodb" in arguments.stores or arguments.outage:
            dynamo = stack.enter_context(store_servers.dynamo(folder))
        with contextlib.ExitStack() as servers:
            model = loading.download(uri, folder / "served")
            running = {
                "MLflow's server": servers.enter_context(
                    scoring_server.running(model, folder / "mlflow.log")
                )
            }
            for store in arguments.stores:
                chosen = store_servers.overrides(store, folder, dynamo)
                app = servers.enter_context(store_servers.serving(uri, chosen, folder))
                running[f"store={store}"] = app
            table = _store_table(running, texts, arguments.requests, arguments.turn, dynamo)
            print(table, flush=True)
        if arguments.kills:
            count = arguments.soak or 20_000
            print("killed:", store_servers.killed(uri, texts, count, arguments.kills, folder))
        if arguments.outage and dynamo is not None:
            found = store_servers.cut_off(uri, texts, arguments.outage, dynamo, folder)
            print("without DynamoDB:", found)


def _store_table(
    servers: dict[str, ScoringServer],
    texts: Sequence[str],
    count: int,
    turn: int,
    dynamo: store_servers.Dynamo | None,
) -> str:
    """Return what each server takes, and the ratios to the first one's.

    The processor time is that of the server's own process; that of what ships and of the
    DynamoDB server, which have the same cores, is beside it.
    """
    latency = np.median(_latency_ms(list(servers.values()), texts, count, turn), axis=1)
    loads = [
        [
            store_servers.Load.of(s, dynamo, _requests_per_second, texts, 5 * count)
            for s in servers.values()
        ]
        for _ in range(ROUNDS // 2)
    ]
    rate, own, shipper, other = np.median(
        [
            [(load.rate, load.own_ms, load.shipper_ms, load.dynamo_ms) for load in turn]
            for turn in loads
        ],
        axis=0,
    ).T
    columns = (latency, rate, own)
    heads = ("p50, ms", f"requests/s, {CLIENTS} clients", "CPU ms a request")
    rows = [
        (
            name,
            *itertools.chain.from_iterable(
                (f"{column[at]:.3g}", f"{column[at] / column[0]:.2f}") for column in columns
            ),
            f"{shipper[at]:.2f}",
            f"{other[at]:.2f}",
        )
        for at, name in enumerate(servers)
    ]
    beside = ("CPU ms of its shipper", "CPU ms of DynamoDB's server")
    return markdown(("", *(head for name in heads for head in (name, "ratio")), *beside), rows)


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
    parser.add_argument("--stores", nargs="+", choices=store_servers.STORES, default=())
    parser.add_argument("--kills", type=int, default=0, help="of the server with SQLite")
    parser.add_argument("--outage", type=float, default=0, help="seconds without DynamoDB")
    arguments = parser.parse_args()
    if min(arguments.turn, arguments.requests) < 1:
        parser.error("--turn and --requests must be 1 or more")
    runs.connect()
    texts = bench_quality.load(arguments.data_dir)["text"].tolist()
    if arguments.stores:
        _measure_stores(arguments, texts)
        return
    keras_backend.load()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        gate.save_noop(folder / "noop")
        models = {
            "no-op baseline": folder / "noop",
            "served model": loading.download(arguments.model_uri, folder / "served"),
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
