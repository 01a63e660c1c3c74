"""Bootstrap intervals of metrics, and of the difference between two models' metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BOOTSTRAPS = 2000
"""Number of resamples."""

_CONFIDENCE = (2.5, 97.5)  # percentiles
_WEIGHTS_AT_ONCE = 5_000_000  # of groups in resamples; it bounds the memory


@dataclass(frozen=True)
class Counts:
    """Confusion counts of one model, one value for the sample and one for each resample.

    Attributes:
        tp: Spam predicted as spam; all four have shape (1 + BOOTSTRAPS,), float64.
        fp: Ham predicted as spam.
        fn: Spam predicted as ham.
        tn: Ham predicted as ham.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def f1(counts: Counts) -> np.ndarray:
    """Return the F1 of spam for each of the counts."""
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)


def ham_fpr(counts: Counts) -> np.ndarray:
    """Return the share of ham that is predicted as spam."""
    return counts.fp / (counts.fp + counts.tn)


def precision(counts: Counts) -> np.ndarray:
    """Return the share of true spam in what is predicted as spam, NaN if nothing is."""
    return counts.tp / (counts.tp + counts.fp)


def recall(counts: Counts) -> np.ndarray:
    """Return the share of spam that is predicted as spam."""
    return counts.tp / (counts.tp + counts.fn)


def mcc(counts: Counts) -> np.ndarray:
    """Return the Matthews correlation coefficient, NaN if all predictions are the same."""
    product = counts.tp * counts.tn - counts.fp * counts.fn
    predicted, spam = counts.tp + counts.fp, counts.tp + counts.fn
    return product / np.sqrt(predicted * spam * (counts.tn + counts.fp) * (counts.tn + counts.fn))


def interval(metric: Callable[[Counts], np.ndarray], counts: Counts) -> tuple[float, float, float]:
    """Return a metric with its 95 % interval.

    Args:
        metric: One of the functions above.
        counts: Counts of a model, as `resampled` returns them.

    Returns:
        The metric of the sample, and the lower and upper bound of the interval. Resamples for which
        the metric is not defined are left out; the bounds are NaN if none is left.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = metric(counts)
    if np.isnan(values[1:]).all():
        return float(values[0]), np.nan, np.nan
    low, high = np.nanpercentile(values[1:], _CONFIDENCE)
    return float(values[0]), float(low), float(high)


def paired_difference(
    metric: Callable[[Counts], np.ndarray],
    groups: np.ndarray,
    spam: np.ndarray,
    predicted: np.ndarray,
    other: np.ndarray,
) -> tuple[float, float, float]:
    """Return the difference between two models' metrics with its 95 % interval.

    Both models are scored on the same resamples.

    Args:
        metric: One of the functions above.
        groups: Group of near-duplicates of each message, shape (rows,).
        spam: Whether each message is spam, shape (rows,), bool.
        predicted: Whether the first model predicts each message as spam, shape (rows,), bool.
        other: Whether the second model does, shape (rows,), bool.

    Returns:
        The first model's metric minus the second's, and the lower and upper bound of the interval.
    """
    ours, theirs = (metric(counts) for counts in resampled(groups, spam, predicted, other))
    low, high = np.percentile((ours - theirs)[1:], _CONFIDENCE)
    return float(ours[0] - theirs[0]), float(low), float(high)


def resampled(groups: np.ndarray, spam: np.ndarray, *predictions: np.ndarray) -> list[Counts]:
    """Return each model's confusion counts in the sample and in its bootstrap resamples.

    Whole groups are resampled (percentile bootstrap, Efron 1979), since near-duplicates are not
    independent. The resamples are the same in every call.

    Args:
        groups: Group of near-duplicates of each message, shape (rows,).
        spam: Whether each message is spam, shape (rows,), bool.
        predictions: For each model, whether it predicts each message as spam, shape (rows,), bool.

    Returns:
        The counts of each model: of the sample, then of each resample.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    size = int(numbers.max()) + 1
    rng = np.random.default_rng(0)
    by_group = []
    for predicted in predictions:
        outcomes = (predicted & spam, predicted & ~spam, ~predicted & spam, ~predicted & ~spam)
        by_group.append(np.stack([np.bincount(numbers, hits, minlength=size) for hits in outcomes]))
    counts = [[of_groups.sum(axis=1, keepdims=True)] for of_groups in by_group]
    step = max(1, _WEIGHTS_AT_ONCE // size)
    for start in range(0, BOOTSTRAPS, step):
        drawn = [rng.integers(0, size, size) for _ in range(min(step, BOOTSTRAPS - start))]
        weights = np.stack([np.bincount(of_one, minlength=size) for of_one in drawn], axis=1)
        for found, of_groups in zip(counts, by_group, strict=True):
            found.append(of_groups @ weights.astype(np.float64))
    return [Counts(*np.concatenate(found, axis=1)) for found in counts]
