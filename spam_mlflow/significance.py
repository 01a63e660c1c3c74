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


def precision(counts: Counts) -> np.ndarray:
    """Return the share of calls that are right, NaN where nothing is called spam."""
    return counts.tp / (counts.tp + counts.fp)


def recall(counts: Counts) -> np.ndarray:
    """Return the share of spam that is called spam."""
    return counts.tp / (counts.tp + counts.fn)


def mcc(counts: Counts) -> np.ndarray:
    """Return Matthews's correlation, NaN where all calls are the same."""
    product = counts.tp * counts.tn - counts.fp * counts.fn
    called, spam = counts.tp + counts.fp, counts.tp + counts.fn
    return product / np.sqrt(called * spam * (counts.tn + counts.fp) * (counts.tn + counts.fn))


def interval(figure: Callable[[Counts], np.ndarray], counts: Counts) -> tuple[float, float, float]:
    """Return the figure of `counts`, as `resampled` gives them, and its 95 % interval's bounds.

    Resamples for which the figure is not defined are left out.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = figure(counts)
    if np.isnan(values[1:]).all():
        return float(values[0]), np.nan, np.nan
    low, high = np.nanpercentile(values[1:], _CONFIDENCE)
    return float(values[0]), float(low), float(high)


def paired_difference(
    figure: Callable[[Counts], np.ndarray],
    groups: np.ndarray,
    spam: np.ndarray,
    called: np.ndarray,
    other: np.ndarray,
) -> tuple[float, float, float]:
    """Return the figure of `called` minus that of `other`, and the bounds of its 95 % interval.

    The arrays are those of `resampled`: the same resamples for both models.
    """
    ours, theirs = (figure(counts) for counts in resampled(groups, spam, called, other))
    low, high = np.percentile((ours - theirs)[1:], _CONFIDENCE)
    return float(ours[0] - theirs[0]), float(low), float(high)


def resampled(groups: np.ndarray, spam: np.ndarray, *calls: np.ndarray) -> list[Counts]:
    """Return the counts of each of `calls`: of the sample itself, then of each resample.

    groups: of near-copies, which are no independent evidence: whole groups are resampled.
    spam and each of the calls: truth and a model's calls, bool. All of shape (rows,).
    Percentile bootstrap (Efron 1979); the draws are the same every time.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    size = int(numbers.max()) + 1
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [np.bincount(rng.integers(0, size, size), minlength=size) for _ in range(BOOTSTRAPS)]
    )
    weights = np.vstack([np.ones(size), drawn]).T
    found = []
    for called in calls:
        kinds = (called & spam, called & ~spam, ~called & spam, ~called & ~spam)
        by_group = np.stack([np.bincount(numbers, hits, minlength=size) for hits in kinds])
        found.append(Counts(*(by_group @ weights)))
    return found
