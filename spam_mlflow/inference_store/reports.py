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
    """

    found: Sequence[Report]
    unreadable: int
    beyond: int


def read(store: Store) -> Reports:
    """Return all reports of a store.

    Of each, only what is needed stays in memory: about a kilobyte and the text.
    """
    found, unreadable, beyond = [], 0, 0
    given: Counter[tuple[str, str]] = Counter()
    known: dict[str, tuple[Inference, str] | None] = {}
    for feedback in all_feedback(store):
        if feedback.kind == "report":
            given[feedback.reporter, feedback.day] += 1
            if given[feedback.reporter, feedback.day] > OF_A_DAY:
                beyond += 1
                continue
        about = feedback.inference_id
        if about not in known:
            known[about] = _about(store, about)
        message = known[about]
        if message is None:
            unreadable += 1
        else:
            found.append(Report(dataclasses.replace(feedback, note=""), *message))
    return Reports(found, unreadable, beyond)


def _about(store: Store, inference_id: str) -> tuple[Inference, str] | None:
    """Return an inference and its message, None if that cannot be read."""
    inference = store.find(inference_id)
    text = store.texts.reveal(inference) if inference else None
    if inference is None or text is None:
        return None
    return dataclasses.replace(inference, text=None, signals=None), what_is_read(text)
