"""Plots of a run."""

import numpy as np
import pytest

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
