"""False labels on one campaign: what the refitted model still catches, and what the gate says."""

import pytest

from scripts.bench_feedback import Attack, fitter
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.data.splitters import GroupedSplitter


@pytest.fixture(scope="module")
def attack() -> Attack:
    """An attack on a campaign that the champion catches, although its data has none of it."""
    base = GroupedSplitter(0.2, 0.15, 0.6, 0).split(SampleSource().load())
    settings = validate("retrain", compose("retrain", ["gate=sample"]))
    tiny = fitter(["data=sample", "experiment=tiny", "train.epochs=1"])
    return Attack.on(base, False, tiny, settings)


def test_a_single_reporter_changes_nothing(attack: Attack) -> None:
    found = attack.replay(30, 1, "by the rules")
    assert found.used == 0
    assert found.recall[1] == found.recall[0] > 0.9


def test_several_reporters_together_change_the_model_but_do_not_pass_the_gate(
    attack: Attack,
) -> None:
    found = attack.replay(30, 5, "by the rules")
    assert 0 < found.used <= attack.settings.feedback.per_case
    assert found.recall[1] < found.recall[0]
    assert found.churn == "failed"


def test_false_labels_that_are_taken_as_they_are_ruin_the_campaign(attack: Attack) -> None:
    found = attack.replay(30, 1, "as they are")
    assert found.recall[1] < 0.1
    assert abs(found.f1[1] - found.f1[0]) < 0.1  # the holdout hardly tells
    assert found.churn == "failed"
