"""Feedback beside what it is about: the text and the score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spam_mlflow.inference_store.records import Feedback, Inference
from spam_mlflow.inference_store.store import Store, all_feedback


@dataclass(frozen=True)
class Report:
    """What one reporter says of one inference.

    Attributes:
        feedback: What is said.
        inference: What it is said of.
        text: The message.
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
    """

    found: Sequence[Report]
    unreadable: int


def read(store: Store) -> Reports:
    """Return all reports of a store."""
    found, unreadable = [], 0
    for report in _all(store):
        if report is None:
            unreadable += 1
        else:
            found.append(report)
    return Reports(found, unreadable)


def _all(store: Store) -> Iterator[Report | None]:
    """Yield the reports, None for one whose message cannot be read."""
    known: dict[str, tuple[Inference, str] | None] = {}
    for feedback in all_feedback(store):
        about = feedback.inference_id
        if about not in known:
            inference = store.find(about)
            text = store.texts.reveal(inference) if inference else None
            known[about] = None if inference is None or text is None else (inference, text)
        found = known[about]
        yield None if found is None else Report(feedback, *found)
