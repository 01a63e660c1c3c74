"""Whether a version that was trained on feedback has lost what the champion was sure of.

A holdout cannot tell: thirty false labels on one campaign, 0.4 % of the training rows, take the
recall on that campaign to nothing and leave F1 where it was, since the holdout has few of its
messages or none. So both versions score the messages that the feedback was added to, and those that
only reporters have judged: what the champion catches with confidence among them needs a reviewer.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spam_mlflow.config.schema import GateSettings
from spam_mlflow.data.sources import feedback
from spam_mlflow.gate.check import Check, Holdout, Scored, check
from spam_mlflow.scorer.labels import is_spam

NAME = "champion: feedback churn"

_MESSAGES = 20_000  # that are scored at most, beside those that only reporters have judged
_OF_A_GROUP = 5  # messages that are scored at most
_SURE = 0.9  # probability of the right label from which a version is sure of a message
_HALF = 0.5  # of a group's messages
_SHOWN = 3  # groups that a result names


@dataclass(frozen=True)
class KnownGroups:
    """Messages whose labels are known.

    They are a few of each group of near-copies in the data set that feedback was added to and, as
    spam, each a group by itself, all that only reporters have judged. Of these, what the champion
    does not catch does not count.

    Attributes:
        frame: The messages; none if the version was trained without feedback.
    """

    frame: pd.DataFrame

    @classmethod
    def of(cls, holdout: Holdout) -> "KnownGroups":
        """Return the messages that are scored.

        Where there are many, large groups come first; all that only reporters have judged stay.
        """
        frame, messages = holdout.split.frame, holdout.messages
        if not messages.train_only:
            return cls(frame.head(0))
        known = frame[~frame["source"].isin(messages.train_only)]
        few = known[known.groupby("group").cumcount() < _OF_A_GROUP]
        size = few["group"].map(known["group"].value_counts())
        first = few.loc[size.sort_values(ascending=False, kind="stable").index].head(_MESSAGES)
        said = frame[frame["source"] == feedback.SOURCE]
        # Each is a group: those who report choose what near-copies come along, and in which order.
        apart = said.assign(label="spam", group=-1 - np.arange(len(said)))
        return cls(pd.concat([first, apart], ignore_index=True))

    @functools.cached_property
    def texts(self) -> list[str]:
        """The texts."""
        return list(self.frame["text"])


def checks(
    scored: Scored, champion: Scored | None, known: KnownGroups, settings: GateSettings
) -> Iterator[Check]:
    """Check that the version labels rightly what the champion labels rightly with confidence.

    Args:
        scored: The version's scores.
        champion: The champion's; None if there is no champion yet.
        known: The messages that both scored as `known`.
        settings: How many groups may be lost.

    Yields:
        The one result.
    """
    if known.frame.empty or champion is None:
        why = "trained without feedback" if known.frame.empty else "there is no champion yet"
        yield Check(NAME, "-", "-", "not applicable", why)
        return
    lost = _lost(scored, champion, known.frame)
    named = "; ".join(lost[:_SHOWN])
    yield check(
        NAME,
        len(lost) <= settings.feedback_churn,
        len(lost),
        f"<= {settings.feedback_churn}",
        "groups of known messages that the champion labels rightly with confidence, and spam "
        "that it catches so and no reviewer has judged, which this version does not"
        f"{f': {named}' if named else ''}",
    )


def _lost(scored: Scored, champion: Scored, frame: pd.DataFrame) -> list[str]:
    """Return the start of a message of each group that was lost, the largest groups first."""
    spam = is_spam(frame["label"])
    sure = np.where(spam, champion.known, 1 - champion.known) >= _SURE
    caught = (champion.known >= champion.thresholds.chosen) == spam
    right = (scored.known >= scored.thresholds.chosen) == spam
    table = pd.DataFrame(
        {"group": frame["group"], "before": sure & caught, "right": right, "text": frame["text"]}
    )
    by_group = table.groupby("group", sort=False)
    found = by_group.agg(before=("before", "mean"), right=("right", "mean"), text=("text", "first"))
    lost = found[(found["before"] > _HALF) & (found["right"] < _HALF)]
    return [" ".join(text.split())[:40] for text in lost["text"]]
