"""Figures of a classifier on one part of the data."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spam_mlflow.classifier import Thresholds

_ECE_BINS = 15


def metrics(
    frame: pd.DataFrame, scores: np.ndarray, thresholds: Thresholds, prefix: str
) -> dict[str, float]:
    """Return all figures by name, `prefix` ("test" or "val") first, overall and per source.

    scores: spam probabilities, shape (rows,).
    Figures that are not defined, such as PR-AUC where a source has no spam, are left out.
    """
    spam = (frame["label"] == "spam").to_numpy(dtype=np.int64)
    figures = {f"{prefix}_{n}": v for n, v in _overall(spam, scores, thresholds)}
    for source in sorted(frame["source"].unique()):
        rows = (frame["source"] == source).to_numpy()
        for name, value in _overall(spam[rows], scores[rows], thresholds):
            figures[f"{prefix}_{name}__{source}"] = value
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def _overall(
    spam: np.ndarray, scores: np.ndarray, thresholds: Thresholds
) -> Iterator[tuple[str, float]]:
    from sklearn import metrics as sk

    called = (scores >= thresholds.chosen).astype(np.int64)
    yield "accuracy", float((called == spam).mean())
    yield "ham_fpr", float(called[spam == 0].mean()) if (spam == 0).any() else np.nan
    yield "ece", expected_calibration_error(spam, scores)
    yield "brier", float(np.mean((scores - spam) ** 2))
    if not spam.any():
        return
    yield "precision", float(sk.precision_score(spam, called, zero_division=0.0))
    yield "recall", float(sk.recall_score(spam, called))
    yield "f1", float(sk.f1_score(spam, called))
    yield "recall_at_fpr_0_2pct", float((scores[spam == 1] >= thresholds.low_fpr).mean())
    if spam.all():
        return
    yield "mcc", float(sk.matthews_corrcoef(spam, called))
    yield "pr_auc", float(sk.average_precision_score(spam, scores))
    yield "roc_auc", float(sk.roc_auc_score(spam, scores))


def expected_calibration_error(spam: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean gap between spam probability and spam rate over 15 equal-width bins.

    spam, scores: shape (rows,). Bins count by their rows (Naeini et al. 2015).
    """
    bins = np.minimum((scores * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    gap = np.bincount(bins, scores - spam, minlength=_ECE_BINS)
    return float(np.abs(gap).sum() / len(scores))


@dataclass(frozen=True)
class Report:
    """Everything measured on one part of the data.

    metrics: figures by their full name, such as "test_f1__uci_sms".
    spam, scores: 1 for spam, and spam probabilities, shape (rows,).
    """

    metrics: dict[str, float]
    frame: pd.DataFrame
    scores: np.ndarray
    threshold: float

    @property
    def spam(self) -> np.ndarray:
        """1 for spam, 0 for ham; shape (rows,), int64."""
        return (self.frame["label"] == "spam").to_numpy(dtype=np.int64)


def report(frame: pd.DataFrame, scores: np.ndarray, thresholds: Thresholds, prefix: str) -> Report:
    """Return the report of spam probabilities `scores`, shape (rows,), for the rows of `frame`."""
    figures = metrics(frame, scores, thresholds, prefix)
    return Report(figures, frame, scores, thresholds.chosen)


def misclassified(report: Report) -> pd.DataFrame:
    """Return the wrongly labelled messages, the most confident mistakes first.

    Columns: text, source, label, predicted, spam_probability.
    """
    predicted = np.where(report.scores >= report.threshold, "spam", "ham")
    table = report.frame[["text", "source", "label"]].assign(
        predicted=predicted, spam_probability=report.scores
    )
    wrong = table[table["predicted"] != table["label"]]
    distance = (wrong["spam_probability"] - report.threshold).abs()
    return wrong.loc[distance.sort_values(ascending=False).index].reset_index(drop=True)
