"""Disguised copies of training texts, so that a model learns what survives a disguise."""

import random
from collections.abc import Sequence

import pandas as pd

from spam_mlflow import obfuscation

# Only disguises that the normaliser cannot undo altogether: others would give plain copies.
_KINDS = (
    (obfuscation.leet, 0.5),
    (obfuscation.run_together, 1.0),
    (obfuscation.typos, 0.3),
    (obfuscation.typos, 0.5),
    (obfuscation.mixed_case, 1.0),
    (obfuscation.upper, 1.0),
    (obfuscation.lower, 1.0),
)
_PADDING = (5, 10, 20, 30)  # words


def copies(
    train: pd.DataFrame, disguised: float, padded: float, at_most: int, seed: int
) -> pd.DataFrame:
    """Return altered copies of rows of `train`, with its columns and its row numbers as index.

    train: with the columns `text`, `label` and `fold`.
    disguised: share of the rows that get a copy with one disguise, 0 to 1.
    padded: share of the rows that get a copy with words of ham appended, 0 to 1: words from their
        own `fold`, so that no other fold's messages shine through.
    at_most: copies, about, beyond which both shares are reduced: large data needs no more.
    """
    wanted = len(train) * (disguised + padded)
    if wanted > at_most:
        disguised, padded = (share * at_most / wanted for share in (disguised, padded))
    rng = random.Random(seed)  # noqa: S311 - nothing secret about it
    ham = train[train["label"] == "ham"]
    words = {fold: " ".join(texts).split() for fold, texts in ham.groupby("fold")["text"]}
    index, texts = [], []
    for row, text, fold in zip(train.index, train["text"], train["fold"], strict=True):
        for altered in _altered(text, disguised, padded, words.get(fold, []), rng):
            index.append(row)
            texts.append(altered)
    return train.loc[index].assign(text=texts)


def _altered(
    text: str, disguised: float, padded: float, ham_words: Sequence[str], rng: random.Random
) -> list[str]:
    found = []
    if rng.random() < disguised:
        attack, share = rng.choice(_KINDS)
        found.append(attack(text, rng, share))
    if rng.random() < padded and ham_words:
        found.append(obfuscation.pad(text, rng, ham_words, rng.choice(_PADDING)))
    return found
