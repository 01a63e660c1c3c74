"""Data augmentation: altered copies of training texts, for robustness.

Obfuscated and padded copies are against those who want to get past a filter. Misspelled copies are
against a filter that knows words by one spelling. Plain copies are against one that leans on
digits, capitals and punctuation, which much spam comes without.
"""

import random
from collections.abc import Callable, Sequence

import pandas as pd

from spam_mlflow.data import attacks

# Only attacks that the normalizer cannot undo altogether: the others would give exact duplicates.
_ATTACKS = (
    (attacks.leet, 0.5),
    (attacks.run_together, 1.0),
    (attacks.typos, 0.3),
    (attacks.typos, 0.5),
    (attacks.mixed_case, 1.0),
    (attacks.upper, 1.0),
    (attacks.lower, 1.0),
)
_PADDING = (5, 10, 20, 30)  # words that are appended
_ONLY_DIGITS = 0.3  # of the plain copies, those that lack digits alone
_MISSPELLED = 0.5  # of the words of a misspelled copy

# What a training row is: a message, an obfuscated or padded copy of one, a misspelled or a plain
# copy of one, or an additional message from elsewhere and a plain copy of it.
MESSAGE, COPY, MISSPELLED_COPY, PLAIN_COPY = "message", "copy", "misspelled copy", "plain copy"
EXTRA, EXTRA_COPY = "additional message", "plain copy of an additional message"


def copies(
    train: pd.DataFrame,
    obfuscated_fraction: float,
    padded_fraction: float,
    max_augmented: int,
    seed: int,
) -> pd.DataFrame:
    """Return altered copies of training rows.

    Args:
        train: Training rows, with the columns `text`, `label` and `fold`.
        obfuscated_fraction: Fraction of the rows that get an obfuscated copy, 0 to 1.
        padded_fraction: Fraction of the rows that get a copy padded with words of ham messages,
            0 to 1. The words come from the row's own fold, so that none leaks into other folds.
        max_augmented: Approximate number of copies from which on both fractions are reduced.
        seed: Seed of the random choices.

    Returns:
        The copies, with the columns of `train`; the index gives the row that each is a copy of.
    """
    wanted = len(train) * (obfuscated_fraction + padded_fraction)
    if wanted > max_augmented:
        obfuscated_fraction = obfuscated_fraction * max_augmented / wanted
        padded_fraction = padded_fraction * max_augmented / wanted
    rng = random.Random(seed)  # noqa: S311 - not used for cryptography
    ham = train[train["label"] == "ham"]
    ham_words = {fold: " ".join(texts).split() for fold, texts in ham.groupby("fold")["text"]}
    index, texts = [], []
    for row, text, fold in zip(train.index, train["text"], train["fold"], strict=True):
        words = ham_words.get(fold, [])
        for copy in _altered(text, obfuscated_fraction, padded_fraction, words, rng):
            index.append(row)
            texts.append(copy)
    return train.loc[index].assign(text=texts)


def plain_copies(train: pd.DataFrame, fraction: float, most: int, seed: int) -> pd.DataFrame:
    """Return copies of training rows without digits, most of them without punctuation and capitals.

    Args:
        train: Training rows, with the column `text`.
        fraction: Fraction of the rows that get a copy, 0 to 1.
        most: Approximate number of copies from which on the fraction is reduced.
        seed: Seed of the random choices.

    Returns:
        The copies that differ from their text, with the columns of `train`; the index gives the row
        that each is a copy of.
    """
    return _changed(train, _without_digits, fraction, most, seed)


def misspelled_copies(train: pd.DataFrame, fraction: float, most: int, seed: int) -> pd.DataFrame:
    """Return copies of training rows in which every second word is misspelled.

    The arguments and what is returned are those of `plain_copies`.
    """
    return _changed(train, _misspelled, fraction, most, seed)


def _without_digits(text: str, rng: random.Random) -> str:
    change = attacks.without_digits if rng.random() < _ONLY_DIGITS else attacks.plain
    return change(text, rng, 1.0)


def _misspelled(text: str, rng: random.Random) -> str:
    return attacks.misspellings(text, rng, _MISSPELLED)


def _changed(
    train: pd.DataFrame,
    change: Callable[[str, random.Random], str],
    fraction: float,
    most: int,
    seed: int,
) -> pd.DataFrame:
    rng = random.Random(seed)  # noqa: S311 - not used for cryptography
    fraction = min(fraction, most / max(len(train), 1))
    index, texts = [], []
    for row, text in train["text"].items():
        if rng.random() < fraction:
            copy = change(text, rng)
            if copy != text:
                index.append(row)
                texts.append(copy)
    return train.loc[index].assign(text=texts)


def _altered(
    text: str, obfuscated: float, padded: float, ham_words: Sequence[str], rng: random.Random
) -> list[str]:
    """Return no, one or two altered copies of `text`."""
    altered = []
    if rng.random() < obfuscated:
        attack, share = rng.choice(_ATTACKS)
        altered.append(attack(text, rng, share))
    if rng.random() < padded and ham_words:
        altered.append(attacks.pad(text, rng, ham_words, rng.choice(_PADDING)))
    return altered
