"""Tests of whether a window of messages differs from the reference, with few false alarms."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from spam_mlflow.drift.reference import Reference, Sample

FEWEST = 300
"""Messages that a window needs, or nothing is said of it."""

_LEVEL = 0.001  # probability of a false alarm of a test
_TESTS = 4  # besides that of the scores, which share the level
_SHARE_CHANGE = 0.03  # of the spam share, in absolute terms, from which it counts
_UNKNOWN_CHANGE = 0.03  # of the mean share of unknown words
_CAMPAIGN_SHARE = 0.01  # of a window's messages, from which near-copies count as a campaign
_SAMPLES = 200  # of the bootstrap
_AT_ONCE = 1_000_000  # messages of samples; limits memory
_STEPS = 200  # of EM
_SIGMAS = 4.0  # of the difference of two spam shares
_BINS = 10  # of PSI


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
        name: Of what was compared.
        value: What was found in the window, in words.
        reference: What is in the reference, in words.
        p: Probability of such a difference without drift; NaN where it is not computed.
        alarm: Whether the difference is an alarm.
    """

    name: str
    value: str
    reference: str
    p: float
    alarm: bool


@dataclass(frozen=True)
class SpamShare:
    """An estimate of the share of spam among messages whose labels are not known.

    Attributes:
        value: The estimate.
        deviation: Its standard deviation.
    """

    value: float
    deviation: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.value - 1.96 * self.deviation, self.value + 1.96 * self.deviation


def findings(window: Sample, reference: Reference) -> list[Finding]:
    """Return the result of every test; none if the window has fewer than FEWEST messages.

    Args:
        window: The messages.
        reference: What they are compared with.
    """
    if len(window.logits) < FEWEST:
        return []
    found = [_scores(window, reference.sample), _spam_share(window, reference)]
    if len(window.unknown) >= FEWEST and len(reference.sample.unknown):
        found += [
            _unknown_words(window, reference.sample),
            _scripts(window, reference.sample),
            _campaign(window, reference.sample),
        ]
    return found


def metrics(window: Sample, reference: Reference) -> dict[str, float]:
    """Return what is logged of a day, by name."""
    share = spam_share(window.probabilities, reference.spam_share)
    found = {
        "messages": float(len(window.logits)),
        "spam_share": share.value,
        "spam_share_low": share.interval[0],
        "spam_share_high": share.interval[1],
        "psi": psi(window.logits, reference.sample.logits),
    }
    if len(window.unknown):
        found["unknown_words"] = float(window.unknown.mean())
    found["alarms"] = float(sum(finding.alarm for finding in findings(window, reference)))
    return found


def _scores(window: Sample, sample: Sample) -> Finding:
    from scipy.stats import ks_2samp

    result = ks_2samp(window.logits, sample.logits)
    return Finding(
        "scores",
        f"median logit {np.median(window.logits):.2f}",
        f"{np.median(sample.logits):.2f}",
        float(result.pvalue),
        bool(result.pvalue < _LEVEL),
    )


def _spam_share(window: Sample, reference: Reference) -> Finding:
    now = spam_share(window.probabilities, reference.spam_share)
    # The same estimate of the reference, so that a bias of the model is in both.
    before = spam_share(reference.sample.probabilities, reference.spam_share)
    change = abs(now.value - before.value)
    sigmas = change / max(math.hypot(now.deviation, before.deviation), 1e-9)
    return Finding(
        "spam share",
        f"{now.value:.3f} ({now.interval[0]:.3f} to {now.interval[1]:.3f})",
        f"{before.value:.3f}",
        math.erfc(sigmas / math.sqrt(2)),
        bool(sigmas > _SIGMAS and change > _SHARE_CHANGE),
    )


def _unknown_words(window: Sample, sample: Sample) -> Finding:
    from scipy.stats import mannwhitneyu

    p = float(mannwhitneyu(window.unknown, sample.unknown).pvalue)
    change = abs(float(window.unknown.mean() - sample.unknown.mean()))
    return Finding(
        "unknown words",
        f"{window.unknown.mean():.3f}",
        f"{sample.unknown.mean():.3f}",
        p,
        p < _LEVEL / _TESTS and change > _UNKNOWN_CHANGE,
    )


def _scripts(window: Sample, sample: Sample) -> Finding:
    """Compare the script whose share grew most."""
    p, name = min(_grown(window.scripts, sample.scripts))
    total, before = sum(window.scripts.values()), sum(sample.scripts.values())
    return Finding(
        "script",
        f"{name} {window.scripts.get(name, 0) / total:.3f}",
        f"{sample.scripts.get(name, 0) / before:.3f}",
        p,
        p < _LEVEL / _TESTS,
    )


def _grown(now: Mapping[str, int], before: Mapping[str, int]) -> Iterator[tuple[float, str]]:
    """Yield for each script how probable its share in the window is if nothing changed."""
    from scipy.stats import fisher_exact

    total, known = sum(now.values()), sum(before.values())
    for name, count in now.items():
        table = [[count, total - count], [before.get(name, 0), known - before.get(name, 0)]]
        yield float(fisher_exact(table, alternative="greater").pvalue), name


def _campaign(window: Sample, sample: Sample) -> Finding:
    """Compare the near-copies that are most frequent with the most frequent of the reference."""
    from scipy.stats import fisher_exact

    total, known = len(window.unknown), len(sample.unknown)
    largest, count = max(window.campaigns.items(), key=lambda item: item[1], default=(0, 0))
    before = max(max(sample.campaigns.values(), default=0), sample.campaigns.get(largest, 0))
    table = [[count, total - count], [before, known - before]]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    return Finding(
        "campaign",
        f"{count / total:.3f} of the messages are near-copies",
        f"at most {before / known:.3f}",
        p,
        p < _LEVEL / _TESTS and count / total > _CAMPAIGN_SHARE,
    )


def spam_share(probabilities: np.ndarray, trained: float) -> SpamShare:
    """Return the share of spam among messages, which may not be that of the training.

    Args:
        probabilities: Spam probability of each message, shape (messages,).
        trained: Share of spam among the training messages.

    Source: Saerens, Latinne, Decaestecker 2002, "Adjusting the outputs of a classifier to new a
    priori probabilities".
    """
    draw = np.random.default_rng(0)
    rows = max(1, _AT_ONCE // len(probabilities))
    shares = []
    for start in range(0, _SAMPLES, rows):
        shape = min(rows, _SAMPLES - start), len(probabilities)
        shares.append(_em(probabilities[draw.integers(0, shape[1], shape)], trained))
    value = float(_em(probabilities[None], trained)[0])
    return SpamShare(value, float(np.concatenate(shares).std()))


def _em(probabilities: np.ndarray, trained: float) -> np.ndarray:
    """Return the share of each row of shape (samples, messages)."""
    odds = probabilities / np.clip(1 - probabilities, 1e-12, None)
    odds = odds * ((1 - trained) / trained)  # how much likelier the message is if it is spam
    share = np.full(len(odds), trained)
    for _ in range(_STEPS):
        prior = np.clip(share / np.clip(1 - share, 1e-9, None), 1e-9, 1e9)[:, None]
        weighted = odds * prior
        after = (weighted / (1 + weighted)).mean(axis=1)
        if np.abs(after - share).max() < 1e-6:
            return after
        share = after
    return share


def psi(now: np.ndarray, before: np.ndarray) -> float:
    """Return the population stability index of two samples; shown only, since it alarms at random.

    Args:
        now: Values of the window, shape (messages,).
        before: Values of the reference.
    """
    edges = np.quantile(before, np.linspace(0, 1, _BINS + 1)[1:-1])
    shares = [
        np.bincount(np.searchsorted(edges, values), minlength=_BINS) / len(values)
        for values in (now, before)
    ]
    now_share, before_share = (np.clip(share, 1e-4, None) for share in shares)
    return float(((now_share - before_share) * np.log(now_share / before_share)).sum())
