"""What checks are made on, and their results."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TextIO, get_args

import numpy as np
import pandas as pd

from spam_mlflow.data.messages import Messages, frame_digest
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation import tables
from spam_mlflow.scorer.classifier import Thresholds
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.scorer.scorers import Scorer

Verdict = Literal["failed", "passed", "not applicable"]

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # in the order in which they are shown
_COLORS: Mapping[Verdict, str] = {"failed": "red", "passed": "green", "not applicable": "dim"}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: Family and subject, such as "data: spam rate".
        value: What was measured.
        bound: What the value was compared with, such as ">= 0.9".
        verdict: Whether the check passed, or does not apply to this version.
        why: What the check is for, or why it does not apply.
        evidence: What exactly was compared, and how; empty if the other attributes say it all.
    """

    name: str
    value: str
    bound: str
    verdict: Verdict
    why: str
    evidence: str = ""


@dataclass(frozen=True)
class Holdout:
    """The test part that candidate and champion are scored on, and what it was split from.

    Attributes:
        messages: All messages that were read.
        split: Their parts.
    """

    messages: Messages
    split: Split

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The rows of the test part."""
        return self.split.part("test")

    @property
    def spam(self) -> np.ndarray:
        """Whether each message of the test part is spam, shape (rows,), bool."""
        return is_spam(self.frame["label"])

    @property
    def texts(self) -> list[str]:
        """The texts of the test part."""
        return list(self.frame["text"])


@dataclass(frozen=True)
class Scored:
    """A version's scores on the holdout, which its own code computed in a process of its own.

    Attributes:
        thresholds: The version's own threshold, and the one for a ham false-positive rate of
            0.2 %.
        scores: Spam probability of each message, shape (rows,), float64.
        known: Likewise of the messages of `known_groups`.
    """

    thresholds: Thresholds
    scores: np.ndarray
    known: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def predicted(self) -> np.ndarray:
        """Whether each message is labeled as spam, shape (rows,), bool."""
        return self.scores >= self.thresholds.chosen


@dataclass(frozen=True)
class Compared:
    """What the versions say of the holdout.

    Attributes:
        candidate: Scores of the version that is checked.
        champion: Those of the version that it is compared with; None if there is none yet.
        scorer: The candidate's, to tell what moved its scores; None where it cannot be read without
            running the version's own code, or is not linear.
    """

    candidate: Scored
    champion: Scored | None
    scorer: Scorer | None = None


def check(
    name: str, passed: bool, value: object, bound: str, why: str, evidence: str = ""
) -> Check:
    """Return the result of a check that applies.

    Args:
        name: Family and subject, such as "data: spam rate".
        passed: Whether the check passed.
        value: What was measured.
        bound: What the value was compared with, such as ">= 0.9".
        why: What the check is for.
        evidence: What exactly was compared, and how.
    """
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Check(name, shown, bound, "passed" if passed else "failed", why, evidence)


def failed_checks(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that failed."""
    return [check for check in checks if check.verdict == "failed"]


def passed_checks(checks: Sequence[Check]) -> int:
    """Return how many checks passed; those that do not apply do not count."""
    return sum(check.verdict == "passed" for check in checks)


def ordered(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that failed first, then those that passed, then the others."""
    return sorted(checks, key=lambda check: _VERDICTS.index(check.verdict))


def summary(checks: Sequence[Check]) -> str:
    """Return how many checks failed, passed and did not apply, in words."""
    return ", ".join(
        f"{sum(check.verdict == verdict for check in checks)} {verdict}" for verdict in _VERDICTS
    )


def as_text(checks: Sequence[Check], stream: TextIO) -> str:
    """Return the results for a terminal: what failed, what passed, what did not apply, a count.

    Args:
        checks: The results.
        stream: Where the text will be written; see `tables.terminal`.
    """
    shown: Mapping[Verdict, Sequence[str]] = {
        "failed": ("value", "bound", "why"),
        "passed": ("value", "bound"),
        "not applicable": ("why",),
    }
    parts = [
        tables.terminal((verdict, *columns), rows, stream, _COLORS[verdict])
        for verdict, columns in shown.items()
        if (
            rows := [
                (c.name, *(getattr(c, column) for column in columns))
                for c in checks
                if c.verdict == verdict
            ]
        )
    ]
    return "\n\n".join([*parts, summary(checks)])


def as_markdown(checks: Sequence[Check]) -> str:
    """Return the results as a Markdown table, those that failed first, with their count."""
    rows = [(c.name, c.value, c.bound, c.verdict, c.why) for c in ordered(checks)]
    table = tables.markdown(("check", "value", "bound", "verdict", "why"), rows)
    return f"{table}\n\n{summary(checks)}\n"


def as_dicts(checks: Sequence[Check], holdout: Holdout) -> dict[str, Any]:
    """Return the results as JSON-ready data, with digest and number of the scored messages."""
    return {
        "summary": summary(checks),
        "holdout_digest": frame_digest(holdout.frame),
        "holdout_rows": len(holdout.frame),
        "checks": [asdict(check) for check in checks],
    }
