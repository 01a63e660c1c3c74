import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from spam_mlflow import behaviour, gate, significance, slices, wiring
from spam_mlflow.classifier import Metadata
from spam_mlflow.config import choices, compose
from spam_mlflow.data.sample import SampleSource
from spam_mlflow.gate import GateSettings, Holdout
from spam_mlflow.registry import Version


@pytest.fixture(scope="module")
def held() -> Holdout:
    messages = SampleSource().load()
    split = wiring.build(compose("promote", ["version=1"]).split).split(messages)
    return gate.holdout(messages, split)


def settings(*overrides: str) -> GateSettings:
    return wiring.settings(GateSettings, compose("promote", ["version=1", *overrides]).gate)


METADATA = Metadata("x", 0.5, 0.9, 1, None, "")


def verdicts(checks: object) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", choices("gate"))
def test_every_gate_configuration_is_valid(name: str) -> None:
    assert settings(f"gate={name}").requests > 0


def test_a_figure_that_is_missing_or_not_finite_fails(held: Holdout) -> None:
    perfect = gate._Scored(METADATA, held.spam.astype(float))
    asked = settings("+gate.floors.nonsense=0.1")
    found = verdicts(gate._figures(perfect, held, asked))
    assert found["figure: f1"] == "passed"
    assert found["figure: nonsense"] == "failed"
    broken = gate._Scored(METADATA, np.full(len(held.frame), math.nan))
    assert "passed" not in verdicts(gate._figures(broken, held, asked)).values()


def test_floors_and_ceilings_hold_at_the_bound_itself(held: Holdout) -> None:
    perfect = gate._Scored(METADATA, held.spam.astype(float))
    asked = settings("gate.floors.f1=1.0", "gate.ceilings.ham_fpr=0.0")
    found = verdicts(gate._figures(perfect, held, asked))
    assert found["figure: f1"] == found["figure: ham_fpr"] == "passed"


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
def test_only_a_clean_commit_passes(held: Holdout, run_tags: dict[str, str], passed: bool) -> None:
    version = Version("1", "run", {}, run_tags)
    found = verdicts(gate._provenance(version, held, settings()))
    assert found["provenance: commit"] == ("passed" if passed else "failed")
    # Without tags that say so, nothing else about the version is taken on trust.
    others = [verdict for name, verdict in found.items() if name != "provenance: commit"]
    assert set(others) == {"failed"}


def test_a_text_or_group_in_two_parts_fails(held: Holdout) -> None:
    assert verdicts(gate._data(held, settings()))["data: separation"] == "passed"
    frame = held.split.frame
    other = frame.index[frame["part"] == "train"][0]
    leaky = frame.assign(text=frame["text"].mask(frame.index == other, held.texts[0]))
    mixed = replace(held, split=replace(held.split, frame=leaky))
    assert verdicts(gate._data(mixed, settings()))["data: separation"] == "failed"


def test_an_odd_share_of_spam_or_too_few_messages_fail(held: Holdout) -> None:
    found = verdicts(gate._data(held, settings("gate.spam_rate=[0.9, 1.0]", "gate.min_rows=9999")))
    assert found["data: spam rate"] == found["data: holdout rows"] == "failed"


def test_a_worse_model_fails_against_the_champion_and_naive_bayes(held: Holdout) -> None:
    perfect = gate._Scored(METADATA, held.spam.astype(float))
    nothing = gate._Scored(METADATA, np.zeros(len(held.frame)))
    found = verdicts(gate._against_champion(nothing, perfect, held, settings()))
    assert found["champion: f1 not worse"] == found["champion: churn"] == "failed"
    everything = gate._Scored(METADATA, np.ones(len(held.frame)))
    found = verdicts(gate._against_champion(everything, perfect, held, settings()))
    assert found["champion: ham_fpr not worse"] == "failed"
    assert set(verdicts(gate._against_champion(perfect, perfect, held, settings())).values()) == {
        "passed"
    }
    (against,) = gate._against_naive_bayes(nothing, held, settings())
    assert against.verdict == "failed"


def test_a_model_that_fails_on_a_slice_is_found(held: Holdout) -> None:
    scores = held.spam.astype(float)
    rows = dict(slices.of(held.frame))["source sample_sms"]
    scores[rows] = 1 - scores[rows]
    found = verdicts(gate._slices(gate._Scored(METADATA, scores), held, settings()))
    assert found["slice: source sample_sms"] == "failed"
    assert found["slice: capitals"] == "not applicable"


def test_slices() -> None:
    frame = pd.DataFrame(
        {
            "text": ["see www.x.com", "SHOUTING ALL DAY LONG", "caf\xe9", "pay £5 " + "x" * 40],
            "source": ["a", "b", "b", "b"],
        }
    )
    found = {name: rows.tolist() for name, rows in slices.of(frame)}
    assert found == {
        "source a": [True, False, False, False],
        "source b": [False, True, True, True],
        "short": [True, True, True, False],
        "link": [True, False, False, False],
        "digits or currency": [False, False, False, True],
        "capitals": [False, True, False, False],
        "not ASCII": [False, False, True, True],
    }


def test_behavioural_checks_find_what_they_look_for() -> None:
    def by_full_stop(texts: object) -> np.ndarray:
        return np.array([float(text.endswith(".")) for text in texts])  # type: ignore[attr-defined]

    found = dict(behaviour.failures(by_full_stop, 0.5, ["hello", "free prize."]))
    assert found["minimum: plain spam"] == 1.0
    assert found["minimum: plain ham"] == 0.0
    assert found["invariance: full stop at the end"] == 0.5
    assert found["invariance: soft hyphens"] == 0.0
    assert found["direction: +' Text WIN to 80086' is no less spam"] == 0.5


def test_the_paired_bootstrap_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    spam = rng.random(300) < 0.3
    ours, theirs = spam ^ (rng.random(300) < 0.05), spam ^ (rng.random(300) < 0.15)
    groups = rng.integers(0, 200, 300)

    def f1(rows: np.ndarray, called: np.ndarray) -> float:
        hits = (called[rows] & spam[rows]).sum()
        return 2 * hits / (called[rows].sum() + spam[rows].sum())

    present = np.unique(groups)
    drawn = []
    for _ in range(3000):
        rows = np.concatenate(
            [np.flatnonzero(groups == g) for g in rng.choice(present, len(present))]
        )
        drawn.append(f1(rows, ours) - f1(rows, theirs))
    everything = np.arange(300)
    found = significance.paired_difference(significance.f1, groups, spam, ours, theirs)
    assert found[0] == pytest.approx(f1(everything, ours) - f1(everything, theirs))
    np.testing.assert_allclose(found[1:], np.percentile(drawn, [2.5, 97.5]), atol=0.01)
