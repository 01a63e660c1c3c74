"""Compare the experiment presets of the default model: quality, robustness, time and size.

    python -m scripts.bench_presets --data-dir FOLDER [--folds 5 --repeats 2]

The protocol is that of `bench_quality`: all presets are tested on the same leak-free folds, and the
table shows mean ± standard deviation. "Recall under attack" is the mean recall of obfuscated spam
over the project's attacks, at the model's threshold; "size" is that of the three exported files.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scripts import bench_quality
from spam_mlflow.data import attacks
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.scorer.labels import is_spam

PRESETS = ("default", "best", "robust", "fast", "tiny")
DIGITS = {
    "f1": 3,
    "pr_auc": 4,
    "recall_at_fpr_0_2pct": 3,
    "ham_fpr": 4,
    "recall under attack": 3,
    "fit, s": 1,
    "size, MB": 1,
}
WHOLE = 1.0  # share of the characters or words that an attack changes


def measure(preset: str, split: Split) -> dict[str, float]:
    """Return the measurements of one preset on one fold.

    Args:
        preset: Name of the experiment preset, "default" for none.
        split: The fold.
    """
    overrides = [] if preset == "default" else [f"experiment={preset}"]
    classifier, seconds = bench_quality.fit(overrides, split)
    test = split.part("test")
    return {
        **bench_quality.score(classifier, seconds, test).metrics,
        "recall under attack": under_attack(classifier, test),
        "fit, s": seconds,
        "size, MB": megabytes(classifier),
    }


def under_attack(classifier: Classifier, test: pd.DataFrame) -> float:
    """Return the recall of obfuscated spam, the mean over all attacks."""
    texts = list(test.loc[is_spam(test["label"]), "text"])
    recalls = []
    for attack in attacks.ATTACKS.values():
        rng = random.Random(0)
        scores = classifier.spam_probability([attack(text, rng, WHOLE) for text in texts])
        recalls.append(float((scores >= classifier.metadata.threshold).mean()))
    return float(np.mean(recalls))


def megabytes(classifier: Classifier) -> float:
    """Return the size of the exported files in MB (10^6 bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder))
        return sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6


def row(preset: str, folds: Sequence[dict[str, float]]) -> list[str]:
    """Return a preset's row of the table: mean ± standard deviation over folds."""
    cells = []
    for name, digits in DIGITS.items():
        values = np.array([fold[name] for fold in folds])
        cells.append(bench_quality.spread(values, digits))
    return [preset, *cells]


def main() -> None:
    """Run what the command line asks for and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--presets", nargs="*", default=PRESETS)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    keras_backend.load()
    frame = bench_quality.load(arguments.data_dir)
    splits = bench_quality.repeated(frame, arguments.folds, arguments.repeats)
    results: dict[str, list[dict[str, float]]] = {preset: [] for preset in arguments.presets}
    for split in splits:  # in turns, so that a slow moment of the machine affects all presets
        for preset, folds in results.items():
            folds.append(measure(preset, split))
    print(f"{len(splits)} folds, mean ± standard deviation\n")
    print(markdown(("preset", *DIGITS), [row(*entry) for entry in results.items()]))


if __name__ == "__main__":
    main()
