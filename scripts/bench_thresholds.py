"""Compare the threshold that a model ships with to the best one, on any number of data sets.

    python -m scripts.bench_thresholds [FILE.csv ...] [--data-dir FOLDER] [--rows 200 500 1000]
        [--folds 5] [--policies auto target_fpr ...]

A file has the columns `text` and `label` (`ham` and `spam`); for any other, give the overrides of
`data=csv` in its place, such as "data.path=FILE.csv data.ham_labels=[0] data.spam_labels=[1]". The
bundled sample and, where `--data-dir` names a folder with the UCI files, UCI's collections come
with them. The default model is trained on folds without leaks: near-duplicates stay together, and
the threshold is chosen on out-of-fold scores of the messages outside the test fold. With `--rows`,
it is also trained on about that many of those messages, and tested on the whole test fold. "Best"
is the F1 of the one threshold that is best on all test folds in hindsight. Results go to standard
output as Markdown.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from scripts.bench_quality import VALIDATION
from scripts.bench_quality import load as load_uci
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.overrides import split_overrides
from spam_mlflow.config.schema import MainSettings
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.near_duplicates import deduplicated
from spam_mlflow.data.splitters import Split, assign_folds, cross_validation
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.training import fit as training
from spam_mlflow.training import thresholds

HEADER = (
    *("data", "messages trained on", "policy", "threshold", "F1 as shipped", "F1 at best"),
    *("ham FPR, held out", "ham FPR, tested"),
)
_THRESHOLDS = expit(np.linspace(-8, 8, 321))  # of which the best one is looked for


@dataclass(frozen=True)
class Fold:
    """A model that was trained outside a fold and tested on it.

    Attributes:
        held_out: Out-of-fold spam probabilities of the messages that it was trained on.
        held_out_spam: 1 for spam, 0 for ham.
        scores: Spam probabilities of the test fold.
        spam: 1 for spam, 0 for ham.
    """

    held_out: np.ndarray
    held_out_spam: np.ndarray
    scores: np.ndarray
    spam: np.ndarray


def load(files: Sequence[str], data_dir: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each data set by name: distinct messages, near-duplicates grouped.

    Args:
        files: CSV files, or overrides of `data=csv`.
        data_dir: Folder with the UCI files; None where they are left out.
    """
    if data_dir:
        yield "uci", load_uci(data_dir)
    for given in ("data=sample", *files):
        overrides = split_overrides(given) if "=" in given else [f"data.path={given}"]
        if given != "data=sample":
            overrides = ["data=csv", *overrides]
        source = validate("main", compose("main", overrides)).data
        messages: Messages = source.load()
        name = Path(str(getattr(source, "path", messages.name))).stem
        yield name, deduplicated(messages.frame, jaccard=0.6)


def with_rows(split: Split, rows: int | None) -> Split:
    """Return a split of which about that many messages are left to train on.

    Args:
        split: The whole split.
        rows: Number of messages in training and validation part; None for all.
    """
    rest = split.rows_without_test.reset_index(drop=True)
    if rows is None or rows >= len(rest):
        return split
    kept = rest[assign_folds(rest, round(len(rest) / rows), seed=0) == 0]
    frame = pd.concat([kept, split.frame[split.frame["part"] == "test"]], ignore_index=True)
    return Split(frame, split.name, leaky=False, duplicates=0)


def fold(settings: MainSettings, split: Split) -> Fold:
    """Train on a split's training and validation part, and test on its test part.

    Args:
        settings: The model and how it is fitted.
        split: The split.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        fitted = training.fit(settings.model, split, settings.train, 0, "bench", lambda *_: None)
    test = split.part("test")
    return Fold(
        fitted.held_out_scores,
        fitted.held_out_spam,
        fitted.classifier.spam_probability(list(test["text"])),
        is_spam(test["label"]).astype(int),
    )


def results(name: str, folds: Sequence[Fold], policies: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each policy's row.

    Args:
        name: Of the data set.
        folds: The trained and tested folds.
        policies: Values of `train.threshold`.
    """
    best = max(np.mean([f1(fold, value) for fold in folds]) for value in _THRESHOLDS)
    trained_on = round(np.mean([len(fold.held_out) for fold in folds]))
    for policy in policies:
        settings = validate("main", compose("main", [f"train.threshold={policy}"]))
        choices = [
            thresholds.choose(fold.held_out, fold.held_out_spam, settings.train.threshold)
            for fold in folds
        ]
        both = list(zip(folds, choices, strict=True))
        taken = ", ".join(sorted({choice.policy for choice in choices} - {policy}))
        yield (
            *(name, f"{trained_on:,}", f"{policy}: {taken}" if taken else policy),
            f"{min(c.value for c in choices):.2f} to {max(c.value for c in choices):.2f}",
            *(f"{np.mean([f1(f, c.value) for f, c in both]):.4f}", f"{best:.4f}"),
            rate(sum(c.false_positives for c in choices), sum(c.ham for c in choices)),
            rate(
                sum(int((f.scores[f.spam == 0] >= c.value).sum()) for f, c in both),
                sum(int((f.spam == 0).sum()) for f in folds),
            ),
        )


def f1(fold: Fold, threshold: float) -> float:
    """Return the F1 on a test fold at a threshold."""
    predicted = fold.scores >= threshold
    return float(2 * (predicted & (fold.spam == 1)).sum() / (predicted.sum() + fold.spam.sum()))


def rate(count: int, number: int) -> str:
    """Return a rate with its 95 % interval as text."""
    low, high = thresholds.rate_interval(count, number)
    return f"{count / number:.2%} ({low:.2%} to {high:.2%})"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="CSV files, or overrides of data=csv")
    parser.add_argument("--data-dir", help="folder with the UCI files")
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="messages to train on")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--policies", nargs="+", default=["auto"])
    given = parser.parse_args()
    settings = validate("main", compose("main", []))
    found = []
    for name, frame in load(given.files, given.data_dir):
        splits = list(cross_validation(frame, given.folds, VALIDATION, seed=0))
        outside = len(frame) * (1 - 1 / given.folds)
        for rows in (*(few for few in given.rows if outside / few >= 1.5), None):
            folds = [fold(settings, with_rows(split, rows)) for split in splits]
            for row in results(name, folds, given.policies):
                found.append(row)
                print(" | ".join(row), file=sys.stderr, flush=True)
    print(markdown(HEADER, found))


if __name__ == "__main__":
    main()
