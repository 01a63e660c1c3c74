"""Turning texts into model inputs, with one implementation for training and serving.

A vectorizer's state is plain data, stored as the tokenizer JSON beside the model, never a pickle.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .ngram import NgramVectorizer
from .sequence import SequenceVectorizer


class Vectorizer(Protocol):
    """Fits a vocabulary to training texts, then maps any text to a model's input."""

    @property
    def max_words(self) -> int:
        """Size limit of the vocabulary; 0 means no limit."""
        ...

    @property
    def max_sequence(self) -> int | None:
        """Number of words of a text that are read; None means all."""
        ...

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit the vocabulary to `texts` and return their rows.

        Args:
            texts: Texts to train on, none of them from the test part.

        Returns:
            What `transform` returns for the same texts.
        """
        ...

    def transform(self, texts: Sequence[str]) -> Any:
        """Return one input row per text.

        Args:
            texts: Any strings.

        Returns:
            A NumPy array or a SciPy CSR matrix with one row per text, which the model's Keras
            network takes as its input.
        """
        ...

    def doubts(self, texts: Sequence[str]) -> list[str | None]:
        """Return for each text why a score of it means little, None where it is a familiar one."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the whole state as JSON-ready data; `kind` names the class for `from_dict`."""
        ...


_KINDS: dict[str, type[NgramVectorizer] | type[SequenceVectorizer]] = {
    "ngram": NgramVectorizer,
    "sequence": SequenceVectorizer,
}


def from_dict(state: Mapping[str, Any]) -> Vectorizer:
    """Return the fitted vectorizer that a state describes.

    Args:
        state: What the vectorizer's `to_dict` returned.

    Raises:
        KeyError: If the state's kind does not exist.
    """
    return _KINDS[state["kind"]].from_dict(state)
