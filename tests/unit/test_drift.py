"""Signals of messages, and tests of whether they have changed."""

import contextlib
import dataclasses
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.inferences import inference

from spam_mlflow.drift import comparison, windows
from spam_mlflow.drift.comparison import Finding, findings, psi, spam_share
from spam_mlflow.drift.reference import Reference, Sample, logits
from spam_mlflow.drift.signals import Signals, known_words, script, signals
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.texts import TextPolicy

PRIOR = 0.24


def scores(draw: np.random.Generator, count: int, share: float = PRIOR) -> np.ndarray:
    """Return calibrated scores: logits are normal in each class, with equal variances."""
    spam = draw.random(count) < share
    distance = 6.0  # between the classes, in units of which the variance follows
    values = draw.normal(np.where(spam, distance / 2, -distance / 2), np.sqrt(distance))
    return 1 / (1 + np.exp(-(values + np.log(PRIOR / (1 - PRIOR)))))


def sample(draw: np.random.Generator, count: int, **changes: Any) -> Sample:
    """Return messages as they are without drift, with `changes`."""
    values: dict[str, Any] = {
        "scores": scores(draw, count),
        "unknown": draw.beta(1, 9, count),
        "scripts": draw.choice(["latin", "none"], count, p=[0.97, 0.03]),
        "campaigns": draw.integers(0, 2**16, count),
    }
    values |= changes
    rows = zip(values["unknown"], values["scripts"], values["campaigns"], strict=True)
    found = [Signals(float(u), str(s), int(c)) for u, s, c in rows]
    return Sample.of(values["scores"].tolist(), found, ["test"] * count)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(frozenset(), sample(np.random.default_rng(1), 1500), PRIOR)


def alarms(window: Sample, reference: Reference) -> set[str]:
    return {finding.name for finding in findings(window, reference) if finding.alarm}


def test_thirty_days_without_drift_are_no_alarm(reference: Reference) -> None:
    draw = np.random.default_rng(2)
    assert [alarms(sample(draw, 1000), reference) for _ in range(30)] == [set()] * 30


@pytest.mark.parametrize("share", [0.10, 0.45])
def test_another_share_of_spam_is_found_and_estimated(reference: Reference, share: float) -> None:
    draw = np.random.default_rng(3)
    window = sample(draw, 1000, scores=scores(draw, 1000, share))
    assert {"scores", "spam share"} <= alarms(window, reference)
    found = spam_share(window.probabilities, PRIOR)
    low, high = found.interval
    assert low - 0.02 < share < high + 0.02
    assert high - low < 0.1


def test_other_words_scripts_and_a_campaign_are_found(reference: Reference) -> None:
    draw = np.random.default_rng(4)
    words = sample(draw, 1000, unknown=draw.beta(2, 9, 1000))
    assert alarms(words, reference) == {"unknown words"}
    scripts = draw.choice(["latin", "none", "cyrillic"], 1000, p=[0.9, 0.03, 0.07])
    assert alarms(sample(draw, 1000, scripts=scripts), reference) == {"script"}
    campaigns = np.where(draw.random(1000) < 0.04, 7, draw.integers(0, 2**16, 1000))
    assert alarms(sample(draw, 1000, campaigns=campaigns), reference) == {"campaign"}


def test_few_messages_say_nothing(reference: Reference) -> None:
    draw = np.random.default_rng(5)
    window = sample(draw, comparison.FEWEST - 1, scores=np.ones(comparison.FEWEST - 1))
    assert findings(window, reference) == []


def test_messages_without_signals_are_compared_by_their_scores(reference: Reference) -> None:
    draw = np.random.default_rng(6)
    window = dataclasses.replace(sample(draw, 500), unknown=np.zeros(0), scripts={}, campaigns={})
    assert [finding.name for finding in findings(window, reference)] == ["scores", "spam share"]


def test_a_window_goes_on_over_midnight(tmp_path: Path) -> None:
    texts = TextPolicy("off")
    with contextlib.closing(SqliteStore(tmp_path / "i.db", texts, 30, "normal")) as store:
        for score, at in (
            (0.1, "2026-11-24T23:59:00.000Z"),
            (0.2, "2026-11-25T00:04:59.999Z"),
            (0.3, "2026-11-25T00:05:00.000Z"),
            (0.4, "2026-11-26T00:04:00.000Z"),
        ):
            store.add([inference("", texts, spam_probability=score, at=at, day=at[:10])])
        days = ["2026-11-26", "2026-11-25"]
        found = windows.read(store, "1", days, "2026-11-25T00:05:00.000Z")
    assert found.window.probabilities.tolist() == pytest.approx([0.3, 0.4])
    assert {day: len(of.logits) for day, of in found.by_day.items()} == {
        "2026-11-25": 2,
        "2026-11-26": 1,
    }


def test_psi_is_large_on_small_windows_without_drift_and_no_alarm(reference: Reference) -> None:
    draw = np.random.default_rng(7)
    before = reference.sample.logits
    small = [psi(logits(scores(draw, 100)), before) for _ in range(50)]
    assert np.mean(np.array(small) > 0.1) > 0.2
    assert psi(before, before) == 0


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_scores_that_are_all_alike_are_compared(reference: Reference, value: float) -> None:
    draw = np.random.default_rng(8)
    found: list[Finding] = findings(sample(draw, 400, scores=np.full(400, value)), reference)
    assert found[0].alarm
    assert all(np.isfinite(finding.p) for finding in found)


def test_signals_tell_of_words_script_and_campaign() -> None:
    known = known_words(["call me tomorrow about lunch"])
    assert signals("call about LUNCH", known).unknown == 0
    assert signals("call xyzzy", known).unknown == 0.5
    assert signals("", known) == Signals(0.0, "none", -1)
    assert script("Привет, how are вы сегодня") == "cyrillic"
    assert script("你好 123") == "cjk"
    assert script("123 !!!") == "none"
    draw = random.Random(0)
    pay = "your parcel is held at customs pay the fee of {} to release it today friend {}"
    copies = [signals(pay.format(draw.random(), name), known).campaign for name in ("ann", "bob")]
    assert copies[0] == copies[1]
    assert 0 <= copies[0] < 2**16
    assert signals("a" * 200_000, known).unknown == 1


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    trained = ["call me tomorrow", "free prize"]
    made = Reference.of(trained, 0.5, ["call now", "a gift"], [0.1, 0.99], ["sms", "tube"])
    made.write(tmp_path)
    found = Reference.read(tmp_path / "drift-reference.json")
    assert (found.words, found.spam_share) == (made.words, 0.5)
    np.testing.assert_allclose(found.sample.logits, made.sample.logits, atol=1e-4)
    assert found.sample.campaigns == made.sample.campaigns
    assert found.sample.sources == {"sms": 1, "tube": 1}
    (tmp_path / "drift-reference.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Reference.read(tmp_path / "drift-reference.json")


def test_a_window_of_many_messages_fits_into_memory() -> None:
    probabilities = np.random.default_rng(0).beta(0.1, 0.4, 100_000)
    tracemalloc.start()
    found = spam_share(probabilities, PRIOR)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000  # 900 MB, all samples at once
    assert 0 < found.deviation < 0.01
