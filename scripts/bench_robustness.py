"""Attack the default model: spam recall and ham false positives under disguise, before and after.

    python -m scripts.bench_robustness --data-dir FOLDER [--folds 5] [--nlpaug]

Whole messages of the scored folds are disguised; the models never met them. "Before" is the
word+char SVM, which neither normalises nor trains on disguises; "plain" is the default model
trained without disguised and padded copies. Both thresholds come from held-out messages. The
attacks of this project are also those it trains with, so they flatter it; those of nlpaug
(`pip install nlpaug`) are a third party's. Behavioural checks follow Ribeiro et al. 2020.
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
from spam_mlflow import behaviour, keras_backend, obfuscation, tables, tracking, training
from spam_mlflow.classifier import Classifier
from spam_mlflow.split import Split, cross_validation

Disguise = Callable[[str, random.Random], str]
Labeller = Callable[[Sequence[str]], np.ndarray]

SHARES = {"typos": (0.2, 0.5), "leet": (0.5, 1.0)}  # others touch everything


def attacks(ham_words: Sequence[str]) -> Iterator[tuple[str, Disguise]]:
    """Yield each attack by name."""
    yield "clean", lambda text, _: text
    for name, attack in obfuscation.ATTACKS.items():
        for share in SHARES.get(name, (1.0,)):
            label = f"{name}, {share:.0%}" if name in SHARES else name
            yield label, partial(_apply, attack, share)
    for count in (10, 30):
        yield f"+{count} words of ham", partial(_pad, ham_words, count)


def _apply(attack: obfuscation.Attack, share: float, text: str, rng: random.Random) -> str:
    return attack(text, rng, share)


def _pad(words: Sequence[str], count: int, text: str, rng: random.Random) -> str:
    return obfuscation.pad(text, rng, words, count)


def third_party() -> Iterator[tuple[str, Disguise]]:
    """Yield nlpaug's character attacks: every second word, a third of its characters."""
    from nlpaug.augmenter.char import KeyboardAug, OcrAug, RandomCharAug

    share = {"aug_word_p": 0.5, "aug_char_p": 0.3, "aug_word_max": None}
    yield "nlpaug OCR errors", partial(_augment, OcrAug(**share))
    yield "nlpaug keyboard slips", partial(_augment, KeyboardAug(**share))
    for action in ("insert", "substitute", "swap", "delete"):
        augmenter = RandomCharAug(action=action, **share)
        yield f"nlpaug random {action}", partial(_augment, augmenter)


def _augment(augmenter: Any, text: str, rng: random.Random) -> str:
    random.seed(rng.random())  # nlpaug draws from the global generators
    np.random.seed(rng.randrange(2**32))
    done = augmenter.augment(text) if text.strip() else []
    return str(done[0]) if done else text


def labellers(split: Split, default: Classifier) -> Iterator[tuple[str, Labeller]]:
    """Yield, for each model and threshold, the function from texts to "called spam"."""
    plain, _ = bench_quality.fit(["train.disguised=0", "train.padded=0"], split)
    for name, classifier in (("default", default), ("plain", plain)):
        thresholds = classifier.metadata.thresholds
        yield name, partial(_called, classifier.spam_probability, thresholds.chosen)
        if name == "default":
            low = partial(_called, classifier.spam_probability, thresholds.low_fpr)
            yield "default, threshold for 0.2 % FPR", low
    learnt = split.frame[split.frame["part"] != "test"]
    svm = bench_quality.svm().fit(learnt["text"], training.spam(learnt))
    yield "before", partial(_called, svm.decision_function, 0.0)


def _called(
    score: Callable[[Sequence[str]], np.ndarray], bound: float, texts: Sequence[str]
) -> np.ndarray:
    return score(texts) >= bound


def measure(split: Split, default: Classifier, with_nlpaug: bool) -> list[dict[str, object]]:
    """Return recall and ham false-positive rate of each model under each attack on one fold."""
    test = split.part("test")
    spam = training.spam(test).astype(bool)
    ham_words = " ".join(test.loc[~spam, "text"]).split()
    chosen = [*attacks(ham_words), *(third_party() if with_nlpaug else ())]
    rng = random.Random(0)
    disguised = {name: [attack(t, rng) for t in test["text"]] for name, attack in chosen}
    rows: list[dict[str, object]] = []
    for model, label in labellers(split, default):
        for attack, texts in disguised.items():
            called = label(texts)
            rows.append(
                {
                    "attack": attack,
                    "model": model,
                    "recall": called[spam].mean(),
                    "ham FPR": called[~spam].mean(),
                }
            )
    return rows


def checks(split: Split, default: Classifier) -> list[dict[str, object]]:
    """Return the failure rate of each behavioural check of the default model on one fold."""
    texts = list(split.part("test")["text"])
    found = behaviour.failures(default.spam_probability, default.metadata.threshold, texts)
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
    splits = list(cross_validation(frame, arguments.folds, bench_quality.VALIDATION, seed=0))
    fitted = [(split, bench_quality.fit([], split)[0]) for split in splits]
    rows = pd.DataFrame([row for pair in fitted for row in measure(*pair, arguments.nlpaug)])
    means = rows.groupby(["attack", "model"], sort=False)[["recall", "ham FPR"]].mean()
    cells = means.map("{:.3f}".format).agg(" / ".join, axis=1).unstack(sort=False)
    behaved = pd.DataFrame([row for pair in fitted for row in checks(*pair)])
    failures = behaved.groupby("check", sort=False)["failures"].mean().map("{:.2%}".format)
    lines = [
        f"Spam recall / ham false-positive rate, mean of {len(splits)} folds",
        "",
        tables.markdown(
            ("attack", *cells.columns),
            ((attack, *row) for attack, row in zip(cells.index, cells.to_numpy(), strict=True)),
        ),
        "",
        tables.markdown(
            ("behavioural check", "messages that fail"),
            ((str(check), rate) for check, rate in failures.items()),
        ),
    ]
    report = "\n".join(lines)
    print(report)
    tracking.connect()
    with tracking.run():
        tracking.name_run("robustness benchmark")
        tracking.describe_run(report)
        mlflow.log_text(report, "robustness.md")


if __name__ == "__main__":
    main()
