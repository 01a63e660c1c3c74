import dataclasses
import itertools
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.uci import local_files

from spam_mlflow.config.instantiate import settings
from spam_mlflow.data import csv_cells, near_duplicates
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.shingles import ShingleSets
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.data.sources.tutorial import TutorialSource
from spam_mlflow.data.sources.uci import UciSource
from spam_mlflow.data.splitters import (
    PARTS,
    CrossSourceSplitter,
    GroupedSplitter,
    OverfitSplitter,
    Split,
    TutorialSplitter,
)
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import artifacts
from spam_mlflow.scorer.normalization import duplicate_key

SPLITTER = GroupedSplitter(test=0.2, validation=0.15, jaccard=0.6, seed=0)

WORDS = ["".join(letters) for letters in itertools.product("bdklmr", "aeiou", "nst", "aeiou")]


@pytest.fixture(scope="module")
def uci_messages(uci_dir: Path) -> Messages:
    return UciSource(local_files(uci_dir)).load()


@pytest.fixture(scope="module")
def uci_split(uci_messages: Messages) -> Split:
    return SPLITTER.split(uci_messages)


def shingles(key: str) -> set[str]:
    padded = key.ljust(5)
    return {padded[i : i + 5] for i in range(len(padded) - 4)}


def require_leak_free(split: Split) -> None:
    keys = {part: set(split.part(part)["text"].map(duplicate_key)) for part in PARTS}
    groups = {part: set(split.part(part)["group"]) for part in PARTS}
    for left, right in itertools.combinations(PARTS, 2):
        assert not keys[left] & keys[right]
        assert not groups[left] & groups[right]
    for part in PARTS:
        assert len(keys[part]) == len(split.part(part))  # no text twice either


def test_no_text_and_no_group_crosses_parts_of_the_sample() -> None:
    messages = SampleSource().load()
    split = SPLITTER.split(messages)
    require_leak_free(split)
    template = messages.frame.drop_duplicates("text").set_index("text")["group"]
    templates = split.frame["text"].map(template)
    assert split.frame["part"].groupby(templates).nunique().max() == 1


def test_parts_have_their_fraction_of_all_groups_and_the_digest_tells_them_apart() -> None:
    split = SPLITTER.split(SampleSource().load())
    groups = split.frame.drop_duplicates("group")["part"].value_counts(normalize=True)
    assert groups["test"] == pytest.approx(0.2, abs=0.01)
    assert groups["validation"] == pytest.approx(0.15, abs=0.01)
    last = split.frame.index[split.frame["part"] == "test"][-1]
    for column, value in (("part", "train"), ("label", "other"), ("text", "another")):
        changed = split.frame[column].mask(split.frame.index == last, value)
        other = dataclasses.replace(split, frame=split.frame.assign(**{column: changed}))
        assert other.digest != split.digest


def test_no_text_and_no_group_crosses_parts_of_uci(uci_split: Split) -> None:
    require_leak_free(uci_split)
    assert len(uci_split.frame) == 6768
    assert uci_split.duplicates == 5574 + 1956 - 6768


def test_no_near_duplicate_crosses_parts(uci_split: Split) -> None:
    """Measured pair by pair, not by the code under test."""
    keys = {p: [shingles(duplicate_key(t)) for t in uci_split.part(p)["text"]] for p in PARTS}
    others = [key for key in keys["train"] + keys["validation"] if len(key) > 16]
    for key in keys["test"][::60]:
        assert max(len(key & other) / len(key | other) for other in others) < 0.6


def components(keys: Sequence[str], given: Sequence[str], jaccard: float) -> list[int]:
    """Group texts by looking at every pair, without the code under test."""
    sets, group = [shingles(key) for key in keys], list(range(len(keys)))
    for i, j in itertools.combinations(range(len(keys)), 2):
        both = len(sets[i] & sets[j])
        similar = both >= jaccard * (len(sets[i]) + len(sets[j]) - both)
        if group[i] != group[j] and (similar or (given[i] and given[i] == given[j])):
            group = [group[i] if number == group[j] else number for number in group]
    return [int(number) for number in pd.factorize(np.array(group))[0]]


def campaigns(rng: random.Random) -> list[str]:
    """Return distinct texts: variations of a few, which share words with each other."""
    letters = rng.choice(("abc", "abcdeé😀ñ", "\U0010ffff\ud800xyz"))
    words = ["".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(40)]
    texts = []
    for _ in range(8):
        template = rng.choices(words, k=rng.randint(1, 14))
        for _ in range(rng.randint(1, 20)):
            changed = (rng.choice(words) if rng.random() < 0.15 else word for word in template)
            texts.append(" ".join(changed))
    rng.shuffle(texts)
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("large", "at_once", "rounds"), [(300, 10**7, 24), (3, 50, 1), (4, 9, 0)])
def test_groups_are_exactly_the_components_of_similar_texts(
    monkeypatch: pytest.MonkeyPatch, seed: int, large: int, at_once: int, rounds: int
) -> None:
    monkeypatch.setattr(near_duplicates, "_LARGE", large)
    monkeypatch.setattr(near_duplicates, "_PRODUCTS_AT_ONCE", at_once)
    monkeypatch.setattr(near_duplicates, "_ROUNDS", rounds)
    rng = random.Random(seed)
    keys, jaccard = campaigns(rng), rng.choice((0.3, 0.5, 0.6, 0.8, 1.0))
    given = [rng.choice("gh") if rng.random() < 0.03 else "" for _ in keys]
    found = near_duplicates.groups(keys, pd.Series(given), jaccard)
    assert found.tolist() == components(keys, given, jaccard)


def test_most_pairs_of_a_campaign_are_never_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, similar = [0], ShingleSets.similar

    def counted(
        sets: ShingleSets, left: np.ndarray, right: np.ndarray, jaccard: float
    ) -> np.ndarray:
        compared[0] += len(left)
        return similar(sets, left, right, jaccard)

    monkeypatch.setattr(ShingleSets, "similar", counted)
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdefgh", k=8)) for _ in range(2000)]
    texts = [f"dear {name} you have won our prize draw, claim it at our page" for name in names]
    frame = pd.DataFrame({"text": texts, "group": ""})
    assert near_duplicates.deduplicated(frame, 0.6)["group"].nunique() == 1
    assert compared[0] < 20 * len(texts)


def test_the_split_of_uci_is_that_which_earlier_versions_were_trained_on(uci_split: Split) -> None:
    digest = "3c2a6f71b9f8312d3c62356f69dc6f0bc831a9836cc6b4b3f22d9c9196d87459"
    assert uci_split.digest == digest


def test_the_split_of_the_sample_is_that_which_earlier_versions_were_trained_on() -> None:
    digest = "d61a54d3b1aa63cb4b76430cc85e761129c14af85298f786ca0b31ae18c766fd"
    assert SPLITTER.split(SampleSource().load()).digest == digest


def test_parts_keep_the_shares_of_labels_and_sources(uci_split: Split) -> None:
    shares = uci_split.frame.groupby(["source", "label"])["part"].value_counts(normalize=True)
    for part, expected in (("train", 0.65), ("validation", 0.15), ("test", 0.2)):
        assert shares.xs(part, level="part").to_numpy() == pytest.approx(expected, abs=0.05)


def test_the_seed_decides_the_split() -> None:
    messages = SampleSource().load()
    other = GroupedSplitter(test=0.2, validation=0.15, jaccard=0.6, seed=1)
    first, again, different = (s.split(messages).digest for s in (SPLITTER, SPLITTER, other))
    assert first == again
    assert first != different


def test_the_tutorials_split_is_leaky(uci_dir: Path) -> None:
    messages = TutorialSource(local_files(uci_dir)).load()
    split = TutorialSplitter(test=0.33, seed=42).split(messages)
    test, train = split.part("test"), set(split.part("train")["text"])
    youtube = test[test["source"] == "uci-youtube-spam"]
    assert split.leaky
    assert test["text"].isin(train).mean() == pytest.approx(0.34, abs=0.005)
    assert youtube["text"].isin(train).mean() == pytest.approx(0.993, abs=0.001)


def test_too_few_messages_are_refused() -> None:
    rows = [("win money now", "spam"), ("hello", "ham"), ("see you", "ham")]
    frame = pd.DataFrame(rows, columns=["text", "label"]).assign(source="csv", group="")
    with pytest.raises(UserError, match="too few messages to split"):
        SPLITTER.split(Messages(frame, name="csv"))


@pytest.mark.parametrize(
    ("test", "validation", "message"),
    [
        (0.0, 0.2, "split.test=0.0: Input should be greater than 0"),
        (0.6, 0.4, "split.test=0.6 and split.validation=0.4 must leave a fraction for training"),
        (0.2, -0.1, "split.validation=-0.1: Input should be greater than 0"),
        (1.0, 0.1, "split.test=1.0: Input should be less than 1"),
    ],
)
def test_fractions_that_leave_a_part_empty_are_refused(
    test: float, validation: float, message: str
) -> None:
    values = {"test": test, "validation": validation, "jaccard": 0.6, "seed": 0}
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        settings(GroupedSplitter, values, "split.")


def with_campaigns(*sizes: int) -> Messages:
    """Ham without near-duplicates, and spam that is nothing but campaigns of these sizes."""
    rng = random.Random(0)
    rows = [(" ".join(rng.choices(WORDS, k=12)), "ham") for _ in range(400)]
    for size in sizes:
        template = " ".join(rng.choices(WORDS, k=12))
        rows += [(f"{template} {''.join(rng.choices('wxyz', k=12))}", "spam") for _ in range(size)]
    frame = pd.DataFrame(rows, columns=["text", "label"]).assign(source="csv", group="")
    return Messages(frame, name="csv")


def test_spam_of_three_campaigns_is_in_every_part_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    split = SPLITTER.split(with_campaigns(300, 60, 40))
    require_leak_free(split)
    spam = split.frame[split.frame["label"] == "spam"]["part"].value_counts()
    assert spam.to_dict() == {"train": 300, "test": 60, "validation": 40}
    assert "assigned by size: at random, a part would lack a class" in caplog.text
    assert "one group of near-duplicates has 300 of the 400 different spam" in caplog.text


def test_a_large_table_of_the_split_is_compressed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    split = SPLITTER.split(SampleSource().load())
    artifacts.write_split(split, tmp_path)
    monkeypatch.setattr(artifacts, "_LARGE", len(split.frame))
    artifacts.write_split(split, tmp_path)
    plain, small = tmp_path / "split.csv", tmp_path / "split.csv.gz"
    assert small.stat().st_size < plain.stat().st_size / 3
    left, right = (csv_cells.read(file, safe=False, dtype=str) for file in (plain, small))
    pd.testing.assert_frame_equal(left, right)


def test_large_groups_can_be_refused() -> None:
    strict = dataclasses.replace(SPLITTER, large_groups="fail")
    with pytest.raises(UserError, match=r"split\.large_groups='fail': one group .* 300 of the 400"):
        strict.split(with_campaigns(300, 60, 40))
    assert strict.split(SampleSource().load()).name == "grouped"


def test_the_shares_of_parts_are_kept_where_groups_differ_in_size() -> None:
    messages = with_campaigns(*(2**power for power in range(9)), 150, 90, 30)
    source = np.where(np.arange(len(messages.frame)) % 3, "sms", "mail")
    split = SPLITTER.split(Messages(messages.frame.assign(source=source), name="csv"))
    require_leak_free(split)
    ham = split.frame["label"] == "ham"
    for rows in (~ham, ham & (split.frame["source"] == "sms")):
        shares = split.frame.loc[rows, "part"].value_counts(normalize=True)[list(PARTS)]
        assert shares.to_numpy() == pytest.approx([0.65, 0.15, 0.2], abs=0.05)


def test_fewer_campaigns_than_parts_are_refused_with_their_number() -> None:
    with pytest.raises(UserError, match=r"no spam; the data has .* ham and 2 spam groups of near-"):
        SPLITTER.split(with_campaigns(300, 60))


def test_a_source_held_out_is_the_test_part_and_shares_nothing_with_the_rest() -> None:
    messages = SampleSource().load()
    split = CrossSourceSplitter("sample_sms", validation=0.15, jaccard=0.6, seed=0).split(messages)
    require_leak_free(split)
    assert set(split.part("test")["source"]) == {"sample_sms"}
    assert set(split.part("train")["source"]) == {"sample_comment"}
    assert set(split.part("validation")["source"]) == {"sample_comment"}
    assert not split.leaky


def test_near_copies_of_a_source_held_out_are_not_trained_on() -> None:
    messages = SampleSource().load()
    frame = messages.frame
    copied = frame[frame["source"] == "sample_sms"].iloc[:20]
    near = copied.assign(text=copied["text"] + " now", source="sample_comment", group="")
    mixed = dataclasses.replace(messages, frame=pd.concat([frame, near], ignore_index=True))
    split = CrossSourceSplitter("sample_sms", validation=0.15, jaccard=0.6, seed=0).split(mixed)
    require_leak_free(split)
    assert not set(near["text"]) & set(split.frame["text"])


def test_an_unknown_source_cannot_be_held_out() -> None:
    messages = SampleSource().load()
    for wrong, data in (("sms", messages), ("sample_sms", messages.only(["sample_sms"]))):
        splitter = CrossSourceSplitter(wrong, validation=0.15, jaccard=0.6, seed=0)
        with pytest.raises(UserError, match=rf"split\.held_out='{wrong}' must be one of several"):
            splitter.split(data)


def test_the_split_for_overfitting_is_ten_messages_three_times_and_leaky() -> None:
    split = OverfitSplitter(messages=5, seed=0).split(SampleSource().load())
    assert split.leaky
    parts = [split.part(part)[["text", "label"]].reset_index(drop=True) for part in PARTS]
    assert all(part.equals(parts[0]) for part in parts)
    assert parts[0]["label"].value_counts().to_dict() == {"ham": 5, "spam": 5}
    with pytest.raises(UserError, match=r"split\.messages=99999 must be between 1 and "):
        OverfitSplitter(messages=99999, seed=0).split(SampleSource().load())


def test_sources_can_be_chosen_and_unknown_ones_are_named() -> None:
    messages = SampleSource().load()
    assert set(messages.only(["sample_sms"]).frame["source"]) == {"sample_sms"}
    with pytest.raises(UserError, match="has no sms; it has sample_comment, sample_sms"):
        messages.only(["sample_sms", "sms"])
