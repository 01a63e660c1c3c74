"""Time training: the default model beside the tutorial's LSTM and the SVM, and on larger data.

    python -m scripts.bench_training --data-dir FOLDER [--scales 1 5 20] [--skip-lstm]

All models are fitted on one fold of the quality benchmark (scripts/bench_quality.py), vocabulary
included, each in a process of its own. Larger data is made from copies of the fold's training texts
with typos in every fifth word. Memory is the process's peak, TensorFlow's own 0.7 GB included.
Compare measurements only within one run of this script.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from scripts import bench_quality
from spam_mlflow.data import attacks
from spam_mlflow.data.splitters import Split, cross_validation
from spam_mlflow.scorer.labels import is_spam

WITH_MODERN = "ngram_linear, data.extra=[modern]"
MODELS = ("SVM", "ngram_linear", WITH_MODERN, "tutorial_lstm")


def grown(split: Split, scale: int) -> Split:
    """Return a split with a larger training part.

    Args:
        split: The split.
        scale: Times that the training part is repeated; the copies have typos.
    """
    rng = random.Random(0)
    train = split.part("train")
    copies = [train]
    for number in range(1, scale):
        texts = [attacks.typos(text, rng, 0.2) for text in train["text"]]
        groups = train["group"] + number * (int(split.frame["group"].max()) + 1)
        copies.append(train.assign(text=texts, group=groups))
    rest = split.frame[split.frame["part"] != "train"]
    return Split(pd.concat([*copies, rest], ignore_index=True), "grown", leaky=False, duplicates=0)


def measure(data_dir: str, model: str, scale: int) -> dict[str, float]:
    """Fit one model in this process and return its measurements.

    Args:
        data_dir: Folder with the UCI files.
        model: One of `MODELS`.
        scale: Times that the training part is repeated.

    Returns:
        `rows` that are trained on, `seconds` of the fit and `peak_mb`, the peak memory.
    """
    frame = bench_quality.load(data_dir)
    split = grown(next(cross_validation(frame, 5, bench_quality.VALIDATION, seed=0)), scale)
    training_rows = split.rows_without_test
    if model == "SVM":
        start = time.perf_counter()
        bench_quality.svm().fit(training_rows["text"], is_spam(training_rows["label"]))
        seconds = time.perf_counter() - start
    else:
        plain = [*bench_quality.NO_COPIES, "train.deterministic=false"]
        overrides = plain if model in bench_quality.FEW else []
        if model == WITH_MODERN:
            split = bench_quality.with_modern(split)
        name = model.partition(",")[0]
        _, seconds = bench_quality.fit([f"model={name}", *overrides], split)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": len(training_rows), "seconds": seconds, "peak_mb": peak}


def in_new_process(data_dir: str, model: str, scale: int) -> dict[str, float]:
    """Return what `measure` returns, run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "scripts.bench_training",
        "--data-dir",
        data_dir,
        "--one",
        model,
        str(scale),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Print both comparisons as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--scales", nargs="+", type=int, default=[1, 5, 20])
    parser.add_argument("--skip-lstm", action="store_true", help="it takes 6 minutes")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SCALE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data_dir = str(Path(arguments.data_dir).resolve())
    if arguments.one:
        print(json.dumps(measure(data_dir, arguments.one[0], int(arguments.one[1]))))
        return
    print("| model | times the data | rows | fit, seconds | to the SVM's | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for scale in arguments.scales:
        base = 0.0
        for model in MODELS:
            if model == "tutorial_lstm" and (arguments.skip_lstm or scale > 1):
                continue
            found = in_new_process(data_dir, model, scale)
            base = found["seconds"] if model == "SVM" else base
            print(
                f"| {model} | {scale} | {found['rows']:,.0f} | {found['seconds']:.2f} | "
                f"{found['seconds'] / base:.1f} | {found['peak_mb']:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
