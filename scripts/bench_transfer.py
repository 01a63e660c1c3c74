"""Score other data sets with the default model trained on UCI, beside the SVM trained likewise.

    python -m scripts.bench_transfer --data-dir FOLDER FILE.csv ... [--sample 5000]
        [--train-on-each]

Each file has columns `text` and `label` (ham or spam). Messages whose text is near one of the
training texts are left out. "Shipped" is the threshold that the model was trained with, "best" the
one that is best in hindsight. Low confidence is the share of messages that the model says it was
not trained for, and the errors among the others. With --train-on-each, the models are also trained
on each set, leak-free, and tested on a fifth of it. The last table is of the held-out templates of
the bundled messages of today.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scripts import bench_quality
from spam_mlflow.data.messages import validated
from spam_mlflow.data.near_duplicates import deduplicated
from spam_mlflow.data.splitters import Split, cross_validation
from spam_mlflow.evaluation import checklist
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.scorer.labels import is_spam

HEAD = ("data", "model", "F1 shipped", "F1 best", "ham FPR", "recall", "PR-AUC", "low confidence")


def read(path: Path, sample: int) -> pd.DataFrame:
    """Return the usable messages of a file, at most `sample` of them."""
    rows = pd.read_csv(path, dtype=object)[["text", "label"]]
    frame = validated(rows, path.stem).frame
    return frame.sample(min(sample, len(frame)), random_state=0).reset_index(drop=True)


def without_near_copies(frame: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """Return the messages of `frame` that are in no group with one of `training`."""
    both = pd.concat([training.assign(theirs=False), frame.assign(theirs=True)], ignore_index=True)
    grouped = deduplicated(both, jaccard=0.6)
    ours = set(grouped.loc[~grouped["theirs"], "group"])
    kept = grouped["theirs"] & ~grouped["group"].isin(ours)
    return grouped[kept].reset_index(drop=True)


def unfamiliar(classifier: Classifier, texts: list[str]) -> np.ndarray:
    """Return whether the model says of each text that it was not trained for it."""
    return np.array([doubt is not None for doubt in classifier.vectorizer.doubts(texts)])


def row(name: str, model: str, test: pd.DataFrame, found: dict[str, float], low: str) -> list[str]:
    """Return a row of the table."""
    keys = ("f1", "f1_best", "ham_fpr", "recall", "pr_auc")
    return [f"{name} ({len(test):,})", model, *(f"{found[key]:.3f}" for key in keys), low]


def rows(name: str, split: Split) -> Iterator[list[str]]:
    """Yield a row for each model, trained on the other parts and tested on the test part."""
    test = split.part("test")
    svm = bench_quality.classical(bench_quality.svm, False, split).metrics
    yield row(name, f"{bench_quality.SVM}, our thresholds", test, svm, "")
    extended = bench_quality.with_modern(split)
    for label, used in (
        ("ngram_linear", split),
        (f"ngram_linear, {bench_quality.MODERN}", extended),
    ):
        classifier, seconds = bench_quality.fit([], used)
        found = bench_quality.score(classifier, seconds, test)
        doubtful = unfamiliar(classifier, list(test["text"]))
        wrong = found.predicted[~doubtful] != is_spam(test["label"])[~doubtful]
        low = f"{doubtful.mean():.1%}; {wrong.mean() if len(wrong) else 0:.1%} wrong of the others"
        yield row(name, label, test, found.metrics, low)


def tested_on(frame: pd.DataFrame, training: pd.DataFrame) -> Split:
    """Return a split that is trained on one frame and tested on another."""
    first = next(iter(cross_validation(training, 5, bench_quality.VALIDATION, seed=0)))
    # All of the training frame is used: what would be its test part is trained on.
    part = first.frame["part"].where(first.frame["part"] != "test", "train")
    rows = [first.frame.assign(part=part), frame.assign(part="test")]
    return Split(pd.concat(rows, ignore_index=True), "transfer", leaky=False, duplicates=0)


def modern_table(classifier: Classifier) -> str:
    """Return the errors on the held-out messages of today as Markdown."""
    score, threshold = classifier.spam_probability, classifier.metadata.threshold
    rates = checklist.modern_error_rates(score, threshold)
    return markdown(("today's messages", "wrong label"), ((n, f"{x:.1%}") for n, x in rates))


def main() -> None:
    """Run what the command line asks for and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="CSV files")
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--sample", type=int, default=5000, help="messages per file, at most")
    parser.add_argument("--train-on-each", action="store_true")
    arguments = parser.parse_args()
    keras_backend.load()
    uci = bench_quality.load(arguments.data_dir)
    found: list[list[str]] = []
    for path in arguments.files:
        frame = read(path, arguments.sample)
        found += rows(path.stem, tested_on(without_near_copies(frame, uci), uci))
        if arguments.train_on_each:
            own = deduplicated(frame, jaccard=0.6)
            split = next(iter(cross_validation(own, 5, bench_quality.VALIDATION, seed=0)))
            found += rows(f"{path.stem}, trained on", split)
    print(markdown(HEAD, found))
    nothing = uci.iloc[:0]
    split = tested_on(nothing, uci)
    for label, used in (("without", split), ("with", bench_quality.with_modern(split))):
        classifier, _ = bench_quality.fit([], used)
        print(f"\n{label} data.extra=[modern]\n\n{modern_table(classifier)}")


if __name__ == "__main__":
    main()
