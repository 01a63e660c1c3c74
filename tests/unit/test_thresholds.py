import numpy as np
import pytest

from spam_mlflow.training.fit import threshold_at_fpr


def test_the_threshold_keeps_the_ham_false_positive_rate() -> None:
    rng = np.random.default_rng(0)
    scores, spam = rng.random(1000), (rng.random(1000) < 0.2).astype(float)
    ham = scores[spam == 0]
    for rate in (0.0, 0.002, 0.01, 0.1):
        threshold = threshold_at_fpr(scores, spam, rate)
        assert (ham >= threshold).mean() <= rate
        lower = np.sort(ham)[::-1][int(rate * len(ham))]
        assert (ham >= lower).mean() > rate
    assert threshold_at_fpr(scores, spam, None) == 0.5


def test_the_threshold_lies_between_neighboring_scores() -> None:
    scores, spam = np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.0, 1.0])
    assert threshold_at_fpr(scores, spam, 0.0) == pytest.approx(0.55)
