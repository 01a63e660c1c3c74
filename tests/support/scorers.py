"""A scorer whose answers a test can foresee."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from spam_mlflow.scorer.scorers import WordContributions


class FirstWord:
    """A scorer whose scores come from the first word of a text."""

    threshold = 0.5

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        return np.full(len(texts), 0.5)

    def scores_and_doubts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
        return self.spam_probability(texts), [None] * len(texts)

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        part = {"feature": "word:message", "contribution": 1.5}
        return [[part] for _ in texts]

    def word_contributions(self, texts: Sequence[str]) -> list[WordContributions]:
        ends = [len(text.split(maxsplit=1)[0]) for text in texts]
        return [WordContributions([(0, end)], np.array([1.5]), {}) for end in ends]
