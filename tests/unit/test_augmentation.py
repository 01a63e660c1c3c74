import random
import re

import numpy as np
import pandas as pd
import pytest

from spam_mlflow.data import attacks, augmentation
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.scorer.normalization import normalize, skeleton

TEXT = "Call now to claim your free prize of cash"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    messages = SampleSource().load().frame
    return messages.assign(fold=np.arange(len(messages)) % 3)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_every_attack_changes_the_text_as_far_as_it_is_told(name: str) -> None:
    attack = attacks.ATTACKS[name]
    assert attack(TEXT, random.Random(0), 1.0) != TEXT
    untouched = attack(TEXT, random.Random(0), 0.0)
    assert re.sub(r"\s+", " ", untouched) == TEXT


@pytest.mark.parametrize(
    "name", ["homoglyphs", "zero width", "spacing", "upper case", "lower case"]
)
def test_the_normalizer_sees_through_these_attacks(name: str) -> None:
    obfuscated = attacks.ATTACKS[name](TEXT, random.Random(0), 1.0)
    assert normalize(obfuscated).casefold() == TEXT.casefold()


@pytest.mark.parametrize("name", ["run together", "mixed case", "punctuation"])
def test_the_skeleton_survives_these_attacks(name: str) -> None:
    obfuscated = attacks.ATTACKS[name](TEXT, random.Random(0), 1.0)
    letters, expected = (
        "".join(skeleton(word) for word in normalize(text).split()) for text in (obfuscated, TEXT)
    )
    assert letters == expected


def test_copies_keep_label_and_row_and_come_in_the_shares_asked_for(frame: pd.DataFrame) -> None:
    copies = augmentation.copies(
        frame, obfuscated_fraction=0.6, padded_fraction=0.3, max_augmented=10_000, seed=0
    )
    assert len(copies) == pytest.approx(0.9 * len(frame), rel=0.1)
    originals = frame.loc[copies.index]
    assert (copies["label"].to_numpy() == originals["label"].to_numpy()).all()
    assert (copies["text"].to_numpy() != originals["text"].to_numpy()).mean() > 0.8
    assert augmentation.copies(frame, 0.0, 0.0, 10_000, seed=0).empty
    few = augmentation.copies(
        frame, obfuscated_fraction=0.6, padded_fraction=0.3, max_augmented=300, seed=0
    )
    assert len(few) == pytest.approx(300, rel=0.2)


def test_padding_uses_good_words_of_the_same_fold_alone(frame: pd.DataFrame) -> None:
    ham = {
        fold: set(" ".join(texts).split())
        for fold, texts in frame[frame["label"] == "ham"].groupby("fold")["text"]
    }
    copies = augmentation.copies(
        frame, obfuscated_fraction=0.0, padded_fraction=1.0, max_augmented=10_000, seed=0
    )
    originals = frame.loc[copies.index]
    for copy, original, fold in zip(
        copies["text"], originals["text"], originals["fold"], strict=True
    ):
        assert copy.startswith(original)
        assert set(copy.removeprefix(original).split()) <= ham[fold]


def test_misspelled_copies_are_words_that_are_near_the_original(frame: pd.DataFrame) -> None:
    copies = augmentation.misspelled_copies(frame, 0.5, most=10_000, seed=0)
    assert len(copies) == pytest.approx(0.5 * len(frame), rel=0.1)
    originals = frame.loc[copies.index]
    assert (copies["label"].to_numpy() == originals["label"].to_numpy()).all()
    pairs = [
        pair
        for copy, original in zip(copies["text"], originals["text"], strict=True)
        for pair in zip(copy.split(), original.split(), strict=True)
    ]
    changed = [(word, before) for word, before in pairs if word != before]
    assert 0.3 < len(changed) / len(pairs) < 0.5
    assert all(len(before) > 2 and abs(len(word) - len(before)) <= 3 for word, before in changed)
    few = augmentation.misspelled_copies(frame, 0.5, most=200, seed=0)
    assert len(few) == pytest.approx(200, rel=0.2)
    assert augmentation.misspelled_copies(frame, 0.0, most=10_000, seed=0).empty


def test_no_word_is_misspelled_where_no_share_is_asked_for() -> None:
    assert attacks.misspellings(TEXT, random.Random(0), 0.0) == TEXT
    short = "u r so ok 2 me"
    assert attacks.misspellings(short, random.Random(0), 1.0) == short


def test_equal_seeds_give_equal_copies(frame: pd.DataFrame) -> None:
    first, again, other = (augmentation.copies(frame, 0.5, 0.5, 10_000, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert list(first["text"]) != list(other["text"])
