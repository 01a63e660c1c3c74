"""Choosing the threshold on held-out scores, and saying how sure the choice is."""

import math
from dataclasses import dataclass

import numpy as np

from spam_mlflow.config.schema import ThresholdSettings
from spam_mlflow.evaluation.cuts import Cuts

_ALIKE = 0.001  # difference of F1 or MCC that says nothing; the highest threshold loses least ham


@dataclass(frozen=True)
class Choice:
    """A threshold, and what is known of it from the scores that it was chosen on.

    Attributes:
        value: Spam probability from which a message is labeled spam.
        policy: The policy that chose it, which is never "auto".
        how: What the policy asks for, in words.
        why: Why this policy, where it is not the one that was asked for; "" where it is.
        false_positives: Number of held-out ham messages at or above the threshold.
        ham: Number of held-out ham messages.
    """

    value: float
    policy: str
    how: str
    why: str
    false_positives: int
    ham: int

    @property
    def ham_fpr(self) -> float:
        """The fraction of held-out ham at or above the threshold."""
        return self.false_positives / self.ham

    @property
    def ham_fpr_interval(self) -> tuple[float, float]:
        """The 95 % interval of the ham false-positive rate."""
        return rate_interval(self.false_positives, self.ham)

    @property
    def metrics(self) -> dict[str, float]:
        """What is logged of the choice."""
        low, high = self.ham_fpr_interval
        return {
            "held_out_ham_fpr": self.ham_fpr,
            "held_out_ham_fpr_low": low,
            "held_out_ham_fpr_high": high,
        }

    def __str__(self) -> str:
        """Return in one line how the threshold was chosen, and what it let pass."""
        low, high = self.ham_fpr_interval
        why = f" ({self.why})" if self.why else ""
        return (
            f"{self.how}{why}; "
            f"{self.false_positives:,} of {self.ham:,} held-out ham messages are at or above it: "
            f"{self.ham_fpr:.2%}, 95 % interval {low:.2%} to {high:.2%}"
        )


def choose(scores: np.ndarray, spam: np.ndarray, settings: ThresholdSettings) -> Choice:
    """Choose the threshold by a policy, which gives way where it does not suit the data.

    Args:
        scores: Held-out spam probabilities, shape (rows,).
        spam: 1 for spam, 0 for ham; shape (rows,).
        settings: The policy and its parameters.
    """
    policy, why = _suitable(scores, spam, settings)
    value = _threshold(scores, spam, policy, settings)
    above = int(((scores >= value) & (spam == 0)).sum())
    return Choice(value, policy, _how(policy, settings), why, above, int((spam == 0).sum()))


def _how(policy: str, settings: ThresholdSettings) -> str:
    return {
        "target_fpr": f"the lowest with at most {100 * settings.ham_fpr:g} % of ham at or above it",
        "max_f1": "the one with the best F1",
        "max_mcc": "the one with the best MCC",
        "min_cost": "the one with the least cost, where a ham message labeled spam costs "
        f"{settings.ham_cost:g} times as much as a spam message labeled ham",
        "fixed": "given in the configuration",
    }[policy]


def at_fpr(scores: np.ndarray, spam: np.ndarray, ham_fpr: float) -> float:
    """Return the lowest threshold with at most a given ham false-positive rate.

    Args:
        scores: Spam probabilities, shape (rows,).
        spam: 1 for spam, 0 for ham; shape (rows,).
        ham_fpr: Largest fraction of ham at or above the threshold, 0 to 1.

    Returns:
        The midpoint between the highest score that must stay below it and the next higher one.
    """
    cuts = Cuts.of(scores, spam)
    allowed = int(np.floor(ham_fpr * cuts.ham))
    return float(cuts.thresholds[np.flatnonzero(cuts.fp <= allowed)[-1]])


def rate_interval(count: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Clopper and Pearson 1934).

    Args:
        count: How often something happened.
        number: How often it could have happened, at least once.
    """
    from scipy.stats import binomtest

    found = binomtest(count, number).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def _suitable(scores: np.ndarray, spam: np.ndarray, settings: ThresholdSettings) -> tuple[str, str]:
    """Return the policy to take, and why it is not the one that was asked for, "" where it is."""
    asked, rate, ham = settings.policy, settings.ham_fpr, int((spam == 0).sum())
    if asked not in ("auto", "target_fpr"):
        return asked, ""
    if 0 < rate * ham < 1:
        return "max_f1", (
            f"{ham} held-out ham messages are too few for a ham false-positive rate of "
            f"{100 * rate:g} %, which takes {math.ceil(1 / rate)}"
        )
    if asked == "auto":
        best, kept = (
            _f1(scores, spam, _threshold(scores, spam, policy, settings))
            for policy in ("max_f1", "target_fpr")
        )
        if best - kept > settings.f1_tolerance:
            return "max_f1", (
                f"with a ham false-positive rate of {100 * rate:g} %, F1 on held-out messages "
                f"would be {kept:.3f} instead of {best:.3f}"
            )
    return "target_fpr", ""


def _threshold(
    scores: np.ndarray, spam: np.ndarray, policy: str, settings: ThresholdSettings
) -> float:
    """Return the threshold of a policy other than "auto"."""
    if policy == "fixed":
        return settings.value
    if policy == "target_fpr":
        return at_fpr(scores, spam, settings.ham_fpr)
    cuts = Cuts.blurred(scores, spam)
    if policy == "min_cost":
        return float(cuts.thresholds[np.argmin(settings.ham_cost * cuts.fp - cuts.tp)])
    values = cuts.f1() if policy == "max_f1" else cuts.mcc()
    return float(cuts.thresholds[values >= values.max() - _ALIKE].max())


def _f1(scores: np.ndarray, spam: np.ndarray, threshold: float) -> float:
    predicted = scores >= threshold
    return float(2 * (predicted & (spam == 1)).sum() / (predicted.sum() + spam.sum()))
