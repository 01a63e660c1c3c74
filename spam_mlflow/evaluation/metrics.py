"""Metrics of a classifier on one part of the data."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spam_mlflow.evaluation.cuts import Cuts
from spam_mlflow.scorer.classifier import Thresholds
from spam_mlflow.scorer.labels import is_spam, predicted_labels

_ECE_BINS = 15


def compute(
    frame: pd.DataFrame, scores: np.ndarray, thresholds: Thresholds, prefix: str
) -> dict[str, float]:
    """Return all metrics by name, overall and by source.

    Args:
        frame: Columns `label` and `source`.
        scores: Spam probabilities, shape (rows,).
        thresholds: Thresholds of the model.
        prefix: Start of the names: "test" or "val".

    Returns:
        Values by names such as "test_f1" and "test_f1__uci_sms". Metrics that are not defined, such
        as PR-AUC on a source without spam, are left out.
    """
    spam = is_spam(frame["label"]).astype(np.int64)
    values = {f"{prefix}_{n}": v for n, v in _overall(spam, scores, thresholds)}
    for source in sorted(frame["source"].unique()):
        rows = (frame["source"] == source).to_numpy()
        for name, value in _overall(spam[rows], scores[rows], thresholds):
            values[f"{prefix}_{name}__{source}"] = value
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _overall(
    spam: np.ndarray, scores: np.ndarray, thresholds: Thresholds
) -> Iterator[tuple[str, float]]:
    from sklearn import metrics as sk

    predicted = (scores >= thresholds.chosen).astype(np.int64)
    yield "accuracy", float((predicted == spam).mean())
    yield "ham_fpr", float(predicted[spam == 0].mean()) if (spam == 0).any() else np.nan
    yield "ece", expected_calibration_error(spam, scores)
    yield "brier", float(np.mean((scores - spam) ** 2))
    if not spam.any():
        return
    yield "precision", float(sk.precision_score(spam, predicted, zero_division=0.0))
    yield "recall", float(sk.recall_score(spam, predicted))
    yield "f1", float(sk.f1_score(spam, predicted))
    yield "f1_best", best_f1(spam, scores)
    yield "recall_at_fpr_0_2pct", float((scores[spam == 1] >= thresholds.low_fpr).mean())
    if spam.all():
        return
    yield "mcc", float(sk.matthews_corrcoef(spam, predicted))
    yield "pr_auc", float(sk.average_precision_score(spam, scores))
    yield "roc_auc", float(sk.roc_auc_score(spam, scores))


def best_f1(spam: np.ndarray, scores: np.ndarray) -> float:
    """Return the F1 of the best threshold in hindsight, which no model could have known.

    Args:
        spam: 1 for spam, 0 for ham, with some spam; shape (rows,).
        scores: Spam probabilities, shape (rows,).
    """
    return float(Cuts.of(scores, spam).f1().max())


def expected_calibration_error(spam: np.ndarray, scores: np.ndarray) -> float:
    """Return the expected calibration error over 15 bins of equal width (Naeini et al. 2015).

    It is the mean gap between spam probability and share of spam, over bins weighted by their rows.

    Args:
        spam: 1 for spam, 0 for ham; shape (rows,).
        scores: Spam probabilities, shape (rows,).
    """
    bins = np.minimum((scores * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    gap = np.bincount(bins, scores - spam, minlength=_ECE_BINS)
    return float(np.abs(gap).sum() / len(scores))


@dataclass(frozen=True)
class Report:
    """The scores and metrics of a classifier on one part of the data.

    Attributes:
        metrics: Metrics by their full name, such as "test_f1__uci_sms".
        frame: The messages, with columns `text`, `label` and `source`.
        scores: Their spam probabilities, shape (rows,).
        threshold: Spam probability from which a message is predicted as spam.
    """

    metrics: dict[str, float]
    frame: pd.DataFrame
    scores: np.ndarray
    threshold: float

    @property
    def spam(self) -> np.ndarray:
        """1 for spam, 0 for ham; shape (rows,), int64."""
        return is_spam(self.frame["label"]).astype(np.int64)


def report(frame: pd.DataFrame, scores: np.ndarray, thresholds: Thresholds, prefix: str) -> Report:
    """Return the report of a classifier.

    Args:
        frame: The messages, with columns `text`, `label` and `source`.
        scores: Their spam probabilities, shape (rows,).
        thresholds: Thresholds of the model.
        prefix: Start of the metrics' names: "test" or "val".
    """
    values = compute(frame, scores, thresholds, prefix)
    return Report(values, frame, scores, thresholds.chosen)


def misclassified(report: Report) -> pd.DataFrame:
    """Return the misclassified messages, the most confident errors first.

    Args:
        report: The report of the messages.

    Returns:
        Columns `text`, `source`, `label`, `predicted` and `spam_probability`.
    """
    predicted = predicted_labels(report.scores, report.threshold)
    table = report.frame[["text", "source", "label"]].assign(
        predicted=predicted, spam_probability=report.scores
    )
    wrong = table[table["predicted"] != table["label"]]
    distance = (wrong["spam_probability"] - report.threshold).abs()
    return wrong.loc[distance.sort_values(ascending=False).index].reset_index(drop=True)
