"""Feedback beside what it is about: the text and the score."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spam_mlflow.inference_store.records import Feedback, Inference
from spam_mlflow.inference_store.store import Store, all_feedback
from spam_mlflow.scorer.normalization import what_is_read

OF_A_DAY = 1000
"""Reports of a reporter that are read of one day, the first ones."""

IN_ALL = 200_000
"""Reports that are read of a store, the first ones, besides what reviewers say."""


@dataclass(frozen=True)
class Report:
    """What one reporter says of one inference.

    Attributes:
        feedback: What is said, without the note.
        inference: What it is said of, without what is not needed to judge it.
        text: The message, as far as models read it.
    """

    feedback: Feedback
    inference: Inference
    text: str


@dataclass(frozen=True)
class Reports:
    """All reports of a store.

    Attributes:
        found: Those whose message can be read, the oldest first.
        unreadable: How many were left out, since the message is not stored or was deleted.
        beyond: How many were left out, since their reporter had made OF_A_DAY on that day before.
        late: How many were left out, since there were IN_ALL before.
    """

    found: Sequence[Report]
    unreadable: int
    beyond: int
    late: int


def read(store: Store) -> Reports:
    """Return the reports of a store, as many as memory holds.

    Of each, only what is needed stays in memory: about a kilobyte and the text. The first ones
    count, so that a flood of reports cannot take the place of what was said before.
    """
    found, unreadable, beyond, late, reports = [], 0, 0, 0, 0
    given: Counter[tuple[str, str]] = Counter()
    known: dict[str, tuple[Inference, str]] = {}
    for feedback in all_feedback(store):
        is_report = feedback.kind == "report"
        if is_report and reports == IN_ALL:
            late += 1
            continue
        if is_report and given[feedback.reporter, feedback.day] == OF_A_DAY:
            beyond += 1
            continue
        message = known.get(feedback.inference_id) or _about(store, feedback.inference_id)
        if message is None:
            unreadable += 1
            continue
        if is_report:
            reports += 1
            given[feedback.reporter, feedback.day] += 1
        known[feedback.inference_id] = message
        found.append(Report(dataclasses.replace(feedback, note=""), *message))
    return Reports(found, unreadable, beyond, late)


def _about(store: Store, inference_id: str) -> tuple[Inference, str] | None:
    """Return an inference and its message, None if that cannot be read."""
    inference = store.find(inference_id)
    text = store.texts.reveal(inference) if inference else None
    if inference is None or text is None:
        return None
    return dataclasses.replace(inference, text=None, signals=None), what_is_read(text)
