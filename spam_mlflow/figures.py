"""Figures of one run, as Matplotlib figures ready to be saved as PNG."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HAM, _SPAM, _GREY = "#2a6f97", "#d1495b", "#8d99ae"
_RELIABILITY_BINS = 10


def all_figures(
    spam: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    epochs: Sequence[Mapping[str, float]],
    title: str,
) -> dict[str, "Figure"]:
    """Return every figure of a run by file name without ending.

    spam, scores: 1 for spam, and spam probabilities, of the test part, shape (rows,).
    epochs: figures per epoch; without any, the learning curves are left out.
    title: names the model and the data, and stands above every figure.
    """
    # On a new machine Matplotlib announces that it builds its font cache: nothing to act on.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    figures = {
        "confusion_matrix": _confusion_matrix(spam, scores, threshold, title),
        "roc": _roc(spam, scores, threshold, title),
        "precision_recall": _precision_recall(spam, scores, threshold, title),
        "calibration": _calibration(spam, scores, title),
    }
    if epochs:
        figures["learning_curves"] = _learning_curves(epochs, title)
    return figures


def precision_recall_overlay(spam: np.ndarray, scores: Mapping[str, np.ndarray]) -> "Figure":
    """Return precision and recall of several models, by name, on the same messages.

    spam and each of the scores: shape (rows,).
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _new("", "Precision and recall (average precision)", width=7)
    for name, values in scores.items():
        precision, recall, _ = precision_recall_curve(spam, values)
        area = average_precision_score(spam, values)
        axes.step(recall, precision, where="post", label=f"{name} ({area:.4f})")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_ylim(0.5, 1.01)
    axes.legend(loc="lower left", frameon=False)
    axes.grid(alpha=0.3)
    return figure


def calibration_overlay(spam: np.ndarray, scores: Mapping[str, np.ndarray]) -> "Figure":
    """Return the calibration of several models, by name, on the same messages; shapes likewise."""
    from spam_mlflow.evaluation import expected_calibration_error

    figure, axes = _new("", "Calibration (expected error)", width=7)
    axes.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    for name, values in scores.items():
        mean, rate, _ = _reliability(spam, values)
        error = expected_calibration_error(spam, values)
        axes.plot(mean, rate, "o-", label=f"{name} ({error:.4f})")
    axes.set_xlabel("spam probability")
    axes.set_ylabel("share of spam")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _reliability(spam: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean score, share of spam and size of every bin that holds a message."""
    bins = np.minimum((scores * _RELIABILITY_BINS).astype(np.int64), _RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=_RELIABILITY_BINS)
    filled = counts > 0
    mean = np.bincount(bins, scores, minlength=_RELIABILITY_BINS)[filled] / counts[filled]
    rate = np.bincount(bins, spam, minlength=_RELIABILITY_BINS)[filled] / counts[filled]
    return mean, rate, counts[filled]


def search_history(values: Sequence[float], objective: str, title: str) -> "Figure":
    """Return a figure of each complete trial's value, and of the best so far.

    values: by trial, in order; NaN where a trial was not completed.
    """
    figure, axes = _new(title, f"{objective} by trial")
    numbers = np.arange(1, len(values) + 1)
    axes.plot(numbers, values, "o", color=_HAM, label="trial")
    axes.step(numbers, np.fmax.accumulate(values), where="post", color=_SPAM, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    return figure


def importances(shares: Mapping[str, float], objective: str, title: str) -> "Figure":
    """Return a figure of each parameter's share in the variance of the objective."""
    figure, axes = _new(title, f"share in the variance of {objective}")
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], color=_HAM)
    axes.set_xlabel("importance")
    return figure


def _new(title: str, subtitle: str, width: float = 5.6) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.6), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=9, color=_GREY)
    axes = figure.add_subplot()
    axes.set_title(subtitle, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _confusion_matrix(
    spam: np.ndarray, scores: np.ndarray, threshold: float, title: str
) -> "Figure":
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(spam, scores >= threshold, labels=[0, 1])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = _new(title, f"Confusion matrix at threshold {threshold:.3f}")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        text = f"{count:,}\n{share:.2%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks([0, 1], ["ham", "spam"])
    axes.set_yticks([0, 1], ["ham", "spam"])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def _roc(spam: np.ndarray, scores: np.ndarray, threshold: float, title: str) -> "Figure":
    from sklearn.metrics import roc_auc_score, roc_curve

    false_rate, true_rate, _ = roc_curve(spam, scores)
    figure, axes = _new(title, f"ROC, area {roc_auc_score(spam, scores):.4f}")
    # Rates below one message cannot be seen on a logarithmic axis; they start at its left end.
    floor = 0.5 / max((spam == 0).sum(), 1)
    axes.step(np.maximum(false_rate, floor), true_rate, where="post", color=_HAM)
    at = [np.mean(scores[spam == 0] >= threshold), np.mean(scores[spam == 1] >= threshold)]
    axes.plot(max(at[0], floor), at[1], "o", color=_SPAM, label=f"threshold {threshold:.3f}")
    axes.set_xscale("log")
    axes.set_xlabel("ham called spam (false-positive rate, log scale)")
    axes.set_ylabel("spam caught (recall)")
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    return figure


def _precision_recall(
    spam: np.ndarray, scores: np.ndarray, threshold: float, title: str
) -> "Figure":
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(spam, scores)
    area = average_precision_score(spam, scores)
    figure, axes = _new(title, f"Precision and recall, average precision {area:.4f}")
    axes.step(recall, precision, where="post", color=_HAM)
    called = scores >= threshold
    if called.any():
        here = (np.mean(called[spam == 1]), np.mean(spam[called]))
        axes.plot(*here, "o", color=_SPAM, label=f"threshold {threshold:.3f}")
        axes.legend(loc="lower left", frameon=False)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_ylim(min(0.5, precision.min()), 1.01)
    axes.grid(alpha=0.3)
    return figure


def _calibration(spam: np.ndarray, scores: np.ndarray, title: str) -> "Figure":
    from spam_mlflow.evaluation import expected_calibration_error

    mean, rate, counts = _reliability(spam, scores)
    error = expected_calibration_error(spam, scores)
    figure, axes = _new(title, f"Calibration, expected error {error:.4f}")
    axes.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1, label="perfect")
    axes.plot(mean, rate, "o-", color=_HAM, label="model")
    for x, y, count in zip(mean, rate, counts, strict=True):
        axes.annotate(f"{count:,}", (x, y), (4, -10), textcoords="offset points", fontsize=7)
    axes.set_xlabel("spam probability (labels: messages in the bin)")
    axes.set_ylabel("share of spam")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _learning_curves(epochs: Sequence[Mapping[str, float]], title: str) -> "Figure":
    figure, axes = _new(title, "Learning curves", width=8.4)
    axes.remove()
    for position, name in enumerate(("loss", "accuracy"), start=1):
        panel = figure.add_subplot(1, 2, position)
        numbers = range(1, len(epochs) + 1)
        for key, colour, label in ((name, _GREY, "train"), (f"val_{name}", _HAM, "validation")):
            panel.plot(
                numbers, [figures[key] for figures in epochs], "o-", color=colour, label=label
            )
        panel.set_xticks(list(numbers))
        panel.set_xlabel("epoch")
        panel.set_title(name, fontsize=11, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    return figure
