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


def assigned_by_size(
    frame: pd.DataFrame, strata: pd.Series, shares: Mapping[str, float], seed: int
) -> pd.Series:
    """Return the part of each row, with the largest groups assigned first.

    Each group is assigned to the part that lacks most of its class and its stratum, as by
    scikit-learn's StratifiedGroupKFold, but for parts of different sizes. A class with as few
    groups left as parts that have none of it goes to those.

    Args:
        frame: Columns `group` and `label`.
        strata: The stratum of each group, which is its index.
        shares: The share that each part should have of every class.
        seed: Seed of the order of groups of the same size.
    """
    groups = pd.DataFrame({"label": frame.groupby("group")["label"].first(), "stratum": strata})
    groups["size"] = frame["group"].value_counts()
    groups = groups.sample(frac=1, random_state=seed)
    groups = groups.sort_values("size", ascending=False, kind="stable")
    left = groups["label"].value_counts().to_dict()
    of_class, of_stratum = (_lacking(groups, column, shares) for column in ("label", "stratum"))
    without = {label: list(shares) for label in left}
    chosen = []
    for label, stratum, size in groups.itertuples(index=False):
        few = 0 < len(without[label]) >= left[label]
        part = max(
            without[label] if few else shares,
            key=lambda name: of_class[label][name] + of_stratum[stratum][name],
        )
        for lacking in (of_class[label], of_stratum[stratum]):
            lacking[part] -= size
        left[label] -= 1
        without[label] = [name for name in without[label] if name != part]
        chosen.append(part)
    return frame["group"].map(pd.Series(chosen, index=groups.index))


def _lacking(
    groups: pd.DataFrame, column: str, shares: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return how many messages each part should have of each value of a column."""
    sizes = groups.groupby(column)["size"].sum()
    return {
        str(value): {part: share * size for part, share in shares.items()}
        for value, size in sizes.items()
    }


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
