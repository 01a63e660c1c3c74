"""Whether labels belong to their texts and to each other, by scores of held-out messages."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from spam_mlflow.evaluation import bootstrap
from spam_mlflow.evaluation.cuts import Cuts
from spam_mlflow.scorer.labels import is_spam

_CHANCE = 0.5  # ROC-AUC of scores that have nothing to do with the labels
# ROC-AUC that is too low for a model of texts and their own labels. Labels of neighboring rows stay
# above chance, since spam comes in bursts: 0.69 on comments whose labels were shifted by one row.
_DOUBTFUL = 0.7
_FEWEST = 20  # messages of each class from which on a source is looked at by itself

_FEWEST_ALONE = 100  # messages of each class from which on a source is also trained on alone
_MOST_COMPARED = 10_000  # messages of a source, evenly spaced, that the interval is computed on
_COST = 0.02  # F1 lost by the others, from which on it is told; UCI's sources lose up to 0.01


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


def better_alone(
    rows: pd.DataFrame, scores: np.ndarray, held_out_alone: Callable[[np.ndarray], np.ndarray]
) -> str | None:
    """Return which sources a model of their own would suit better, None where no source is told.

    Where labels mean other things in different sources, or words do, the sources cost each other.
    Both models are compared at the threshold that is best for each in hindsight.

    Args:
        rows: Columns `label`, `source` and `group`.
        scores: Held-out spam probability of each row by the model of all sources, shape (rows,).
        held_out_alone: From the positions of one source's rows, shape (n,), to their held-out
            spam probabilities by a model that is trained on them alone, shape (n,).
    """
    spam, source = is_spam(rows["label"]), rows["source"].to_numpy()
    names = sorted(set(source))
    told = []
    for name in names if len(names) > 1 else ():
        ours = np.flatnonzero(source == name)
        if min(spam[ours].sum(), (~spam[ours]).sum()) < _FEWEST_ALONE:
            continue
        labels, groups = spam[ours], rows["group"].to_numpy()[ours]
        alone, joint = (
            _best_predictions(found, labels) for found in (held_out_alone(ours), scores[ours])
        )
        some = slice(None, None, -(-len(ours) // _MOST_COMPARED))
        compared = (of_all[some] for of_all in (groups, labels, alone, joint))
        gain, low, high = bootstrap.paired_difference(bootstrap.f1, *compared)
        if low > 0 and gain > _COST:
            told.append(f"{name} (by {gain:.3f}, 95 % interval {low:.3f} to {high:.3f})")
    if not told:
        return None
    return (
        "training on the other sources as well costs F1 on the held-out messages of "
        f"{', '.join(told)}: labels or words seem to mean other things there"
    )


def _best_predictions(scores: np.ndarray, spam: np.ndarray) -> np.ndarray:
    """Return whether each score is at or above the threshold with the best F1."""
    cuts = Cuts.of(scores, spam)
    return np.asarray(scores >= cuts.thresholds[int(np.argmax(cuts.f1()))])
