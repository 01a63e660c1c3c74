"""Time every stage of the main job on many messages, a fifth of them in campaigns.

    python -m scripts.bench_scale --data-dir FOLDER [--rows 20000 80000 160000 300000]

The messages are halves of UCI's, joined at random, and spam campaigns: such a message with other
names and links in each copy, up to 8,000 of them. They are the same in every call. Each number of
rows is a process of its own, which logs to SQLite and a folder, and another one fits the SVM on the
same rows. Memory is the process's peak until the end of the stage, TensorFlow's 0.7 GB included.
"""

import argparse
import csv
import functools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scripts import bench_quality
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.splitters import GroupedSplitter
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.jobs import train
from spam_mlflow.registry import pending_run
from spam_mlflow.scorer.labels import HAM, SPAM, is_spam
from spam_mlflow.tracking import lineage
from spam_mlflow.training.experiment import Experiment

CAMPAIGNS = 0.2  # of all messages
LARGEST = 8000  # messages of a campaign
NAMES = ("james", "mary", "robert", "patricia", "john", "jennifer", "michael", "linda", "david")
STAGES: dict[str, Sequence[tuple[Any, str]]] = {
    "load": [(train, "load_messages")],
    "split": [(GroupedSplitter, "split")],
    "fit": [(Experiment, "fit")],
    "evaluation": [(Experiment, "validation"), (Experiment, "test")],
    "files": [(Experiment, "write")],
    "logging": [(lineage, "log_data"), (pending_run, "log")],
}
"""The functions of the main job in which the time of each stage is spent."""


def messages(texts: dict[str, list[str]], rows: int) -> Iterator[tuple[str, str]]:
    """Yield texts and their labels.

    Args:
        texts: Texts of both classes to take halves from, by label.
        rows: Number of messages.
    """
    rng, left = random.Random(0), int(CAMPAIGNS * rows)
    yield from ((joined(rng, texts[label]), label) for label in labels(rng, rows - left))
    while left:
        words = joined(rng, texts[SPAM]).split()
        slots = rng.sample(range(len(words)), 1 + len(words) // 8)
        size = min(left, LARGEST, int(20 * rng.paretovariate(1)))
        for _ in range(size):
            for slot in slots:
                words[slot] = rng.choice([rng.choice(NAMES), "".join(rng.choices("abcdefgh", k=6))])
            yield " ".join(words), SPAM
        left -= size


def labels(rng: random.Random, rows: int) -> Iterator[str]:
    """Yield a label for each row, four in five of them ham."""
    yield from rng.choices((HAM, SPAM), (0.8, 0.2), k=rows)


def joined(rng: random.Random, texts: Sequence[str]) -> str:
    """Return the first half of the words of a text, and the second half of another's."""
    first, second = rng.choice(texts).split(), rng.choice(texts).split()
    return " ".join(first[: (len(first) + 1) // 2] + second[len(second) // 2 :])


def write(data_dir: str, rows: int, file: Path) -> None:
    """Write messages to a CSV file with the columns `text` and `label`."""
    frame = bench_quality.load(data_dir)
    texts = {label: list(frame.loc[frame["label"] == label, "text"]) for label in (HAM, SPAM)}
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *messages(texts, rows)])


def timed(function: Callable[..., Any], stage: str, spent: dict[str, float]) -> Callable[..., Any]:
    """Return a function that adds its seconds and the process's peak memory, in MB, to `spent`."""

    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        spent[stage] = spent.get(stage, 0) + time.perf_counter() - start
        spent[f"{stage}, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return result

    return measured


def run_job(folder: Path) -> dict[str, float]:
    """Run the main job in this process on `messages.csv`; keep its split for the SVM.

    Args:
        folder: Folder with the messages, where the store is created.

    Returns:
        Seconds and peak memory of each stage and of the whole job.
    """
    spent: dict[str, float] = {}
    for stage, functions in STAGES.items():
        for owner, name in functions:
            setattr(owner, name, timed(getattr(owner, name), stage, spent))
    split = GroupedSplitter.split

    def kept(splitter: GroupedSplitter, found: Any) -> Any:
        done = split(splitter, found)
        done.rows_without_test.to_pickle(folder / "rows.pkl")
        return done

    setattr(GroupedSplitter, "split", kept)  # noqa: B010 - mypy takes a method for final
    overrides = ["data=csv", f"data.path={folder / 'messages.csv'}"]
    cfg = compose("main", overrides)
    timed(train.run, "job", spent)(validate("main", cfg), cfg)
    return spent


def run_svm(folder: Path) -> dict[str, float]:
    """Fit the SVM on the rows that the job trained on, and return seconds and peak memory."""
    rows = pd.read_pickle(folder / "rows.pkl")  # noqa: S301 - our own file
    spent: dict[str, float] = {}
    timed(bench_quality.svm().fit, "SVM", spent)(rows["text"], is_spam(rows["label"]))
    return spent


def in_new_process(what: str, folder: Path) -> dict[str, float]:
    """Return the measurements of the job or of the SVM, in a process of its own."""
    command = [sys.executable, "-m", "scripts.bench_scale", "--one", what, str(folder)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
    env = {**kept, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Print seconds and memory of each stage, for each number of rows, as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder with the UCI files")
    parser.add_argument("--rows", nargs="+", type=int, default=[20_000, 80_000, 160_000, 300_000])
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, folder = arguments.one[0], Path(arguments.one[1])
        print(json.dumps(run_job(folder) if what == "job" else run_svm(folder)))
        return
    if not arguments.data_dir:
        parser.error("--data-dir is needed")
    data_dir = str(Path(arguments.data_dir).resolve())
    table = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as scratch:
            write(data_dir, rows, Path(scratch) / "messages.csv")
            found = in_new_process("job", Path(scratch)) | in_new_process("SVM", Path(scratch))
        cells = (f"{found[name]:.1f} s, {found[f'{name}, MB']:,.0f} MB" for name in columns())
        table.append((f"{rows:,}", *cells))
    print(markdown(("rows", *columns()), table))


def columns() -> list[str]:
    """Return what is measured, in the order of the table's columns."""
    return [*STAGES, "job", "SVM"]


if __name__ == "__main__":
    main()
