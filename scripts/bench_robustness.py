"""Attack the default model: spam recall and ham false-positive rate on obfuscated messages.

    python -m scripts.bench_robustness --data-dir FOLDER [--folds 5] [--nlpaug]

The messages of the test folds are obfuscated. "Default" is the default model; "plain" is the same
model trained without obfuscated and padded copies; both have their thresholds from out-of-fold
scores. "Before" is the word+char SVM, which neither normalizes texts nor trains on such copies. The
project trains on its own attacks, so that these overstate its robustness; the attacks of nlpaug
(`pip install nlpaug`) are independent of it. Behavioral tests follow Ribeiro et al. 2020.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from scripts import bench_quality
from spam_mlflow.data import attacks
from spam_mlflow.data.splitters import Split, cross_validation
from spam_mlflow.evaluation import checklist
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.tracking import run_logging, run_names, runs

Variant = Callable[[str, random.Random], str]
"""From a text and random numbers to an obfuscated text."""
Labeler = Callable[[Sequence[str]], np.ndarray]
"""From texts to whether each is predicted as spam, shape (texts,), bool."""

SHARES = {"typos": (0.2, 0.5), "leet": (0.5, 1.0)}  # of words or characters; others change all


def variants(ham_words: Sequence[str]) -> Iterator[tuple[str, Variant]]:
    """Yield the project's attacks by name, "clean" first.

    Args:
        ham_words: Words of ham messages, for the good-word attack.
    """
    yield "clean", lambda text, _: text
    for name, attack in attacks.ATTACKS.items():
        for share in SHARES.get(name, (1.0,)):
            label = f"{name}, {share:.0%}" if name in SHARES else name
            yield label, partial(_apply, attack, share)
    for name, change in (("no digits", attacks.without_digits), ("plain", attacks.plain)):
        yield name, partial(_apply, change, 1.0)
    for count in (10, 30):
        yield f"good-word attack, {count} words", partial(_pad, ham_words, count)


def _apply(attack: attacks.Attack, share: float, text: str, rng: random.Random) -> str:
    return attack(text, rng, share)


def _pad(words: Sequence[str], count: int, text: str, rng: random.Random) -> str:
    return attacks.pad(text, rng, words, count)


def third_party() -> Iterator[tuple[str, Variant]]:
    """Yield nlpaug's attacks by name: they change 30 % of the characters of every second word."""
    from nlpaug.augmenter.char import KeyboardAug, OcrAug, RandomCharAug

    share = {"aug_word_p": 0.5, "aug_char_p": 0.3, "aug_word_max": None}
    yield "nlpaug OCR errors", partial(_augment, OcrAug(**share))
    yield "nlpaug keyboard slips", partial(_augment, KeyboardAug(**share))
    for action in ("insert", "substitute", "swap", "delete"):
        augmenter = RandomCharAug(action=action, **share)
        yield f"nlpaug random {action}", partial(_augment, augmenter)


def _augment(augmenter: Any, text: str, rng: random.Random) -> str:
    random.seed(rng.random())  # nlpaug uses the global generators
    np.random.seed(rng.randrange(2**32))
    altered = augmenter.augment(text) if text.strip() else []
    return str(altered[0]) if altered else text


def labelers(split: Split, default: Classifier) -> Iterator[tuple[str, Labeler]]:
    """Yield every model, with each of its thresholds, by name.

    Args:
        split: The fold that the other models are trained on.
        default: The default model, fitted on that fold.
    """
    plain, _ = bench_quality.fit(bench_quality.NO_COPIES, split)
    for name, classifier in (("default", default), ("plain", plain)):
        thresholds = classifier.metadata.thresholds
        yield name, partial(_predicted, classifier.spam_probability, thresholds.chosen)
        if name == "default":
            low = partial(_predicted, classifier.spam_probability, thresholds.low_fpr)
            yield "default, threshold for 0.2 % FPR", low
    rows = split.rows_without_test
    svm = bench_quality.svm().fit(rows["text"], is_spam(rows["label"]))
    yield "before", partial(_predicted, svm.decision_function, 0.0)


def _predicted(
    score: Callable[[Sequence[str]], np.ndarray], threshold: float, texts: Sequence[str]
) -> np.ndarray:
    return score(texts) >= threshold


def measure(split: Split, default: Classifier, with_nlpaug: bool) -> list[dict[str, object]]:
    """Return recall and ham false-positive rate of each model under each attack on one fold.

    Args:
        split: The fold.
        default: The default model, fitted on that fold.
        with_nlpaug: Also use the attacks of nlpaug.

    Returns:
        A row for each model and attack, with `attack`, `model`, `recall` and `ham FPR`.
    """
    test = split.part("test")
    spam = is_spam(test["label"])
    ham_words = " ".join(test.loc[~spam, "text"]).split()
    chosen = [*variants(ham_words), *(third_party() if with_nlpaug else ())]
    rng = random.Random(0)
    obfuscated = {name: [attack(t, rng) for t in test["text"]] for name, attack in chosen}
    rows: list[dict[str, object]] = []
    for model, label in labelers(split, default):
        for attack, texts in obfuscated.items():
            predicted = label(texts)
            rows.append(
                {
                    "attack": attack,
                    "model": model,
                    "recall": predicted[spam].mean(),
                    "ham FPR": predicted[~spam].mean(),
                }
            )
    return rows


def checks(split: Split, default: Classifier) -> list[dict[str, object]]:
    """Return the failure rate of each behavioral test of the default model on one fold.

    Args:
        split: The fold.
        default: The default model, fitted on that fold.

    Returns:
        A row for each test, with `check` and `failures`, the fraction of messages that fail.
    """
    texts = list(split.part("test")["text"])
    found = checklist.failure_rates(default.spam_probability, default.metadata.threshold, texts)
    return [{"check": name, "failures": share} for name, share in found]


def main() -> None:
    """Run what the command line asks for and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--nlpaug", action="store_true", help="also nlpaug's attacks")
    arguments = parser.parse_args()
    keras_backend.load()
    frame = bench_quality.load(arguments.data_dir)
    folds = cross_validation(frame, arguments.folds, bench_quality.VALIDATION, seed=0)
    splits = [bench_quality.with_modern(split) for split in folds]
    fitted = [(split, bench_quality.fit([], split)[0]) for split in splits]
    rows = pd.DataFrame([row for pair in fitted for row in measure(*pair, arguments.nlpaug)])
    means = rows.groupby(["attack", "model"], sort=False)[["recall", "ham FPR"]].mean()
    cells = means.map("{:.3f}".format).agg(" / ".join, axis=1).unstack(sort=False)
    behavior = pd.DataFrame([row for pair in fitted for row in checks(*pair)])
    failures = behavior.groupby("check", sort=False)["failures"].mean().map("{:.2%}".format)
    lines = [
        f"Spam recall / ham false-positive rate, mean of {len(splits)} folds",
        "",
        markdown(
            ("attack", *cells.columns),
            ((attack, *row) for attack, row in zip(cells.index, cells.to_numpy(), strict=True)),
        ),
        "",
        markdown(
            ("behavioral test", "messages that fail"),
            ((str(check), rate) for check, rate in failures.items()),
        ),
    ]
    report = "\n".join(lines)
    print(report)
    runs.connect()
    with runs.run():
        run_names.name_run("robustness benchmark")
        run_logging.describe_run(report)
        mlflow.log_text(report, "robustness.md")


if __name__ == "__main__":
    main()
