import functools
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import choices
from spam_mlflow.config.schema import GateSettings, PromoteSettings
from spam_mlflow.data.sources import modern
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.evaluation import slices
from spam_mlflow.gate import provenance, quality, service
from spam_mlflow.gate.check import (
    Check,
    Holdout,
    Scored,
    as_markdown,
    as_text,
    check,
    passed_checks,
)
from spam_mlflow.gate.scoring_server import ScoringServer
from spam_mlflow.registry.versions import Version
from spam_mlflow.scorer.classifier import Thresholds

THRESHOLDS = Thresholds(0.5, 0.9)


@functools.cache
def promotion(*overrides: str) -> PromoteSettings:
    found: PromoteSettings = validate("promote", compose("promote", ["version=1", *overrides]))
    return found


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    messages = SampleSource().load()
    return Holdout(messages, promotion().split.split(messages))


def settings(*overrides: str) -> GateSettings:
    return promotion(*overrides).gate


def scored(scores: np.ndarray) -> Scored:
    return Scored(THRESHOLDS, scores)


def verdicts(checks: Iterable[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


@pytest.mark.parametrize("name", choices("gate"))
def test_every_gate_configuration_is_valid(name: str) -> None:
    assert settings(f"gate={name}").requests > 0


def test_a_metric_that_is_missing_or_not_finite_fails(holdout: Holdout) -> None:
    perfect = scored(holdout.spam.astype(float))
    asked = settings("+gate.floors.nonsense=0.1")
    found = verdicts(quality.metric_checks(perfect, holdout, asked))
    assert found["metric: f1"] == "passed"
    assert found["metric: nonsense"] == "failed"
    broken = scored(np.full(len(holdout.frame), math.nan))
    assert "passed" not in verdicts(quality.metric_checks(broken, holdout, asked)).values()


def test_floors_and_ceilings_hold_at_the_bound_itself(holdout: Holdout) -> None:
    perfect = scored(holdout.spam.astype(float))
    asked = settings("gate.floors.f1=1.0", "gate.ceilings.ham_fpr=0.0")
    found = verdicts(quality.metric_checks(perfect, holdout, asked))
    assert found["metric: f1"] == found["metric: ham_fpr"] == "passed"


@pytest.mark.parametrize(
    ("run_tags", "passed"),
    [
        ({"git.commit": "abc", "git.dirty": "false"}, True),
        ({"git.commit": "abc", "git.dirty": "true"}, False),
        ({"git.commit": "unknown"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_only_a_clean_commit_passes(
    holdout: Holdout, run_tags: dict[str, str], passed: bool
) -> None:
    version = Version("1", "run", {}, run_tags)
    found = verdicts(provenance.provenance_checks(version, holdout, settings()))
    assert found["provenance: commit"] == ("passed" if passed else "failed")
    # Without tags that say so, nothing else about the version is taken on trust.
    others = [verdict for name, verdict in found.items() if name != "provenance: commit"]
    assert set(others) == {"failed"}


TAGS = {
    "data.digest": "?",
    "split.digest": "?",
    "data.fallback": "false",
    "split.leaky": "false",
}


@pytest.fixture
def run_tags(holdout: Holdout) -> dict[str, str]:
    """Tags of a run that was trained on the holdout's data and split."""
    digests = {"data.digest": holdout.messages.digest, "split.digest": holdout.split.digest}
    return {**TAGS, **digests, "git.commit": "abc", "git.dirty": "false"}


@pytest.mark.parametrize("tag", TAGS)
def test_a_version_without_tags_has_those_of_its_run_and_must_not_contradict_them(
    holdout: Holdout, run_tags: dict[str, str], tag: str
) -> None:
    def failed(version: Version) -> list[str]:
        found = verdicts(provenance.provenance_checks(version, holdout, settings()))
        return [name for name, verdict in found.items() if verdict == "failed"]

    assert failed(Version("1", "run", {}, run_tags)) == []
    copied = {name: run_tags[name] for name in TAGS}
    assert failed(Version("1", "run", copied, run_tags)) == []
    assert failed(Version("1", None, copied, {})) == ["provenance: commit"]
    assert len(failed(Version("1", "run", {tag: "other"}, run_tags))) == 1
    assert len(failed(Version("1", "run", copied, {**run_tags, tag: "other"}))) == 1


def test_failed_checks_come_first_and_only_those_that_passed_are_counted() -> None:
    checks = [
        check("one", True, 1, "1", "why"),
        Check("two", "-", "-", "not applicable", "nothing to check"),
        check("three", False, 2, "1", "a reason"),
    ]
    assert passed_checks(checks) == 1
    text = as_text(checks, io.StringIO())
    names = re.findall("one|two|three", text)
    assert names == ["three", "one", "two"]
    assert text.splitlines()[-1] == "1 failed, 1 passed, 1 not applicable"
    assert "a reason" in text
    assert "nothing to check" in text
    assert re.findall("one|two|three", as_markdown(checks)) == names


def test_a_text_or_group_in_two_parts_fails(holdout: Holdout) -> None:
    assert verdicts(provenance.data_checks(holdout, settings()))["data: separation"] == "passed"
    frame = holdout.split.frame
    other = frame.index[frame["part"] == "train"][0]
    leaky = frame.assign(text=frame["text"].mask(frame.index == other, holdout.texts[0]))
    mixed = replace(holdout, split=replace(holdout.split, frame=leaky))
    assert verdicts(provenance.data_checks(mixed, settings()))["data: separation"] == "failed"


def test_an_odd_share_of_spam_or_too_few_messages_fail(holdout: Holdout) -> None:
    found = verdicts(
        provenance.data_checks(holdout, settings("gate.spam_rate=[0.9, 1.0]", "gate.min_rows=9999"))
    )
    assert found["data: spam rate"] == found["data: holdout rows"] == "failed"


def test_a_worse_model_fails_against_the_champion_and_naive_bayes(holdout: Holdout) -> None:
    perfect = scored(holdout.spam.astype(float))
    nothing = scored(np.zeros(len(holdout.frame)))
    found = verdicts(quality.champion_checks(nothing, perfect, holdout, settings()))
    assert found["champion: f1 not worse"] == found["champion: churn"] == "failed"
    everything = scored(np.ones(len(holdout.frame)))
    found = verdicts(quality.champion_checks(everything, perfect, holdout, settings()))
    assert found["champion: ham_fpr not worse"] == "failed"
    assert set(
        verdicts(quality.champion_checks(perfect, perfect, holdout, settings())).values()
    ) == {"passed"}
    (against,) = quality.baseline_checks(nothing, holdout, settings())
    assert against.verdict == "failed"


def test_a_difference_to_the_champion_is_judged_by_the_worse_end_of_its_interval(
    holdout: Holdout,
) -> None:
    perfect = scored(holdout.spam.astype(float))
    scores = holdout.spam.astype(float)
    scores[np.flatnonzero(holdout.spam)[:2]] = 0.0
    found = {
        c.name: c for c in quality.champion_checks(scored(scores), perfect, holdout, settings())
    }
    check = found["champion: f1 not worse"]
    difference, low = map(float, re.findall(r"-\d\.\d+", check.value)[:2])
    assert low < difference < 0
    between = (abs(low) + abs(difference)) / 2
    asked = settings(f"gate.tolerances.f1={between}")
    judged = verdicts(quality.champion_checks(scored(scores), perfect, holdout, asked))
    assert judged["champion: f1 not worse"] == "failed"
    asked = settings(f"gate.tolerances.f1={abs(low) + 1e-3}")
    judged = verdicts(quality.champion_checks(scored(scores), perfect, holdout, asked))
    assert judged["champion: f1 not worse"] == "passed"


@pytest.mark.parametrize("gap", [-0.001, 0.001])
def test_scores_that_differ_outside_of_the_server_fail(holdout: Holdout, gap: float) -> None:
    served = scored(np.full(len(holdout.frame), 0.5))
    server: ScoringServer = None  # type: ignore[assignment] # the first check asks no server
    first = next(iter(service.service_checks(served, server, served.scores + gap, settings())))
    assert (first.name, first.verdict) == ("service: parity", "failed")
    first = next(iter(service.service_checks(served, server, served.scores, settings())))
    assert (first.name, first.verdict) == ("service: parity", "passed")


def test_a_model_that_fails_on_a_slice_is_found(holdout: Holdout) -> None:
    scores = holdout.spam.astype(float)
    rows = dict(slices.masks(holdout.frame))["source sample_sms"]
    scores[rows] = 1 - scores[rows]
    found = verdicts(quality.slice_checks(scored(scores), holdout, settings()))
    assert found["slice: source sample_sms"] == "failed"
    assert found["slice: capitals"] == "not applicable"


def test_todays_messages_are_checked_where_a_version_was_trained_for_them() -> None:
    labels = dict(modern.held_out()[["text", "label"]].to_numpy())

    def perfect(texts: Sequence[str]) -> np.ndarray:
        # Texts without digits are made of spam alone.
        return np.array([labels.get(text, "spam") == "spam" for text in texts], dtype=float)

    def all_spam(texts: Sequence[str]) -> np.ndarray:
        return np.ones(len(texts))

    any_scores = scored(np.zeros(1))
    found = verdicts(quality.modern_checks("modern", any_scores, perfect, settings()))
    assert set(found.values()) == {"passed"}
    assert {"modern: ham FPR", "modern: recall", "modern: ham, otp"} < set(found)
    found = verdicts(quality.modern_checks("modern", any_scores, all_spam, settings()))
    assert found["modern: ham FPR"] == found["modern: ham, bank"] == "failed"
    assert found["modern: recall"] == found["modern: spam without digits"] == "passed"
    found = verdicts(quality.modern_checks("", any_scores, all_spam, settings()))
    assert set(found.values()) == {"not applicable"}
