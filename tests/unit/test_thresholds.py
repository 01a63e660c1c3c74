"""How the threshold is chosen on held-out scores."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.schema import ThresholdSettings
from spam_mlflow.evaluation.cuts import Cuts
from spam_mlflow.training import thresholds
from spam_mlflow.training.thresholds import Choice


def settings(*overrides: str) -> ThresholdSettings:
    found: ThresholdSettings = validate("main", compose("main", overrides)).train.threshold
    return found


def held_out(ham: int, spam: int, overlap: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and labels; the larger the overlap, the worse the model."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], [ham, spam])
    margin = 4 * label - 2 + overlap * rng.standard_normal(ham + spam)
    return 1 / (1 + np.exp(-2 * margin)), label


def choose(scores: np.ndarray, label: np.ndarray, *overrides: str) -> Choice:
    return thresholds.choose(scores, label, settings(*overrides))


def test_cuts_count_as_scikit_learn_does_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores, label = rng.integers(0, 20, 300) / 20, rng.integers(0, 2, 300)
    cuts = Cuts.of(scores, label)
    for at in range(len(cuts.thresholds)):
        predicted = scores >= cuts.thresholds[at]
        assert cuts.f1()[at] == pytest.approx(sk.f1_score(label, predicted))
        assert cuts.mcc()[at] == pytest.approx(sk.matthews_corrcoef(label, predicted))


def test_the_threshold_keeps_the_ham_false_positive_rate() -> None:
    rng = np.random.default_rng(0)
    scores, spam = rng.random(1000), (rng.random(1000) < 0.2).astype(float)
    ham = scores[spam == 0]
    for rate in (0.0, 0.002, 0.01, 0.1):
        threshold = thresholds.at_fpr(scores, spam, rate)
        assert (ham >= threshold).mean() <= rate
        lower = np.sort(ham)[::-1][int(rate * len(ham))]
        assert (ham >= lower).mean() > rate


def test_the_threshold_lies_between_neighboring_scores() -> None:
    scores, spam = np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.0, 1.0])
    assert thresholds.at_fpr(scores, spam, 0.0) == pytest.approx(0.55)


def test_the_default_keeps_the_rate_where_that_costs_little() -> None:
    scores, label = held_out(5000, 1000, overlap=0.8)
    choice = choose(scores, label)
    assert (choice.policy, choice.why) == ("target_fpr", "")
    assert choice.value == thresholds.at_fpr(scores, label, 0.006)


def test_the_default_takes_the_best_f1_where_the_rate_would_cost_much() -> None:
    """As on half spam: one ham message in a thousand weighs little there."""
    scores, label = held_out(600, 600, overlap=1.3)
    others, truth = held_out(20_000, 20_000, overlap=1.3, seed=1)
    choice = choose(scores, label)
    assert choice.policy == "max_f1"
    assert choice.why.startswith("with a ham false-positive rate of 0.6 %, F1 on held-out messages")
    at_rate = thresholds.at_fpr(scores, label, 0.006)
    assert sk.f1_score(truth, others >= at_rate) < Cuts.of(others, truth).f1().max() - 0.05
    assert sk.f1_score(truth, others >= choice.value) > Cuts.of(others, truth).f1().max() - 0.01


@pytest.mark.parametrize("policy", ["auto", "target_fpr"])
def test_a_rate_that_so_few_messages_cannot_resolve_is_not_kept(policy: str) -> None:
    scores, label = held_out(166, 60, overlap=0.5)
    choice = choose(scores, label, f"train.threshold.policy={policy}")
    assert choice.policy == "max_f1"
    assert choice.why == (
        "166 held-out ham messages are too few for a ham false-positive rate of 0.6 %, which takes "
        "167"
    )
    scores, label = held_out(167, 60, overlap=0.5)
    choice = choose(scores, label, "train.threshold.policy=target_fpr")
    assert (choice.policy, choice.false_positives) == ("target_fpr", 1)


def test_no_false_positives_can_be_asked_for_of_any_number_of_messages() -> None:
    scores, label = held_out(20, 20, overlap=1)
    choice = choose(scores, label, "train.threshold={policy:target_fpr,ham_fpr:0}")
    assert (choice.policy, choice.false_positives) == ("target_fpr", 0)


@pytest.mark.parametrize("policy", ["max_f1", "max_mcc"])
def test_the_best_threshold_does_not_hang_on_single_messages(policy: str) -> None:
    """On other messages, it is better than the one that is best on the held-out messages."""
    others, truth = held_out(15_000, 4_000, overlap=1.3, seed=99)
    measure = {"max_f1": Cuts.f1, "max_mcc": Cuts.mcc}[policy]
    score = {"max_f1": sk.f1_score, "max_mcc": sk.matthews_corrcoef}[policy]
    best, lost, lost_by_exact = measure(Cuts.of(others, truth)).max(), [], []
    for seed in range(10):
        scores, label = held_out(600, 160, overlap=1.3, seed=seed)
        cuts = Cuts.of(scores, label)
        exact = cuts.thresholds[np.argmax(measure(cuts))]
        choice = choose(scores, label, f"train.threshold={policy}")
        lost.append(best - score(truth, others >= choice.value))
        lost_by_exact.append(best - score(truth, others >= exact))
    assert choice.policy == policy
    assert max(lost) < 0.01
    assert np.mean(lost) < np.mean(lost_by_exact)


def test_ham_that_costs_more_is_labeled_spam_less_often() -> None:
    scores, label = held_out(3000, 1000, overlap=1.3)
    asked = [f"train.threshold={{policy:min_cost,ham_cost:{cost}}}" for cost in (0.1, 1, 10, 100)]
    rates = [choose(scores, label, override).ham_fpr for override in asked]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 4 * rates[2] > 0


def test_a_given_threshold_is_taken() -> None:
    scores, label = held_out(100, 100, overlap=1)
    choice = choose(scores, label, "train.threshold=0.7")
    assert (choice.value, choice.policy) == (0.7, "fixed")
    assert choice.false_positives == ((scores >= 0.7) & (label == 0)).sum()


def test_the_rate_is_said_with_its_interval() -> None:
    """The interval is that of Clopper and Pearson, whose ends are quantiles of the beta."""
    choice = Choice(0.5, "target_fpr", "chosen", "", 3, 500)
    low, high = stats.beta.ppf([0.025, 0.975], [3, 4], [498, 497])
    assert choice.metrics == pytest.approx(
        {"held_out_ham_fpr": 0.006, "held_out_ham_fpr_low": low, "held_out_ham_fpr_high": high}
    )
    assert str(choice) == (
        "chosen; 3 of 500 held-out ham messages are at or above it: 0.60%, 95 % interval 0.12% to "
        "1.74%"
    )
