"""The two classes, and the one place that turns their names into numbers."""

from collections.abc import Iterable

import numpy as np

LABELS = ("ham", "spam")
"""Class names in the order of their class index: spam is the positive class, 1."""

HAM, SPAM = LABELS


def is_spam(labels: Iterable[str]) -> np.ndarray:
    """Return whether each label is spam.

    Args:
        labels: Class names, such as a data frame's column `label`.

    Returns:
        Array of shape (rows,), bool; as a number, spam is 1 and ham is 0.
    """
    return np.fromiter((label == SPAM for label in labels), dtype=bool)


def predicted_labels(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the class name that is predicted from each score.

    Args:
        scores: Spam probabilities, shape (rows,).
        threshold: Spam probability from which a text is labeled spam.

    Returns:
        Array of the strings "ham" and "spam", shape (rows,).
    """
    return np.where(scores >= threshold, SPAM, HAM)
