"""Stored predictions of a version as samples, by day."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from spam_mlflow.drift.reference import Sample
from spam_mlflow.drift.signals import Signals
from spam_mlflow.inference_store.records import Filters, Inference
from spam_mlflow.inference_store.store import Store, inferences


@dataclass
class _Rows:
    scores: list[float] = field(default_factory=list)
    signals: list[Signals] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, inference: Inference) -> None:
        self.scores.append(inference.spam_probability)
        self.sources.append(inference.source)
        if inference.signals is not None:
            self.signals.append(Signals.from_json(inference.signals))

    def sample(self) -> Sample:
        return Sample.of(self.scores, self.signals, self.sources)


@dataclass(frozen=True)
class Windows:
    """What a version has scored.

    Attributes:
        window: The messages that are compared.
        by_day: The messages of each day that has any, the oldest day first.
    """

    window: Sample
    by_day: dict[str, Sample]


def read(store: Store, version: str, days: Sequence[str], since: str) -> Windows:
    """Return what a store has of a version.

    Args:
        store: The store.
        version: The version's number.
        days: Days that are read, such as "2026-11-26".
        since: When the window begins, in the form of `Inference.at`.
    """
    window, by_day = _Rows(), {}
    for day in sorted(days):
        rows = _Rows()
        for inference in inferences(store, Filters(day=day, version=version)):
            rows.add(inference)
            if inference.at >= since:
                window.add(inference)
        if rows.scores:
            by_day[day] = rows.sample()
    return Windows(window.sample(), by_day)
