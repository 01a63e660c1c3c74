"""Splitting messages so that no text, and no near-copy of one, stands on both sides.

Data flow: drop exact duplicates (by `duplicate_key`), group near-duplicates (Jaccard similarity of
character 5-grams), then deal whole groups to the parts, stratified by label and source.
"""

import functools
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from spam_mlflow.data.messages import LABELS, Messages
from spam_mlflow.errors import UserError
from spam_mlflow.text import duplicate_key

PARTS = ("train", "validation", "test")
_SHINGLE = 5  # characters
_PAIRS_AT_ONCE = 200_000  # bounds memory while candidate pairs are verified


@dataclass(frozen=True)
class Split:
    """The messages of each part, each row once, and how they came to be there.

    frame: the messages' columns plus `part` ("train", "validation" or "test") and `group` (int).
    name: "grouped" or "seed".
    leaky: True where copies of a text may stand on both sides.
    duplicates: rows dropped because a copy of their text was kept.
    """

    frame: pd.DataFrame
    name: str
    leaky: bool
    duplicates: int

    def part(self, name: str) -> pd.DataFrame:
        """Return the rows of "train", "validation" or "test", renumbered from 0."""
        return self.frame[self.frame["part"] == name].reset_index(drop=True)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over every row's part, label and text: equal splits have equal digests."""
        rows = zip(self.frame["part"], self.frame["label"], self.frame["text"], strict=True)
        return hashlib.sha256("\x1e".join("\x1f".join(row) for row in rows).encode()).hexdigest()


class Splitter(Protocol):
    """A way to split; built by Hydra from `conf/split/*.yaml`."""

    def split(self, messages: Messages) -> Split:
        """Return the three parts; raises UserError where there are too few messages for them."""
        ...


@dataclass(frozen=True)
class GroupedSplitter:
    """The leak-free protocol.

    test, validation: shares of all groups, between 0 and 1; the rest is for training.
    jaccard: texts at least this similar (0 to 1, character 5-grams) share a group.
    seed: of the shuffle.
    """

    test: float
    validation: float
    jaccard: float
    seed: int

    def __post_init__(self) -> None:
        """Check the shares; raises UserError for ones that leave a part empty."""
        shares = (self.test, self.validation, 1 - self.test - self.validation)
        if not all(0 < share < 1 for share in shares):
            raise UserError(
                f"split.test={self.test} and split.validation={self.validation} must be "
                "above 0 and leave a share for training"
            )

    def split(self, messages: Messages) -> Split:
        """Return the three parts, groups whole, each part with both classes."""
        frame = deduplicated(messages.frame, self.jaccard)
        strata = _strata(frame)
        remaining, test = _deal(strata, self.test, self.seed)
        _, validation = _deal(remaining, self.validation / (1 - self.test), self.seed)
        part = pd.Series("train", index=strata.index)
        part[validation.index], part[test.index] = "validation", "test"
        frame = frame.assign(part=frame["group"].map(part))
        _require_both_classes(frame)
        duplicates = len(messages.frame) - len(frame)
        return Split(frame, name="grouped", leaky=False, duplicates=duplicates)


@dataclass(frozen=True)
class CrossSourceSplitter:
    """Learn from some sources, be scored on another one that nothing was learnt from.

    held_out: the source that becomes the test part, such as "uci_youtube".
    validation: share of the other groups, between 0 and 1.
    jaccard, seed: as for `GroupedSplitter`.
    """

    held_out: str
    validation: float
    jaccard: float
    seed: int

    def split(self, messages: Messages) -> Split:
        """Return the three parts, groups whole.

        A group that holds a message of the source held out gives no message to the other parts.
        """
        existing = sorted(messages.frame["source"].unique())
        if self.held_out not in existing or len(existing) < 2:
            raise UserError(
                f"split.held_out={self.held_out!r} must be one of several sources; "
                f"{messages.name} has {', '.join(existing)}"
            )
        frame = deduplicated(messages.frame, self.jaccard)
        test = frame["source"] == self.held_out
        frame = frame[test | ~frame["group"].isin(frame.loc[test, "group"])].reset_index(drop=True)
        test = frame["source"] == self.held_out
        _, validation = _deal(_strata(frame[~test]), self.validation, self.seed)
        part = pd.Series("train", index=frame.index)
        part[frame["group"].isin(validation.index)] = "validation"
        part[test] = "test"
        frame = frame.assign(part=part)
        _require_both_classes(frame)
        duplicates = len(messages.frame) - len(frame)
        return Split(frame, name="cross_source", leaky=False, duplicates=duplicates)


@dataclass(frozen=True)
class OverfitSplitter:
    """A few messages, which are train, validation and test part at once: for debugging. Leaky.

    messages: of each class.
    """

    messages: int
    seed: int

    def split(self, messages: Messages) -> Split:
        """Return the same messages three times."""
        fewest = int(messages.frame["label"].value_counts().min())
        if not 0 < self.messages <= fewest:
            raise UserError(
                f"split.messages={self.messages} must be between 1 and {fewest}, the number of "
                "messages of the rarer class"
            )
        few = messages.frame.groupby("label").sample(self.messages, random_state=self.seed)
        frame = pd.concat([few.assign(part=part) for part in PARTS], ignore_index=True)
        frame["group"] = frame.groupby("text", sort=False).ngroup()
        return Split(frame, name="overfit", leaky=True, duplicates=0)


@dataclass(frozen=True)
class SeedSplitter:
    """The tutorial's split: 33 % of the raw rows at random, copies and all. Leaky.

    Its test part also serves as validation data, as in the tutorial.
    """

    test: float
    seed: int

    def split(self, messages: Messages) -> Split:
        """Return train and test rows; the test rows come again as the validation part."""
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(
            messages.frame, test_size=self.test, random_state=self.seed, shuffle=True
        )
        parts = [
            train.assign(part="train"),
            test.assign(part="validation"),
            test.assign(part="test"),
        ]
        frame = pd.concat(parts, ignore_index=True)
        return Split(frame.assign(group=frame.index), name="seed", leaky=True, duplicates=0)


def cross_validation(
    frame: pd.DataFrame, folds: int, validation: float, seed: int
) -> Iterator[Split]:
    """Yield one leak-free split for each fold, which is its test part; groups whole, stratified.

    frame: as `deduplicated` returns it.
    validation: share of the other groups that becomes the validation part.
    """
    fold = deal_groups(frame, folds, seed)
    for number in range(folds):
        remaining = _strata(frame[fold != number])
        _, held_out = _deal(remaining, validation, seed)
        part = pd.Series("train", index=frame.index)
        part[frame["group"].isin(held_out.index)] = "validation"
        part[fold == number] = "test"
        yield Split(frame.assign(part=part), name=f"fold {number}", leaky=False, duplicates=0)


def deduplicated(frame: pd.DataFrame, jaccard: float) -> pd.DataFrame:
    """Return the first row of every distinct text, with `group` as int.

    Rows share a group where their texts are near-duplicates or where they came with the same
    non-empty `group`.
    """
    keys = frame["text"].map(duplicate_key)
    first = ~keys.duplicated()
    kept = frame[first].reset_index(drop=True)
    return kept.assign(group=_groups(list(keys[first]), kept["group"], jaccard))


def _groups(keys: Sequence[str], given: pd.Series, jaccard: float) -> np.ndarray:
    """Return a group number for each key, shape (rows,), int32."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = near_duplicates(keys, jaccard)
    named = given[given != ""]
    links = named.index.to_series().groupby(named).transform("first")
    left = np.concatenate([left, links.index.to_numpy(dtype=np.int64)])
    right = np.concatenate([right, links.to_numpy(dtype=np.int64)])
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(keys),) * 2)
    return connected_components(graph, directed=False)[1]


def near_duplicates(keys: Sequence[str], jaccard: float) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of `keys` with at least this Jaccard similarity of character 5-grams.

    Two arrays of shape (pairs,), int64: positions in `keys`, the left one smaller. Exact:
    candidates come from prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): two sets
    that similar must share one of their rarest shingles.
    """
    from scipy.sparse import csr_matrix, triu
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        analyzer="char", ngram_range=(_SHINGLE,) * 2, binary=True, lowercase=False, dtype=np.int32
    )
    shingles = vectorizer.fit_transform([key.ljust(_SHINGLE) for key in keys])
    rarity = np.argsort(np.argsort(np.asarray(shingles.sum(axis=0)).ravel(), kind="stable"))
    shingles = csr_matrix(
        (shingles.data, rarity[shingles.indices], shingles.indptr), shingles.shape
    )
    shingles.sort_indices()
    sizes = np.diff(shingles.indptr)
    prefix = sizes - np.ceil(jaccard * sizes).astype(np.int64) + 1
    rank = np.arange(shingles.nnz) - np.repeat(shingles.indptr[:-1], sizes)
    rare = rank < np.repeat(prefix, sizes)
    bounds = np.concatenate([[0], np.cumsum(np.minimum(prefix, sizes))])
    prefixes = csr_matrix((shingles.data[rare], shingles.indices[rare], bounds), shingles.shape)
    candidates = triu(prefixes @ prefixes.T, k=1).tocoo()
    left, right = candidates.row.astype(np.int64), candidates.col.astype(np.int64)
    shared = np.concatenate(
        [np.zeros(0)]
        + [
            np.asarray(shingles[left[at]].multiply(shingles[right[at]]).sum(axis=1)).ravel()
            for start in range(0, len(left), _PAIRS_AT_ONCE)
            for at in [slice(start, start + _PAIRS_AT_ONCE)]
        ]
    )
    similar = shared >= jaccard * (sizes[left] + sizes[right] - shared)
    return left[similar], right[similar]


def deal_groups(frame: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """Return a fold number from 0 for each row, shape (rows,): groups whole, sizes about equal.

    Folds are stratified by label and source. frame: with the column `group`.
    """
    from sklearn.model_selection import StratifiedKFold

    strata = _strata(frame)
    dealt = pd.Series(0, index=strata.index)
    if folds > 1:
        dealer = StratifiedKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():  # a stratum smaller than the folds is no mistake
            warnings.simplefilter("ignore", UserWarning)
            for number, (_, chosen) in enumerate(dealer.split(strata, strata)):
                dealt.iloc[chosen] = number
    return frame["group"].map(dealt).to_numpy()


def _strata(frame: pd.DataFrame) -> pd.Series:
    """Return label and source of each group's first row, rare combinations pooled by label."""
    first = frame.groupby("group")[["label", "source"]].first()
    strata = first["label"] + "/" + first["source"]
    rare = strata.map(strata.value_counts()) < 10
    return strata.where(~rare, first["label"])


def _deal(strata: pd.Series, share: float, seed: int) -> tuple[pd.Series, pd.Series]:
    """Split groups (index of `strata`) in two, stratified; the second gets `share` of them."""
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(
            strata, test_size=share, random_state=seed, stratify=strata
        )
    except ValueError as error:
        counts = strata.str.split("/").str[0].value_counts().to_dict()
        raise UserError(
            f"too few messages to split: {counts} groups of distinct texts are left to take "
            f"{share:.0%} from ({error}); add data or change split.test and split.validation"
        ) from error
    return first, second


def _require_both_classes(frame: pd.DataFrame) -> None:
    for part in PARTS:
        counts = frame.loc[frame["part"] == part, "label"].value_counts()
        missing = [label for label in LABELS if label not in counts]
        if missing:
            raise UserError(
                f"too few messages to split: the {part} part has no {' and no '.join(missing)}; "
                "add data or change split.test and split.validation"
            )
