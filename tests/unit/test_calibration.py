"""Margins become log-odds."""

import numpy as np
import pytest

from spam_mlflow.models import large_margin


def test_margins_are_scaled_to_the_log_odds_of_the_class() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(size=20_000)
    positive = rng.random(20_000) < 1 / (1 + np.exp(-(3 * margins - 1)))
    assert large_margin.platt(margins, positive) == pytest.approx((3, -1), abs=0.15)


@pytest.mark.parametrize("weights", [None, np.array([2, 2, 2, 1])])
def test_margins_that_fall_by_chance_do_not_turn_the_model_round(
    weights: np.ndarray | None,
) -> None:
    margins = np.array([-1.0, -0.2, 0.1, 1.0])
    positive = np.array([True, True, False, True])
    slope, shift = large_margin.platt(margins, positive, weights)
    assert slope > 0
    share = np.average(positive, weights=weights)
    assert 1 / (1 + np.exp(-(slope * margins + shift))) == pytest.approx(share, abs=0.01)
