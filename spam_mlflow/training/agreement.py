"""Whether labels and texts belong together, by the scores of messages that were held out."""

import numpy as np
import pandas as pd

from spam_mlflow.scorer.labels import is_spam

_CHANCE = 0.5  # ROC-AUC of scores that have nothing to do with the labels
# ROC-AUC that is too low for a model of texts and their own labels. Labels of neighboring rows stay
# above chance, since spam comes in bursts: 0.69 on comments whose labels were shifted by one row.
_DOUBTFUL = 0.7
_FEWEST = 20  # messages of each class from which on a source is looked at by itself


def doubt(rows: pd.DataFrame, scores: np.ndarray) -> str | None:
    """Return why labels and texts may not belong together, None where scores agree with labels.

    A source is also looked at by itself: which source a message is from is easy to learn, and
    tells much of its label where one source has more spam than another.

    Args:
        rows: Columns `label` and `source`.
        scores: Held-out spam probability of each row, shape (rows,).
    """
    spam, source = is_spam(rows["label"]), rows["source"].to_numpy()
    auc, low, high = auc_interval(scores, spam)
    if low <= _CHANCE or high < _DOUBTFUL:
        return _sentence("held-out messages", auc)
    for name in sorted(set(source)):
        ours = source == name
        if min(spam[ours].sum(), (~spam[ours]).sum()) < _FEWEST:
            continue
        auc, _, high = auc_interval(scores[ours], spam[ours])
        if high < _DOUBTFUL:
            return _sentence(f"held-out messages of the source {name}", auc)
    return None


def _sentence(where: str, auc: float) -> str:
    return (
        f"labels and texts may not belong together: of the {where}, a spam scores higher than a "
        f"ham in {auc:.0%} of all pairs, where chance gives 50%"
    )


def auc_interval(scores: np.ndarray, spam: np.ndarray) -> tuple[float, float, float]:
    """Return the ROC-AUC with its 95 % interval (Hanley and McNeil 1982).

    Args:
        scores: Spam probabilities, shape (rows,).
        spam: Whether each row is spam, with both classes; shape (rows,), bool.

    Returns:
        The ROC-AUC, and both ends of the interval.
    """
    from sklearn.metrics import roc_auc_score

    auc = float(roc_auc_score(spam, scores))
    n_spam, n_ham = int(spam.sum()), int((~spam).sum())
    both_spam, both_ham = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc) + (n_spam - 1) * (both_spam - auc**2) + (n_ham - 1) * (both_ham - auc**2)
    ) / (n_spam * n_ham)
    reach = 1.96 * float(np.sqrt(variance))
    return auc, auc - reach, auc + reach
