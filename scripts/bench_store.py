"""Time what the SQLite store takes to make inferences durable, and say what a power failure costs.

    python -m scripts.bench_store [--rows 4000] [--folder FOLDER]

Each row of the table is a new store, into which 1 or 8 threads put inferences one by one. With
`synchronous=full`, each transaction waits for the disk, and threads that wait at the same time
share one. With `normal`, only checkpoints of SQLite's log do: what a power failure costs at most is
what the file lacks without its log, which is looked at after every few rows. FOLDER is on the disk
that is measured; the system's folder for temporary files may be in memory.
"""

import argparse
import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.inference_store.records import DAY_SECONDS, Inference, new_id, timestamp
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.texts import TextPolicy

THREADS = (1, 8)
_LOOK_EVERY = 50  # rows
_SWITCH_SECONDS = 0.0002  # as a scoring server has it
_TEXT = "Free entry in a weekly competition, text WIN to 80086 now and claim your prize of 1,000"


@dataclass(frozen=True)
class Durability:
    """What a store does with inferences that come one by one.

    Attributes:
        rate: Inferences a second.
        p50_ms: Median of the milliseconds until one is stored.
        p99_ms: Their 99th percentile.
        at_risk: Inferences that were stored in the log alone at most; None if the disk had the log.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    at_risk: int | None


def measure(folder: Path, synchronous: str, threads: int, rows: int) -> Durability:
    """Put inferences into a new store.

    Args:
        folder: An empty folder for it.
        synchronous: "normal" or "full".
        threads: How many put them in.
        rows: How many inferences there are.
    """
    path = folder / "inferences.db"
    store = SqliteStore(path, TextPolicy("plain"), 30, synchronous)
    made = [_inference(store) for _ in range(rows)]
    taken: list[float] = []

    def work(first: int) -> None:
        for row in made[first::threads]:
            start = time.perf_counter()
            store.add([row])
            taken.append(time.perf_counter() - start)

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    seconds = time.perf_counter() - start
    p50, p99 = np.percentile(taken, [50, 99])
    at_risk = _at_risk(store, folder, made) if synchronous == "normal" else None
    store.close()
    return Durability(rows / seconds, 1000 * float(p50), 1000 * float(p99), at_risk)


def _at_risk(store: SqliteStore, folder: Path, made: Sequence[Inference]) -> int:
    """Return how many inferences were at most in the log and not in the file itself."""
    worst = 0
    for start in range(0, len(made), _LOOK_EVERY):
        for _ in range(_LOOK_EVERY):
            store.add([_inference(store)])
        alone = folder / "without-log.db"
        alone.write_bytes(store.path.read_bytes())
        worst = max(worst, len(made) + start + _LOOK_EVERY - _count(alone))
    return worst


def _count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as file:
        try:
            return int(file.execute("SELECT count(*) FROM inferences").fetchone()[0])
        except sqlite3.OperationalError:  # before the first checkpoint, the log has the table, too
            return 0


def _inference(store: SqliteStore) -> Inference:
    made, now = new_id(), time.time()
    at, sealed = timestamp(now), store.texts.seal(_TEXT, made)
    return Inference(
        id=made,
        at=at,
        day=at[:10],
        model_name="spam-classifier",
        model_version="1",
        label="spam",
        spam_probability=0.99,
        threshold=0.5,
        source="bench",
        expires=int(now) + 30 * DAY_SECONDS,
        text_form=sealed.form,
        text=sealed.text,
        text_length=sealed.length,
        signals='{"unknown": 0.25, "script": "latin", "campaign": 12345}',
        predicted="spam",
    )


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4000, help="inferences of each measurement")
    parser.add_argument("--folder", type=Path, help="on the disk that is measured")
    arguments = parser.parse_args()
    if arguments.rows < 1:
        parser.error("--rows must be 1 or more")
    sys.setswitchinterval(_SWITCH_SECONDS)
    rows = []
    for synchronous in ("normal", "full"):
        for threads in THREADS:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
                found = measure(Path(scratch), synchronous, threads, arguments.rows)
            risk = "-" if found.at_risk is None else str(found.at_risk)
            times = (f"{found.rate:,.0f}", f"{found.p50_ms:.3f}", f"{found.p99_ms:.3f}")
            rows.append((synchronous, str(threads), *times, risk))
    heads = ("synchronous", "threads", "inferences/s", "p50, ms", "p99, ms", "at risk at most")
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
