"""Plots of runs, as Matplotlib figures that are ready to be saved as PNG."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HAM, _SPAM, _GRAY = "#2a6f97", "#d1495b", "#8d99ae"
_RELIABILITY_BINS = 10


def all_plots(
    spam: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    epochs: Sequence[Mapping[str, float]],
    title: str,
) -> dict[str, "Figure"]:
    """Return the plots of a run.

    Args:
        spam: 1 for spam, 0 for ham, of the test part; shape (rows,).
        scores: Spam probabilities of the test part, shape (rows,).
        threshold: Spam probability from which a message is predicted as spam.
        epochs: Metrics of each epoch by name; without any, there are no learning curves.
        title: Title of every plot; it names the model and the data.

    Returns:
        Figures by file name without its extension. Messages that are all ham or all spam have no
        curves of precision and recall, nor of ROC.
    """
    # On a new machine, Matplotlib logs that it builds its font cache, which needs no attention.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    figures = {
        "confusion_matrix": _confusion_matrix(spam, scores, threshold, title),
        "calibration": _calibration(spam, scores, title),
    }
    if 0 < spam.sum() < len(spam):
        figures["roc"] = _roc(spam, scores, threshold, title)
        figures["precision_recall"] = _precision_recall(spam, scores, threshold, title)
    if epochs:
        figures["learning_curves"] = _learning_curves(epochs, title)
    return figures


def precision_recall_overlay(spam: np.ndarray, scores: Mapping[str, np.ndarray]) -> "Figure":
    """Return a plot of the precision-recall curves of several models.

    Args:
        spam: 1 for spam, 0 for ham; shape (rows,).
        scores: Spam probabilities of the same messages by the model's name, each of shape (rows,).
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
    """Return a plot of the calibration of several models.

    Args:
        spam: 1 for spam, 0 for ham; shape (rows,).
        scores: Spam probabilities of the same messages by the model's name, each of shape (rows,).
    """
    from spam_mlflow.evaluation.metrics import expected_calibration_error

    figure, axes = _new("", "Calibration (expected error)", width=7)
    axes.plot([0, 1], [0, 1], "--", color=_GRAY, linewidth=1)
    for name, values in scores.items():
        mean, rate, _ = _reliability(spam, values)
        error = expected_calibration_error(spam, values)
        axes.plot(mean, rate, "o-", label=f"{name} ({error:.4f})")
    axes.set_xlabel("spam probability")
    axes.set_ylabel("share of spam")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _reliability(spam: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean score, share of spam and number of messages of every bin that is not empty."""
    bins = np.minimum((scores * _RELIABILITY_BINS).astype(np.int64), _RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=_RELIABILITY_BINS)
    filled = counts > 0
    mean = np.bincount(bins, scores, minlength=_RELIABILITY_BINS)[filled] / counts[filled]
    rate = np.bincount(bins, spam, minlength=_RELIABILITY_BINS)[filled] / counts[filled]
    return mean, rate, counts[filled]


def search_history(values: Sequence[float], objective: str, title: str) -> "Figure":
    """Return a plot of each trial's value and of the best value so far.

    Args:
        values: Value of each trial, in order; NaN for a trial that was not completed.
        objective: Name of the metric that the search maximizes.
        title: Title of the plot.
    """
    figure, axes = _new(title, f"{objective} by trial")
    numbers = np.arange(len(values))
    axes.plot(numbers, values, "o", color=_HAM, label="trial")
    axes.step(numbers, np.fmax.accumulate(values), where="post", color=_SPAM, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    return figure


def importances(shares: Mapping[str, float], objective: str, title: str) -> "Figure":
    """Return a plot of the importance of each parameter.

    Args:
        shares: Share of the objective's variance that each parameter explains, 0 to 1, by its name.
        objective: Name of the metric that the search maximizes.
        title: Title of the plot.
    """
    figure, axes = _new(title, f"share in the variance of {objective}")
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], color=_HAM)
    axes.set_xlabel("importance")
    return figure


def _new(title: str, subtitle: str, width: float = 5.6) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.6), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=9, color=_GRAY)
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
        color = "white" if share > 0.5 else "black"
        text = f"{count:,}\n{share:.2%}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=13)
    axes.set_xticks([0, 1], ["ham", "spam"])
    axes.set_yticks([0, 1], ["ham", "spam"])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def _roc(spam: np.ndarray, scores: np.ndarray, threshold: float, title: str) -> "Figure":
    from sklearn.metrics import roc_auc_score, roc_curve

    false_rate, true_rate, _ = roc_curve(spam, scores)
    figure, axes = _new(title, f"ROC, area {roc_auc_score(spam, scores):.4f}")
    # A rate of 0 has no place on a logarithmic axis, so that it is drawn as half a message.
    floor = 0.5 / max((spam == 0).sum(), 1)
    axes.step(np.maximum(false_rate, floor), true_rate, where="post", color=_HAM)
    at = [np.mean(scores[spam == 0] >= threshold), np.mean(scores[spam == 1] >= threshold)]
    axes.plot(max(at[0], floor), at[1], "o", color=_SPAM, label=f"threshold {threshold:.3f}")
    axes.set_xscale("log")
    axes.set_xlabel("ham predicted as spam (false-positive rate, log scale)")
    axes.set_ylabel("spam predicted as spam (recall)")
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
    predicted = scores >= threshold
    if predicted.any():
        chosen = (np.mean(predicted[spam == 1]), np.mean(spam[predicted]))
        axes.plot(*chosen, "o", color=_SPAM, label=f"threshold {threshold:.3f}")
        axes.legend(loc="lower left", frameon=False)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_ylim(min(0.5, precision.min()), 1.01)
    axes.grid(alpha=0.3)
    return figure


def _calibration(spam: np.ndarray, scores: np.ndarray, title: str) -> "Figure":
    from spam_mlflow.evaluation.metrics import expected_calibration_error

    mean, rate, counts = _reliability(spam, scores)
    error = expected_calibration_error(spam, scores)
    figure, axes = _new(title, f"Calibration, expected error {error:.4f}")
    axes.plot([0, 1], [0, 1], "--", color=_GRAY, linewidth=1, label="perfect")
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
        for key, color, label in ((name, _GRAY, "train"), (f"val_{name}", _HAM, "validation")):
            values = [metrics[key] for metrics in epochs]
            panel.plot(numbers, values, "o-", color=color, label=label)
        panel.set_xticks(list(numbers))
        panel.set_xlabel("epoch")
        panel.set_title(name, fontsize=11, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    return figure
