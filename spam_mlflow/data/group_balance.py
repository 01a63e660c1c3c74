"""The shares that the parts of a split have of messages and classes, where groups are large."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from spam_mlflow.scorer.labels import LABELS


def drift(frame: pd.DataFrame, part: pd.Series, shares: Mapping[str, float]) -> float:
    """Return how far a part's share of the messages, or of a class, is off at most, from 0 to 1.

    It is 1 where a part lacks a class.

    Args:
        frame: Column `label`.
        part: The part of each row.
        shares: The share that each part should have.
    """
    counts = pd.crosstab(part, frame["label"]).reindex(list(shares), columns=LABELS, fill_value=0)
    if (counts == 0).to_numpy().any():
        return 1.0
    counts["all"] = counts.sum(axis=1)
    off = counts / counts.sum() - np.array(list(shares.values()))[:, np.newaxis]
    return float(off.abs().to_numpy().max())


def assigned_by_size(frame: pd.DataFrame, shares: Mapping[str, float], seed: int) -> pd.Series:
    """Return the part of each row, with the largest groups assigned first.

    Each group is assigned to the part that lacks most of what is in it, as by scikit-learn's
    StratifiedGroupKFold, but for parts of different sizes. A class with as few groups left as parts
    that have none of it goes to those.

    Args:
        frame: Columns `group` and `label`.
        shares: The share that each part should have of every class.
        seed: Seed of the order of groups of the same size.
    """
    counts = pd.crosstab(frame["group"], frame["label"]).reindex(columns=LABELS, fill_value=0)
    shuffled = counts.sample(frac=1, random_state=seed)
    sizes = shuffled.sum(axis=1).to_numpy()
    ordered = shuffled.iloc[np.argsort(-sizes, kind="stable")]
    lacking = np.outer(list(shares.values()), counts.sum(axis=0)).tolist()
    groups_left = (counts > 0).sum(axis=0).tolist()
    without = [set(range(len(shares))) for _ in LABELS]
    chosen = []
    for row in ordered.to_numpy().tolist():
        part = _neediest(row, lacking, groups_left, without)
        chosen.append(part)
        for label, count in enumerate(row):
            if count:
                lacking[part][label] -= count
                groups_left[label] -= 1
                without[label].discard(part)
    names = np.array(list(shares))[chosen]
    return frame["group"].map(pd.Series(names, index=ordered.index))


def _neediest(
    row: Sequence[int],
    lacking: Sequence[Sequence[float]],
    groups_left: Sequence[int],
    without: Sequence[set[int]],
) -> int:
    """Return the number of the part that a group with these counts of each class is assigned to."""
    candidates = set(range(len(lacking)))
    for label, count in enumerate(row):
        if count and without[label] and groups_left[label] <= len(without[label]):
            candidates = candidates & without[label] or candidates
    return max(
        sorted(candidates),
        key=lambda part: sum(
            count * (lack - count / 2) for count, lack in zip(row, lacking[part], strict=True)
        ),
    )


def large_groups(frame: pd.DataFrame, share: float, least: int) -> list[str]:
    """Describe the largest group of each class that has one larger than the smallest part.

    Args:
        frame: Columns `group` and `label`.
        share: The share of the smallest part.
        least: Messages that a group has to have.
    """
    found = []
    for label in LABELS:
        sizes = frame.loc[frame["label"] == label, "group"].value_counts()
        if sizes.max() >= max(least, share * sizes.sum()):
            found.append(
                f"one group of near-duplicates has {sizes.max():,} of the {sizes.sum():,} "
                f"different {label} messages"
            )
    return found


def described(frame: pd.DataFrame, parts: Sequence[str]) -> str:
    """Return what shares the parts have of the messages, and of spam, in a few words.

    Args:
        frame: Columns `part` and `label`.
        parts: The parts in the order to name them.
    """
    rows = frame["part"].value_counts(normalize=True)
    spam = (frame["label"] == LABELS[1]).groupby(frame["part"]).mean()
    return ", ".join(f"{part} {rows[part]:.1%} ({spam[part]:.0%} spam)" for part in parts)
