"""Plots of runs, as Matplotlib figures that are ready to be saved as PNG.

Colors are those of Okabe and Ito (2008), which color-blind readers tell apart; lines also differ in
their style. Plots have a white background of their own, whatever is around them, and can be read at
half their width.
"""

import functools
import itertools
import logging
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from spam_mlflow.evaluation.cuts import Cuts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HAM, _SPAM, _GRAY = "#0072B2", "#D55E00", "#595959"
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.titlesize": 14,
    "figure.titlesize": 12,
    "legend.fontsize": 12,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_RELIABILITY_BINS = 20  # of equal width, before small ones are joined
_FEWEST_IN_BIN = 30  # messages
_SCORE_BINS = 40
_LEGEND_WIDTH = 48  # characters
_ALIKE = 0.005  # difference of precision that is not worth a look

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")


def _styled(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Return a function whose figures have the style of this module, and leave others alone."""

    @functools.wraps(draw)
    def styled(*arguments: Arguments.args, **named: Arguments.kwargs) -> Drawn:
        import matplotlib as mpl

        # On a new machine, Matplotlib logs that it builds its font cache: it needs no attention.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        with mpl.rc_context(_STYLE):
            return draw(*arguments, **named)

    return styled


def _styles() -> Iterator[dict[str, Any]]:
    """Yield a color and a style for each line of a plot."""
    for color, line in zip(itertools.cycle(_PALETTE), itertools.cycle(_LINES), strict=False):
        yield {"color": color, "linestyle": line}


@_styled
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
    figures = {
        "confusion_matrix": _confusion_matrix(spam, scores, threshold, title),
        "calibration": _calibration(spam, scores, title),
        "scores": _score_histograms(spam, scores, threshold, title),
    }
    if 0 < spam.sum() < len(spam):
        figures["roc"] = _roc(spam, scores, threshold, title)
        figures["precision_recall"] = _precision_recall(spam, scores, threshold, title)
        figures["thresholds"] = _thresholds(spam, scores, threshold, title)
    if epochs:
        figures["learning_curves"] = _learning_curves(epochs, title)
    return figures


@_styled
def precision_recall_overlay(spam: np.ndarray, scores: Mapping[str, np.ndarray]) -> "Figure":
    """Return a plot of the precision-recall curves of several models.

    Args:
        spam: 1 for spam, 0 for ham; shape (rows,).
        scores: Spam probabilities of the same messages by the model's name, each of shape (rows,).
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _new("", "Precision and recall (average precision)", width=7.4)
    curves = []
    for (name, values), style in zip(scores.items(), _styles(), strict=False):
        precision, recall, _ = precision_recall_curve(spam, values)
        curves.append((recall, precision))
        area = average_precision_score(spam, values)
        axes.step(recall, precision, where="post", label=_legend(f"{name} ({area:.4f})"), **style)
    _zoom(axes, curves)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(loc="lower left", frameon=False)
    axes.grid(alpha=0.3)
    return figure


@_styled
def calibration_overlay(spam: np.ndarray, scores: Mapping[str, np.ndarray]) -> "Figure":
    """Return a plot of the calibration of several models.

    Args:
        spam: 1 for spam, 0 for ham; shape (rows,).
        scores: Spam probabilities of the same messages by the model's name, each of shape (rows,).
    """
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    from spam_mlflow.evaluation.metrics import expected_calibration_error

    figure, axes = _new("", "Calibration (expected error), 95 % intervals", width=7.4)
    axes.remove()
    rates, counts = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    rates.set_title(axes.get_title("left"), loc="left")
    rates.plot([0, 1], [0, 1], "--", color=_GRAY, linewidth=1)
    for (name, values), style in zip(scores.items(), _styles(), strict=False):
        mean, rate, messages = _reliability(spam, values)
        error = expected_calibration_error(spam, values)
        label = _legend(f"{name} ({error:.4f})")
        bars = _interval_bars(rate, messages)
        rates.errorbar(mean, rate, bars, marker="o", capsize=4, label=label, **style)
        counts.plot(mean, messages, marker="o", markersize=4, **style)
    rates.set_ylabel("share of spam")
    rates.legend(loc="upper left", frameon=False)
    counts.set_yscale("log", subs=[])
    counts.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    counts.set_ylabel("messages\nin the bin")
    counts.set_xlabel("spam probability")
    for panel in (rates, counts):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3)
    return figure


def _legend(label: str) -> str:
    """Return a label of a legend with line breaks: a long one would leave the plot no room."""
    return textwrap.fill(label, _LEGEND_WIDTH)


def _interval_bars(rate: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return how far the 95 % intervals of rates reach down and up (Clopper and Pearson 1934).

    Args:
        rate: Share of spam in each bin, shape (bins,).
        counts: Messages in each bin, shape (bins,).

    Returns:
        Shape (2, bins).
    """
    from scipy.stats import beta

    hits = np.round(rate * counts)
    with np.errstate(invalid="ignore"):
        low = np.nan_to_num(beta.ppf(0.025, hits, counts - hits + 1), nan=0.0)
        high = np.nan_to_num(beta.ppf(0.975, hits + 1, counts - hits), nan=1.0)
    return np.maximum([rate - low, high - rate], 0)


def _reliability(spam: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean score, share of spam and number of messages of each bin.

    Neighboring bins are joined until each has 30 messages, as far as there are so many.
    """
    narrow = np.minimum((scores * _RELIABILITY_BINS).astype(np.int64), _RELIABILITY_BINS - 1)
    joined, gathered, current = np.zeros(_RELIABILITY_BINS, dtype=np.int64), 0, 0
    for number, count in enumerate(np.bincount(narrow, minlength=_RELIABILITY_BINS)):
        joined[number] = current
        gathered += int(count)
        if gathered >= _FEWEST_IN_BIN:
            current, gathered = current + 1, 0
    joined = np.minimum(joined, max(current - 1, 0))  # what is left goes to the last full bin
    bins = joined[narrow]
    counts = np.bincount(bins)
    return np.bincount(bins, scores) / counts, np.bincount(bins, spam) / counts, counts


def _zoom(axes: "Axes", curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Show the part of precision-recall curves in which they differ; one alone, from 1.

    Args:
        axes: The plot.
        curves: Recall, falling, and precision of each curve.
    """
    grid = np.linspace(0, 1, 401)
    values = np.stack([np.interp(grid, r[::-1], p[::-1]) for r, p in curves])
    gap = np.ptp(values, axis=0) if len(curves) > 1 else 1 - values[0]
    differing = np.flatnonzero(gap > _ALIKE)
    left = max(grid[differing[0]] - 0.05, 0) if len(differing) else 0.0
    inside = (grid >= left) & (grid <= 0.98)  # at recall 1, precision is the share of spam
    lowest = float(values[:, inside].min()) if inside.any() else 0.0
    axes.set_xlim(min(left, 0.9), 1.005)
    axes.set_ylim(max(lowest - 0.03, 0), 1.005)


@_styled
def search_history(values: Sequence[float], objective: str, title: str) -> "Figure":
    """Return a plot of each trial's value and of the best value so far.

    Args:
        values: Value of each trial, in order; NaN for a trial that was not completed.
        objective: Name of the metric that the search maximizes.
        title: Title of the plot.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _new(title, f"{objective} by trial")
    numbers = np.arange(len(values))
    axes.plot(numbers, values, "o", color=_HAM, label="trial")
    axes.step(numbers, np.fmax.accumulate(values), where="post", color=_SPAM, label="best so far")
    axes.set_xlim(-0.5, max(len(values), 1) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    return figure


@_styled
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


def _new(title: str, subtitle: str, width: float = 6.4) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 5.2), dpi=110, layout="constrained")
    figure.suptitle(title, color=_GRAY)
    axes = figure.add_subplot()
    axes.set_title(subtitle, loc="left")
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
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=18)
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
    _zoom(axes, [(recall, precision)])
    axes.grid(alpha=0.3)
    return figure


def _calibration(spam: np.ndarray, scores: np.ndarray, title: str) -> "Figure":
    from spam_mlflow.evaluation.metrics import expected_calibration_error

    mean, rate, counts = _reliability(spam, scores)
    error = expected_calibration_error(spam, scores)
    figure, axes = _new(title, f"Calibration, expected error {error:.4f}")
    axes.plot([0, 1], [0, 1], "--", color=_GRAY, linewidth=1.5, label="perfect")
    bars = _interval_bars(rate, counts)
    axes.errorbar(mean, rate, bars, fmt="o-", color=_HAM, capsize=4, label="model, 95 % interval")
    for number, (x, y, count) in enumerate(zip(mean, rate, counts, strict=True)):
        offset = (6, 6 if number % 2 else -14)  # those of neighbors would overlap
        axes.annotate(f"{count:,}", (x, y), offset, textcoords="offset points", fontsize=10)
    axes.set_xlabel("spam probability (numbers: messages in the bin)")
    axes.set_ylabel("share of spam")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _score_histograms(
    spam: np.ndarray, scores: np.ndarray, threshold: float, title: str
) -> "Figure":
    figure, axes = _new(title, "Scores by class")
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    for kind, color, hatch, label in ((0, _HAM, "", "ham"), (1, _SPAM, "///", "spam")):
        axes.hist(
            scores[spam == kind],
            edges.tolist(),
            histtype="stepfilled",
            alpha=0.45,
            color=color,
            edgecolor=color,
            hatch=hatch,
            label=label,
        )
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("spam probability")
    axes.set_ylabel("messages (log scale)")
    axes.legend(loc="upper center", frameon=False)
    return figure


def _thresholds(spam: np.ndarray, scores: np.ndarray, threshold: float, title: str) -> "Figure":
    cuts = Cuts.of(scores, spam)
    recall, ham_fpr = cuts.tp / cuts.spam, cuts.fp / cuts.ham
    precision = cuts.tp / np.maximum(cuts.tp + cuts.fp, 1)
    figure, axes = _new(title, "Precision, recall and ham FPR by threshold")
    shown = {"precision": precision, "recall": recall, "ham FPR": ham_fpr}
    for (name, values), style in zip(shown.items(), _styles(), strict=False):
        axes.step(cuts.thresholds[1:], values[1:], where="mid", label=name, **style)
    axes.axvline(threshold, color="black", linewidth=1.5)
    at = f"chosen: {threshold:.3f}"
    side = "right" if threshold > 0.5 else "left"
    axes.annotate(
        at, (threshold, 0.5), (-6 if side == "right" else 6, 0), textcoords="offset points", ha=side
    )
    axes.set_xlabel("threshold")
    axes.set_ylim(-0.01, 1.02)
    axes.legend(loc="center", bbox_to_anchor=(0.5, 0.3), frameon=False)
    axes.grid(alpha=0.3)
    return figure


def _learning_curves(epochs: Sequence[Mapping[str, float]], title: str) -> "Figure":
    figure, axes = _new(title, "Learning curves", width=8.4)
    axes.remove()
    for position, name in enumerate(("loss", "accuracy"), start=1):
        panel = figure.add_subplot(1, 2, position)
        numbers = range(1, len(epochs) + 1)
        for key, line, color, label in (
            (name, "o--", _SPAM, "train"),
            (f"val_{name}", "s-", _HAM, "validation"),
        ):
            values = [metrics[key] for metrics in epochs]
            panel.plot(numbers, values, line, color=color, label=label)
        panel.set_xticks(list(numbers))
        panel.set_xlabel("epoch")
        panel.set_title(name, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    return figure
