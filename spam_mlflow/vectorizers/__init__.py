"""Turning texts into model inputs: one implementation for training and for serving.

A vectoriser is data only, stored as the tokenizer JSON beside the model: never a pickle.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from spam_mlflow.vectorizers.ngram import NgramVectorizer
from spam_mlflow.vectorizers.sequence import SequenceVectorizer


class Vectorizer(Protocol):
    """Learns a vocabulary from training texts, then maps any text to a model's input."""

    @property
    def max_words(self) -> int:
        """Most words in the vocabulary; 0 for no limit."""
        ...

    @property
    def max_sequence(self) -> int | None:
        """Most words of a text that count; None for no limit."""
        ...

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Learn the vocabulary from `texts`, none of the test part, and return their rows."""
        ...

    def transform(self, texts: Sequence[str]) -> Any:
        """Return one input row per text, as the model's Keras network takes them."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the whole state as JSON-ready data, with its `kind`."""
        ...


_KINDS: dict[str, type[NgramVectorizer] | type[SequenceVectorizer]] = {
    "ngram": NgramVectorizer,
    "sequence": SequenceVectorizer,
}


def from_dict(state: Mapping[str, Any]) -> Vectorizer:
    """Return the fitted vectoriser whose `to_dict` gave `state`; raises KeyError if unknown."""
    return _KINDS[state["kind"]].from_dict(state)
