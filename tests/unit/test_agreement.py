"""Labels that do not belong to their texts are noticed."""

import numpy as np
import pandas as pd
import pytest

from spam_mlflow.training import agreement


def rows(spam: np.ndarray, source: object = "a") -> pd.DataFrame:
    return pd.DataFrame({"label": np.where(spam, "spam", "ham"), "source": source})


def test_scores_that_have_nothing_to_do_with_the_labels_are_noticed() -> None:
    rng = np.random.default_rng(0)
    spam = rng.random(2000) < 0.2
    found = agreement.doubt(rows(spam), rng.random(2000))
    assert found is not None
    assert found.startswith("labels and texts may not belong together: of the held-out messages, ")
    assert "chance gives 50%" in found


def test_a_source_at_chance_is_noticed_beside_one_with_other_labels() -> None:
    """Which source a message is from gives scores that look good on both together."""
    rng = np.random.default_rng(0)
    source = np.repeat(["sms", "comments"], 1000)
    spam = rng.random(2000) < np.where(source == "sms", 0.1, 0.9)
    scores = 0.9 * (source == "comments") + 0.1 * rng.random(2000)
    assert agreement.auc_interval(scores, spam)[1] > 0.8
    assert "of the held-out messages of the source comments" in str(
        agreement.doubt(rows(spam, source), scores)
    )


@pytest.mark.parametrize("number", [30, 200, 5000])
def test_a_weak_model_is_not_doubted(number: int) -> None:
    rng = np.random.default_rng(0)
    spam = np.arange(number) % 5 == 0
    scores = 1 / (1 + np.exp(-(1.5 * spam + rng.standard_normal(number))))
    source = np.where(np.arange(number) < number - 3, "a", "rare")
    assert agreement.doubt(rows(spam, source), scores) is None


def test_the_interval_holds_the_true_area_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    spam = np.arange(200) % 4 == 0
    for _ in range(200):
        _, low, high = agreement.auc_interval(rng.standard_normal(200) + spam, spam)
        held += low <= 0.7602 <= high  # the area of normal scores one deviation apart
    assert 0.9 <= held / 200 <= 0.99
