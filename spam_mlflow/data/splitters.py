"""Splitting messages into train, validation and test part without leaks.

Duplicates (by `duplicate_key`) are dropped, near-duplicates (by Jaccard similarity of character
5-grams) are grouped, and whole groups are assigned to the parts, stratified by label and source.
"""

import dataclasses
import functools
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Protocol

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, PositiveCount, Seed
from spam_mlflow.data import group_balance, training_only
from spam_mlflow.data.messages import Messages, row_digest
from spam_mlflow.data.near_duplicates import deduplicated
from spam_mlflow.errors import UserError
from spam_mlflow.scorer.labels import LABELS
from spam_mlflow.scorer.normalization import duplicate_key

PARTS = ("train", "validation", "test")

Fraction = Annotated[float, Field(gt=0, lt=1)]
"""Fraction of the groups or rows that a part gets."""
Similarity = Annotated[float, Field(gt=0, le=1)]
"""Jaccard similarity from which two texts share a group."""

LargeGroups = Literal["train", "fail"]

logger = logging.getLogger(__name__)

_TOLERANCE = 0.05
"""How far the share that a part has of the messages, or of a class, may be off at random."""
_MANY = 10  # messages from which a group counts as a campaign, or groups as a stratum


@dataclasses.dataclass(frozen=True)
class Split:
    """Messages, each assigned to a part.

    Attributes:
        frame: The columns of `Messages.frame`, with `group` as int, plus `part` ("train",
            "validation" or "test").
        name: Name of the kind of split, such as "grouped".
        leaky: Whether copies of a text may be in several parts.
        duplicates: Number of rows that were dropped because a copy of their text was kept.
        extra: Additional messages that are only trained on, as `Messages.extra`; no text of theirs
            is among the others.
    """

    frame: pd.DataFrame
    name: str
    leaky: bool
    duplicates: int
    extra: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    def part(self, name: str) -> pd.DataFrame:
        """Return the rows of one of `PARTS`, renumbered from 0."""
        return self.frame[self.frame["part"] == name].reset_index(drop=True)

    @property
    def rows_without_test(self) -> pd.DataFrame:
        """The rows that a model may be trained and tuned on: all but the test part."""
        return self.frame[self.frame["part"] != "test"]

    def without_extra(self) -> "Split":
        """Return the split without additional messages, for what is not trained on them."""
        return dataclasses.replace(self, extra=self.extra.iloc[:0])

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 (hex) over part, label and text of every row, in order."""
        return row_digest(self.frame, ("part", "label", "text"), end="")


class Splitter(Protocol):
    """A way to split messages; Hydra instantiates it from `conf/split/*.yaml`."""

    def split(self, messages: Messages) -> Split:
        """Assign messages to the three parts.

        Args:
            messages: The messages to split.

        Raises:
            UserError: Where there are too few messages for three parts with both classes.
        """
        ...


@dataclass(frozen=True, config=CONFIG)
class GroupedSplitter:
    """The leak-free split: duplicates dropped, near-duplicates kept together, stratified.

    Attributes:
        test: Fraction of the groups that become the test part, between 0 and 1.
        validation: Fraction of the groups that become the validation part, between 0 and 1.
        jaccard: Similarity from which two texts share a group, above 0 to 1.
        seed: Seed of the shuffle.
        large_groups: What to do where a group is so large that the parts cannot have their
            fractions: train with a warning, or fail.
    """

    test: Fraction
    validation: Fraction
    jaccard: Similarity
    seed: Seed
    large_groups: LargeGroups = "train"

    def __post_init__(self) -> None:
        """Check that something is left to train on.

        Raises:
            UserError: Where it is not.
        """
        if self.test + self.validation >= 1:
            raise UserError(
                f"split.test={self.test} and split.validation={self.validation} must leave a "
                "fraction for training"
            )

    def split(self, messages: Messages) -> Split:
        """Assign whole groups to the three parts.

        Args:
            messages: The messages to split.

        Raises:
            UserError: Where there are too few messages for three parts with both classes.
        """
        frame = deduplicated(messages.splittable.frame, self.jaccard)
        shares = {"test": self.test, "validation": self.validation}
        shares["train"] = 1 - self.test - self.validation
        frame = frame.assign(part=_assigned(frame, shares, self.seed))
        _require_both_classes(frame)
        _report_large_groups(frame, shares, self.large_groups)
        frame = training_only.added(frame, messages, self.jaccard)
        duplicates = len(messages.frame) - len(frame)
        extra = without_copies(messages.extra, frame)
        return Split(frame, "grouped", leaky=False, duplicates=duplicates, extra=extra)


@dataclass(frozen=True, config=CONFIG)
class CrossSourceSplitter:
    """A split that trains on all sources but one, and tests on that one.

    Attributes:
        held_out: The source that becomes the test part, such as "uci_youtube".
        validation: Fraction of the other groups that become the validation part, between 0 and 1.
        jaccard: Similarity from which two texts share a group, above 0 to 1.
        seed: Seed of the shuffle.
    """

    held_out: str
    validation: Fraction
    jaccard: Similarity
    seed: Seed

    def split(self, messages: Messages) -> Split:
        """Assign one source to the test part, and the groups of the others to the other parts.

        Messages of the other sources that share a group with a test message are dropped.

        Args:
            messages: The messages to split.

        Raises:
            UserError: Where there is no such source, or no other one, and where there are too few
                messages for three parts with both classes.
        """
        training_only.refuse(messages, "cross_source")
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
        shares = {"validation": self.validation, "train": 1 - self.validation}
        assigned = _assigned(frame[~test], shares, self.seed)
        frame = frame.assign(part=assigned.reindex(frame.index, fill_value="test"))
        _require_both_classes(frame)
        duplicates = len(messages.frame) - len(frame)
        extra = without_copies(messages.extra, frame)
        return Split(frame, "cross_source", leaky=False, duplicates=duplicates, extra=extra)


def without_copies(extra: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return additional messages without those whose text is also in `frame`.

    Args:
        extra: Additional messages, as `Messages.extra`.
        frame: Messages that are split, with the column `text`.
    """
    if extra.empty:
        return extra
    known = set(frame["text"].map(duplicate_key))
    return extra[~extra["text"].map(duplicate_key).isin(known)].reset_index(drop=True)


@dataclass(frozen=True, config=CONFIG)
class OverfitSplitter:
    """A leaky split for debugging: the same few messages in all three parts.

    Attributes:
        messages: Number of messages of each class.
        seed: Seed of the choice.
    """

    messages: PositiveCount
    seed: Seed

    def split(self, messages: Messages) -> Split:
        """Assign the same messages to all three parts.

        Args:
            messages: The messages to choose from.

        Raises:
            UserError: Where a class has too few messages.
        """
        training_only.refuse(messages, "overfit")
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


@dataclass(frozen=True, config=CONFIG)
class TutorialSplitter:
    """The tutorial's leaky split: raw rows at random, duplicates included.

    The test part is the validation part, too, as in the tutorial.

    Attributes:
        test: Fraction of the rows that become the test part, between 0 and 1.
        seed: Seed of the shuffle.
    """

    test: Fraction
    seed: Seed

    def split(self, messages: Messages) -> Split:
        """Assign rows to train and test part; the test rows come again as the validation part.

        Args:
            messages: The messages to split.
        """
        from sklearn.model_selection import train_test_split

        training_only.refuse(messages, "tutorial")
        train, test = train_test_split(
            messages.frame, test_size=self.test, random_state=self.seed, shuffle=True
        )
        parts = [
            train.assign(part="train"),
            test.assign(part="validation"),
            test.assign(part="test"),
        ]
        frame = pd.concat(parts, ignore_index=True)
        return Split(frame.assign(group=frame.index), name="tutorial", leaky=True, duplicates=0)


def cross_validation(
    frame: pd.DataFrame, folds: int, validation: float, seed: int
) -> Iterator[Split]:
    """Yield the splits of a leak-free, stratified cross-validation.

    Args:
        frame: Messages, as `deduplicated` returns them.
        folds: Number of folds.
        validation: Fraction of the groups outside the test fold that become the validation part.
        seed: Seed of the shuffle.

    Yields:
        One split for each fold, in which that fold is the test part; groups stay together.
    """
    fold = assign_folds(frame, folds, seed)
    for number in range(folds):
        remaining = _strata(frame[fold != number])
        _, validation_groups = _split_groups(remaining, validation, seed)
        part = pd.Series("train", index=frame.index)
        part[frame["group"].isin(validation_groups.index)] = "validation"
        part[fold == number] = "test"
        yield Split(frame.assign(part=part), name=f"fold {number}", leaky=False, duplicates=0)


def assign_folds(frame: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """Assign rows to folds of about equal size: groups together, stratified by label and source.

    Args:
        frame: Columns `group` (int), `label` and `source`.
        folds: Number of folds.
        seed: Seed of the shuffle.

    Returns:
        The fold of each row, from 0; shape (rows,), int64.

    Raises:
        UserError: If no label of any source has as many groups as there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    strata = _strata(frame)
    fold = pd.Series(0, index=strata.index)
    if folds > 1 and strata.value_counts().max() < folds:
        raise UserError(
            f"the {len(frame)} messages to train on are too few for {folds} folds: there is no "
            f"label of which a source has {folds} that are not near-duplicates; add messages"
        )
    if folds > 1:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():  # strata may be smaller than the number of folds
            warnings.simplefilter("ignore", UserWarning)
            for number, (_, chosen) in enumerate(splitter.split(strata, strata)):
                fold.iloc[chosen] = number
    return frame["group"].map(fold).to_numpy()


def _assigned(frame: pd.DataFrame, shares: Mapping[str, float], seed: int) -> pd.Series:
    """Return the part of each row: of groups at random, and by size where that is far off."""
    strata = _strata(frame)
    try:
        part = _assigned_at_random(frame, strata, shares, seed)
    except UserError:
        if frame["label"].nunique() < len(LABELS) or len(frame) < len(shares) * len(LABELS):
            raise
        return group_balance.assigned_by_size(frame, strata, shares, seed)
    off = group_balance.drift(frame, part, shares)
    if off <= _TOLERANCE:
        return part
    by_size = group_balance.assigned_by_size(frame, strata, shares, seed)
    better = group_balance.drift(frame, by_size, shares)
    if better >= off:
        return part
    drifted = "a part would lack a class" if off == 1 else f"shares would be {off:.0%} off"
    logger.info("Groups of near-duplicates were assigned by size: at random, %s", drifted)
    return by_size


def _assigned_at_random(
    frame: pd.DataFrame, strata: pd.Series, shares: Mapping[str, float], seed: int
) -> pd.Series:
    remaining = strata
    part = pd.Series("train", index=remaining.index)
    left = 1.0
    for name, share in shares.items():
        if name != "train":
            remaining, chosen = _split_groups(remaining, share / left, seed)
            part[chosen.index] = name
            left -= share
    return frame["group"].map(part)


def _report_large_groups(
    frame: pd.DataFrame, shares: Mapping[str, float], large_groups: LargeGroups
) -> None:
    """Warn of groups that are too large for parts of these shares, or raise a UserError."""
    found = group_balance.large_groups(frame, min(shares.values()), _MANY)
    if not found:
        return
    off = group_balance.drift(frame, frame["part"], shares)
    parts = group_balance.described(frame, PARTS)
    if large_groups == "fail" and off > _TOLERANCE:
        raise UserError(
            f"split.large_groups='fail': {'; '.join(found)}, and the parts would be: {parts}; "
            "split.large_groups=train trains nevertheless, or add other messages"
        )
    logger.warning(
        "Few campaigns: %s, and the parts are: %s. Metrics of so few may not hold for others.",
        "; ".join(found),
        parts,
    )


def _strata(frame: pd.DataFrame) -> pd.Series:
    """Return the stratum of each group: label and source of its first row.

    Combinations that are too rare to be stratified are pooled by label.
    """
    first = frame.groupby("group")[["label", "source"]].first()
    strata = first["label"] + "/" + first["source"]
    rare = strata.map(strata.value_counts()) < _MANY
    return strata.where(~rare, first["label"])


def _split_groups(strata: pd.Series, share: float, seed: int) -> tuple[pd.Series, pd.Series]:
    """Split the groups (index of `strata`) in two, stratified; the second gets `share` of them."""
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
                f"the data has {_group_counts(frame)} groups of near-duplicates, which stay "
                "together; add data or change split.test and split.validation"
            )


def _group_counts(frame: pd.DataFrame) -> str:
    counts = frame.groupby("label")["group"].nunique().reindex(LABELS, fill_value=0)
    return " and ".join(f"{count} {label}" for label, count in counts.items())
