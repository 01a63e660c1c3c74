"""Plots of a run."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from spam_mlflow.evaluation import plots

SPAM = (np.arange(400) % 4 == 0).astype(int)
SCORES = np.clip(0.8 * SPAM + np.linspace(0, 0.2, 400), 0, 1)


@pytest.mark.parametrize("rows", [1, 29, 30, 59, 61, 400])
def test_bins_of_calibration_have_at_least_30_messages(rows: int) -> None:
    mean, rate, counts = plots._reliability(SPAM[:rows], SCORES[:rows])
    assert counts.sum() == rows
    assert counts.min() >= min(rows, 30)
    assert (mean * counts).sum() == pytest.approx(SCORES[:rows].sum())
    assert (rate * counts).sum() == pytest.approx(SPAM[:rows].sum())


def test_every_plot_is_drawn_and_other_figures_keep_their_style() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    epochs = [{"loss": 1.0, "val_loss": 1.1, "accuracy": 0.5, "val_accuracy": 0.4}]
    drawn = plots.all_plots(SPAM, SCORES, 0.5, epochs, "title")
    curves = {"roc", "precision_recall", "thresholds"}
    always = {"confusion_matrix", "calibration", "scores"}
    assert set(drawn) == always | curves | {"learning_curves"}
    assert set(plots.all_plots(SPAM * 0, SCORES, 0.5, [], "title")) == always
    assert dict(mpl.rcParams) == before
    (threshold,) = [
        text.get_text() for text in drawn["thresholds"].axes[0].texts if text.get_text()
    ]
    assert threshold == "chosen: 0.500"


def test_overlaid_curves_show_where_they_differ_and_differ_in_color_and_style() -> None:
    rng = np.random.default_rng(0)
    worse = np.clip(SCORES + rng.normal(0, 0.3, 400), 0, 1)
    (axes,) = plots.precision_recall_overlay(SPAM, {"a": SCORES, "b": worse}).axes
    left, right = axes.get_xlim()
    assert 0 <= left < 1 < right
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 2
    assert {line.get_color() for line in axes.lines} <= set(plots._PALETTE)


def test_overlaid_calibration_has_intervals_and_counts_as_that_of_a_run() -> None:
    rng = np.random.default_rng(0)
    worse = np.clip(SCORES + rng.normal(0, 0.3, 400), 0, 1)
    alone = plots.all_plots(SPAM, SCORES, 0.5, [], "title")["calibration"].axes[0]
    axes, messages = plots.calibration_overlay(SPAM, {"a": SCORES, "b" * 200: worse}).axes
    first, second = (found for found in axes.containers if isinstance(found, ErrorbarContainer))
    (of_run,) = (found for found in alone.containers if isinstance(found, ErrorbarContainer))
    for both in zip(first.lines[2], of_run.lines[2], strict=True):
        ours, theirs = (bars.get_segments() for bars in both)
        assert np.concatenate(ours) == pytest.approx(np.concatenate(theirs))
    counts = [int(text.get_text()) for text in alone.texts]
    of_first, of_second = (np.asarray(line.get_ydata()) for line in messages.lines[:2])
    assert of_first.tolist() == counts
    assert of_second.sum() == 400
    assert np.shape(second.lines[0].get_xdata()) == of_second.shape
    legend = axes.get_legend()
    assert legend is not None
    assert max(len(line) for line in legend.get_texts()[1].get_text().splitlines()) <= 48


@pytest.mark.parametrize("trials", [1, 2, 3, 30])
def test_trials_are_numbered_by_whole_numbers(trials: int) -> None:
    figure = plots.search_history(list(np.linspace(0.5, 0.9, trials)), "val_f1", "title")
    ticks = figure.axes[0].get_xticks()
    assert np.all(ticks == np.round(ticks))
