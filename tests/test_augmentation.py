import random
import re

import numpy as np
import pandas as pd
import pytest

from spam_mlflow import augmentation, obfuscation
from spam_mlflow.data.sample import SampleSource
from spam_mlflow.text import normalise, skeleton

TEXT = "Call now to claim your free prize of cash"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    messages = SampleSource().load().frame
    return messages.assign(fold=np.arange(len(messages)) % 3)


@pytest.mark.parametrize("name", obfuscation.ATTACKS)
def test_every_attack_changes_the_text_as_far_as_it_is_told(name: str) -> None:
    attack = obfuscation.ATTACKS[name]
    assert attack(TEXT, random.Random(0), 1.0) != TEXT
    untouched = attack(TEXT, random.Random(0), 0.0)
    assert re.sub(r"\s+", " ", untouched) == TEXT


@pytest.mark.parametrize(
    "name", ["homoglyphs", "zero width", "spacing", "upper case", "lower case"]
)
def test_the_normaliser_sees_through_these_attacks(name: str) -> None:
    disguised = obfuscation.ATTACKS[name](TEXT, random.Random(0), 1.0)
    assert normalise(disguised).casefold() == TEXT.casefold()


@pytest.mark.parametrize("name", ["run together", "mixed case", "punctuation"])
def test_the_skeleton_survives_these_attacks(name: str) -> None:
    disguised = obfuscation.ATTACKS[name](TEXT, random.Random(0), 1.0)
    letters, expected = (
        "".join(skeleton(word) for word in normalise(text).split()) for text in (disguised, TEXT)
    )
    assert letters == expected


def test_copies_keep_label_and_row_and_come_in_the_shares_asked_for(frame: pd.DataFrame) -> None:
    copies = augmentation.copies(frame, disguised=0.6, padded=0.3, at_most=10_000, seed=0)
    assert len(copies) == pytest.approx(0.9 * len(frame), rel=0.1)
    originals = frame.loc[copies.index]
    assert (copies["label"].to_numpy() == originals["label"].to_numpy()).all()
    assert (copies["text"].to_numpy() != originals["text"].to_numpy()).mean() > 0.8
    assert augmentation.copies(frame, 0.0, 0.0, 10_000, seed=0).empty
    few = augmentation.copies(frame, disguised=0.6, padded=0.3, at_most=300, seed=0)
    assert len(few) == pytest.approx(300, rel=0.2)


def test_padding_uses_words_of_ham_of_the_same_fold_alone(frame: pd.DataFrame) -> None:
    ham = {
        fold: set(" ".join(texts).split())
        for fold, texts in frame[frame["label"] == "ham"].groupby("fold")["text"]
    }
    copies = augmentation.copies(frame, disguised=0.0, padded=1.0, at_most=10_000, seed=0)
    originals = frame.loc[copies.index]
    for copy, original, fold in zip(
        copies["text"], originals["text"], originals["fold"], strict=True
    ):
        assert copy.startswith(original)
        assert set(copy.removeprefix(original).split()) <= ham[fold]


def test_equal_seeds_give_equal_copies(frame: pd.DataFrame) -> None:
    first, again, other = (augmentation.copies(frame, 0.5, 0.5, 10_000, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert list(first["text"]) != list(other["text"])
