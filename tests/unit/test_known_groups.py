"""Whether a version that was trained on feedback has lost what the champion was sure of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.splitters import Split
from spam_mlflow.gate import known_groups
from spam_mlflow.gate.check import Check, Holdout, Scored
from spam_mlflow.gate.known_groups import KnownGroups
from spam_mlflow.scorer.classifier import Thresholds

ROWS = [("scam", "spam", 0), ("scam b", "spam", 0), ("scam c", "spam", 0), ("lunch", "ham", 1)]


def holdout(
    train_only: tuple[str, ...] = ("feedback", "feedback_reviewed"), said: Sequence[str] = ("said",)
) -> Holdout:
    frame = pd.DataFrame(ROWS, columns=["text", "label", "group"]).assign(
        source="known", part="train"
    )
    rows = pd.DataFrame(
        [
            *((text, "ham", 0, "feedback", "train") for text in said),  # near-copies of the scam
            ("reviewed", "ham", 9, "feedback_reviewed", "train"),
        ],
        columns=list(frame),
    )
    both = pd.concat([frame, rows], ignore_index=True)
    return Holdout(Messages(both, "both", train_only=train_only), Split(both, "grouped", False, 0))


def result(
    champion: list[float],
    candidate: list[float],
    lost: int = 0,
    said: Sequence[tuple[float, float]] = ((0, 0),),
) -> Check:
    """Return the check's result for scores of ROWS, and of what only reporters have judged."""
    known = KnownGroups.of(holdout(said=[f"said {number}" for number in range(len(said))]))
    settings = validate("promote", compose("promote", ["version=1", f"gate.feedback_churn={lost}"]))
    thresholds = Thresholds(0.5, 0.9)
    scored, before = (
        Scored(thresholds, np.zeros(0), np.array(s))
        for s in (
            [*candidate, *(after for _, after in said)],
            [*champion, *(before for before, _ in said)],
        )
    )
    (found,) = known_groups.checks(scored, before, known, settings.gate)
    return found


@pytest.mark.parametrize(
    ("champion", "candidate", "verdict"),
    [
        ([0.99, 0.99, 0.99, 0.01], [0.99, 0.8, 0.1, 0.01], "passed"),
        ([0.99, 0.99, 0.99, 0.01], [0.1, 0.2, 0.99, 0.01], "failed"),  # a campaign gets through
        ([0.99, 0.99, 0.99, 0.01], [0.99, 0.99, 0.99, 0.9], "failed"),  # ham is blocked
        ([0.6, 0.6, 0.6, 0.4], [0.1, 0.1, 0.1, 0.9], "passed"),  # it was not sure of them
        ([0.1, 0.1, 0.1, 0.9], [0.1, 0.1, 0.1, 0.9], "passed"),  # it was wrong before
        ([0.99, 0.99, 0.99, 0.01], [np.nan] * 4, "failed"),
    ],
)
def test_groups_that_the_champion_was_sure_of_may_not_be_lost(
    champion: list[float], candidate: list[float], verdict: str
) -> None:
    assert result(champion, candidate).verdict == verdict


def test_some_groups_may_be_lost_if_the_bound_says_so() -> None:
    lost = result([0.99, 0.99, 0.99, 0.01], [0.1, 0.1, 0.1, 0.01], lost=1)
    assert (lost.verdict, lost.value) == ("passed", "1")
    assert "scam" in lost.why


def test_without_feedback_nothing_more_is_scored() -> None:
    known = KnownGroups.of(holdout(train_only=()))
    assert not known.texts
    empty = Scored(Thresholds(0.5, 0.9), np.zeros(0))
    settings = validate("promote", compose("promote", ["version=1"])).gate
    (found,) = known_groups.checks(empty, empty, known, settings)
    assert found.verdict == "not applicable"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (0.99, 0.1, "failed"),  # caught before
        (0.99, 0.8, "passed"),
        (0.6, 0.1, "passed"),  # it was not sure
        (0.01, 0.99, "passed"),  # it was missed before
    ],
)
def test_what_the_champion_caught_is_not_given_up_on_the_word_of_reporters(
    before: float, after: float, verdict: str
) -> None:
    rest = [0.99, 0.99, 0.99, 0.01]
    assert result(rest, rest, said=[(before, after)]).verdict == verdict


def test_unsure_near_copies_do_not_hide_what_the_champion_caught() -> None:
    rest = [0.99, 0.99, 0.99, 0.01]
    said = [(0.85, 0.1)] * 5 + [(0.99, 0.1)]
    found = result(rest, rest, said=said)
    assert (found.verdict, found.value) == ("failed", "1")


def test_what_a_reviewer_has_decided_is_not_asked_about() -> None:
    assert KnownGroups.of(holdout()).texts == [*(text for text, _, _ in ROWS), "said"]


def test_what_only_reporters_have_judged_is_scored_however_large_the_data_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_groups, "_MESSAGES", 2)
    assert KnownGroups.of(holdout()).texts == ["scam", "scam b", "said"]
