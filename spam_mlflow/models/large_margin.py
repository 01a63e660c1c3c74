"""Large-margin linear classifiers: liblinear's solver, run for a number of passes.

Dual coordinate descent (Hsieh et al. 2008) has no step size, and comes near the one solution of the
convex problem in a few tens of passes, where SGD takes hundreds.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_MOST_ROWS = (
    25_000  # that are solved for at once; it bounds the memory, of which liblinear takes a lot
)
_TOLERANCE = 0.1  # liblinear's own default, at which it stops; with 0.001, no score changes by 1 %


_LEAST_SLOPE = 0.01  # of log-odds over margins; on real data it is above 1


class Head(NamedTuple):
    """A linear function of a row.

    Attributes:
        coefficients: Shape (features,), float64.
        intercept: Its value at 0.
    """

    coefficients: np.ndarray
    intercept: float

    def margins(self, rows: "csr_matrix") -> np.ndarray:
        """Return its value for each row, shape (rows,), float64."""
        return np.asarray(rows @ self.coefficients + self.intercept, dtype=np.float64)

    def scaled(self, slope: float, shift: float) -> "Head":
        """Return the head whose margins are `slope` times this one's, plus `shift`."""
        return Head(self.coefficients * slope, self.intercept * slope + shift)


def mean(heads: Sequence[Head]) -> Head:
    """Return the head whose margins are the mean of those of `heads`."""
    coefficients = sum(head.coefficients for head in heads) / len(heads)
    return Head(np.asarray(coefficients), sum(head.intercept for head in heads) / len(heads))


def solve(
    rows: "csr_matrix", positive: np.ndarray, weights: np.ndarray, cost: float, passes: int
) -> Head:
    """Minimize `cost` times the squared hinge loss plus half the coefficients' squared length.

    More than 25,000 rows are solved for in several parts, whose mean is returned.

    Args:
        rows: CSR matrix of shape (rows, features).
        positive: Whether each row is in the positive class, shape (rows,), bool.
        weights: Weight of each row in the loss, shape (rows,); rows of weight 0 are left out.
        cost: Weight of the loss.
        passes: Largest number of passes over the rows.
    """
    used = np.flatnonzero(weights)
    count = max(1, -(-len(used) // _MOST_ROWS))
    parts = [used[start::count] for start in range(count)]
    return mean([_solve_part(rows[p], positive[p], weights[p], cost, passes) for p in parts])


def _solve_part(
    rows: "csr_matrix", positive: np.ndarray, weights: np.ndarray, cost: float, passes: int
) -> Head:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    if positive.all() or not positive.any():
        return Head(np.zeros(rows.shape[1]), 1.0 if positive.all() else -1.0)
    model = LinearSVC(C=cost, tol=_TOLERANCE, max_iter=passes, dual=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the passes are the caller's choice
        model.fit(rows, positive, sample_weight=weights)
    return Head(model.coef_[0], float(model.intercept_[0]))


def loss(margins: np.ndarray, positive: np.ndarray) -> float:
    """Return the mean squared hinge loss of margins.

    Args:
        margins: Shape (rows,).
        positive: Whether each row is in the positive class, shape (rows,), bool.
    """
    return float(np.mean(np.maximum(0, 1 - np.where(positive, margins, -margins)) ** 2))


def platt(
    margins: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Return slope and shift that make margins log-odds of the positive class (Platt 1999).

    The slope is positive. Held-out margins of little data may fall where the class rises, but so do
    they by chance, and a model turned round would be wrong on the very texts it was trained on.

    Args:
        margins: Held-out margins, shape (rows,).
        positive: Whether each row is in the positive class, shape (rows,), bool.
        weights: Weight of each row, shape (rows,); None for equal weights.
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=np.inf).fit(margins[:, None], positive, sample_weight=weights)
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope >= _LEAST_SLOPE:
        return slope, shift
    share = float(np.average(positive, weights=weights))
    return _LEAST_SLOPE, float(np.log(share / (1 - share)))
