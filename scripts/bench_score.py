"""Score many messages in bulk, and with scikit-learn's pipeline, from Parquet to Parquet.

    python -m scripts.bench_score --data-dir FOLDER [--rows 100000 300000 1000000] [--repeated]
        [--systems local spark SVM]

The messages are halves of UCI's, joined at random, all of them different; with --repeated, a
thousand of them again and again. They are the same in every call. The baseline is the SVM with word
and character n-grams, which joblib's processes apply to 20,000 messages at a time, with the same
reading and writing. Both are trained first, and started anew for each number of rows. Processor
time and memory are those of the whole tree of processes: memory is the largest process's peak, and
the peak of all together, in which what processes share counts for each. What a system does once it
is started follows from the difference between the most and the fewest rows.
"""

import argparse
import contextlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts import bench_quality
from scripts.bench_scale import joined, labels
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer.labels import HAM, SPAM, is_spam

SVM = "SVM"
SYSTEMS = ("local", "spark", SVM)
AT_ONCE = 20_000  # messages
REPEATED = 1000  # different messages of --repeated
COLUMNS = ("seconds", "CPU seconds", "messages/s", "messages/CPU s", "MB", "MB in all")


def messages(data_dir: str, rows: int) -> Iterator[str]:
    """Yield different messages, the same ones in every call."""
    frame = bench_quality.load(data_dir)
    texts = {label: list(frame.loc[frame["label"] == label, "text"]) for label in (HAM, SPAM)}
    rng, seen = random.Random(0), set[str]()
    for label in labels(rng, 3 * rows):
        text = joined(rng, texts[label])
        if text not in seen:
            seen.add(text)
            yield text
        if len(seen) == rows:
            return


def write(data_dir: str, rows: int, repeated: bool, file: Path) -> None:
    """Write messages to a Parquet file with the columns `id` and `text`."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = list(messages(data_dir, REPEATED if repeated else rows))
    found = [texts[n % len(texts)] for n in range(rows)]
    table = pa.table({"id": pa.array(range(rows)), "text": found})
    parquet.write_table(table, file, row_group_size=100_000)


def train(data_dir: str, folder: Path) -> None:
    """Train the default model, and the SVM on the same messages."""
    import joblib

    command = [sys.executable, "-m", "spam_mlflow", "main", f"data_dir={data_dir}"]
    subprocess.run(command, env=environment(folder), check=True, capture_output=True)
    frame = bench_quality.load(data_dir)
    joblib.dump(bench_quality.svm().fit(frame["text"], is_spam(frame["label"])), folder / "svm")


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a process whose tracking store is in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
    store = f"sqlite:///{folder / 'mlflow.db'}"
    return {**kept, "MLFLOW_TRACKING_URI": store, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def score_with_svm(folder: Path, file: Path, output: Path) -> None:
    """Score a file with the SVM in joblib's processes, and write its scores."""
    import joblib
    import pyarrow as pa
    from pyarrow import parquet

    model = joblib.load(folder / "svm")
    batches = parquet.ParquetFile(file).iter_batches(AT_ONCE, columns=["id", "text"])
    kept: list[Any] = []

    def texts() -> Iterator[list[str]]:
        for batch in batches:
            kept.append(batch.column("id"))
            yield batch.column("text").to_pylist()

    parallel = joblib.Parallel(n_jobs=2, return_as="generator")
    found = parallel(joblib.delayed(model.decision_function)(part) for part in texts())
    schema = pa.schema([("id", pa.int64()), ("label", pa.string()), ("score", pa.float64())])
    with parquet.ParquetWriter(output, schema) as writer:
        for scores in found:
            named = [SPAM if score > 0 else HAM for score in scores]
            writer.write_table(pa.table([kept.pop(0), named, scores], schema=schema))


def command(system: str, folder: Path, file: Path, output: Path) -> list[str]:
    """Return the command line that scores a file with a system."""
    if system == SVM:
        return [
            sys.executable,
            "-m",
            "scripts.bench_score",
            "--svm",
            *map(str, (folder, file, output)),
        ]
    model = "model_uri=models:/spam-classifier/1"
    return [
        *(sys.executable, "-m", "spam_mlflow", "score", model, f"input={file}"),
        *(f"output={output}", f"engine={system}", "id_column=id", "spark.master=local[2]"),
    ]


class Watch:
    """Watches the memory and the processor time of a tree of processes.

    Args:
        process: ID of the tree's root.

    Attributes:
        largest: Peak of a single process's memory, in MB.
        total: Peak of all together, in MB.
        cpu: Processor time of each process up to its last look, in seconds.
    """

    def __init__(self, process: int) -> None:
        self.largest = self.total = 0.0
        self.cpu: dict[int, float] = {}
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        root = psutil.Process(self._process)
        while not self._ended.wait(0.1):
            sizes = []
            with contextlib.suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        sizes.append(process.memory_info().rss / 2**20)
                        times = process.cpu_times()
                        self.cpu[process.pid] = times.user + times.system
            self.largest = max(self.largest, *sizes, 0)
            self.total = max(self.total, sum(sizes))


def measured(system: str, folder: Path, file: Path, rows: int) -> Mapping[str, float]:
    """Return what it takes a system to score a file, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command(system, folder, file, folder / f"scores-{uuid.uuid4().hex}"),
        env=environment(folder),
        stderr=subprocess.DEVNULL,
    )
    watch = Watch(process.pid)
    if process.wait():
        raise SystemExit(f"{system} failed")
    seconds = time.perf_counter() - start
    watch.stop()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Nobody waits for Spark's Java machine, whose time is therefore that of the last look.
    cpu = max(waited, sum(watch.cpu.values()))
    values = (seconds, cpu, rows / seconds, rows / cpu, watch.largest, watch.total)
    return dict(zip(COLUMNS, values, strict=True))


def once_started(system: str, found: Mapping[int, Mapping[str, float]]) -> tuple[str, ...]:
    """Return what a system does and takes besides its start, as cells of a table.

    Args:
        system: The system.
        found: What `measured` returned, by the number of rows.
    """
    few, many = min(found), max(found)
    cells = [system]
    for name in COLUMNS[:2]:
        each = (found[many][name] - found[few][name]) / (many - few)
        cells += [f"{1 / each:,.0f}", f"{found[few][name] - few * each:.1f}"]
    return tuple(cells)


def run(data_dir: str, rows: Sequence[int], systems: Sequence[str], repeated: bool) -> None:
    """Print what each system takes for each number of rows, as Markdown."""
    table = []
    found: dict[str, dict[int, Mapping[str, float]]] = {system: {} for system in systems}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train(data_dir, folder)
        for number in rows:
            write(data_dir, number, repeated, folder / "messages.parquet")
            for system in systems:
                values = measured(system, folder, folder / "messages.parquet", number)
                found[system][number] = values
                cells = [f"{values[name]:,.{i < 2:d}f}" for i, name in enumerate(COLUMNS)]
                table.append((f"{number:,}", system, *cells))
                print(*table[-1], file=sys.stderr, flush=True)
    print(markdown(("rows", "system", *COLUMNS), table))
    if len(set(rows)) > 1:
        names = ("messages/s", "seconds to start", "messages/CPU s", "CPU seconds to start")
        started = [once_started(system, found[system]) for system in systems]
        print(f"\nOnce started:\n\n{markdown(('system', *names), started)}")


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder with the UCI files")
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--repeated", action="store_true", help="few different messages")
    parser.add_argument("--svm", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.svm:
        score_with_svm(*arguments.svm)
        return
    if not arguments.data_dir:
        parser.error("--data-dir is needed")
    data_dir = str(Path(arguments.data_dir).resolve())
    run(data_dir, arguments.rows, arguments.systems, arguments.repeated)


if __name__ == "__main__":
    main()
