"""How far two models' figures on the same messages differ by more than chance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BOOTSTRAPS = 2000
_CONFIDENCE = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Counts:
    """Messages by truth and call; each of shape (), or one value per resample."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def f1(counts: Counts) -> np.ndarray:
    """Return the F1 of spam."""
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)


def ham_fpr(counts: Counts) -> np.ndarray:
    """Return the share of ham that is called spam."""
    return counts.fp / (counts.fp + counts.tn)


def paired_difference(
    figure: Callable[[Counts], np.ndarray],
    groups: np.ndarray,
    spam: np.ndarray,
    called: np.ndarray,
    other: np.ndarray,
) -> tuple[float, float, float]:
    """Return the figure of `called` minus that of `other`, and the bounds of its 95 % interval.

    groups: of near-copies, which are no independent evidence: whole groups are resampled.
    spam, called, other: truth and both models' calls, bool. All four of shape (rows,).
    Percentile bootstrap (Efron 1979), the same resamples for both models.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    size = int(numbers.max()) + 1
    by_group = np.zeros((2, 4, size))
    for side, calls in enumerate((called, other)):
        kinds = (calls & spam, calls & ~spam, ~calls & spam, ~calls & ~spam)
        for kind, hits in enumerate(kinds):
            np.add.at(by_group[side, kind], numbers, hits)
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [np.bincount(rng.integers(0, size, size), minlength=size) for _ in range(BOOTSTRAPS)]
    )
    weights = np.vstack([np.ones(size), drawn])  # the first is the sample itself
    ours, theirs = (figure(Counts(*counts)) for counts in by_group @ weights.T)
    low, high = np.percentile((ours - theirs)[1:], _CONFIDENCE)
    return float(ours[0] - theirs[0]), float(low), float(high)
