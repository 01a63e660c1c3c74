"""Texts as padded sequences of word numbers, as Keras's former `Tokenizer` made them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import familiarity

# As in Keras 2's Tokenizer, these characters become spaces (the apostrophe stays), the text is
# lowercased, and words are split at single spaces.
_FILTERED = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_TABLE = str.maketrans(dict.fromkeys(_FILTERED, " "))
_JUDGED = 20_000  # characters at the end of a text, where the words are that are kept
_MANY_WORDS = 5000  # of a vocabulary that hardly leaves out what English messages consist of


class SequenceVectorizer:
    """Integer rows of fixed length: the most frequent words by rank, unknown words left out.

    Args:
        max_words: Limit of the word numbers, which run from 1 to max_words - 1; 0 is padding.
        max_sequence: Number of words per row. The last words of a longer text are kept, and a
            shorter text is padded in front.

    Attributes:
        word_index: Number of each word of the vocabulary; empty before `fit_transform`.
    """

    def __init__(self, max_words: int, max_sequence: int) -> None:
        self.max_words, self.max_sequence = max_words, max_sequence
        self._set_words({})

    def fit_transform(self, texts: Sequence[str]) -> np.ndarray:
        """Number the words of `texts` by falling frequency, and return the texts' rows.

        Numbers begin at 1; of equally frequent words, the one that occurs first comes first.

        Args:
            texts: Texts to train on.

        Returns:
            Array of shape (texts, max_sequence), int32.
        """
        counts = Counter(word for text in texts for word in _words(text))
        ranked = counts.most_common(self.max_words - 1)
        self._set_words({word: rank for rank, (word, _) in enumerate(ranked, start=1)})
        return self.transform(texts)

    def _set_words(self, word_index: dict[str, int]) -> None:
        self.word_index = word_index
        # Words of the vocabulary may hold apostrophes and digits.
        self._tokens = frozenset(t for word in word_index for t in familiarity.tokens(word))
        self._scripts = familiarity.scripts(word_index)

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Return the texts' word numbers, shape (texts, max_sequence), int32."""
        rows = np.zeros((len(texts), self.max_sequence), dtype=np.int32)
        for row, text in zip(rows, texts, strict=True):
            numbers = [self.word_index[w] for w in _words(text) if w in self.word_index]
            kept = numbers[-self.max_sequence :]
            if kept:
                row[-len(kept) :] = kept
        return rows

    def doubts(self, texts: Sequence[str]) -> list[str | None]:
        """Return what `familiarity.doubt` says of each text."""
        count = len(self.word_index)
        judge = count >= _MANY_WORDS or count < self.max_words - 1  # else many were left out
        ends = (text[-_JUDGED:] for text in texts)
        return [familiarity.doubt(end, self._tokens, self._scripts, judge) for end in ends]

    def to_dict(self) -> dict[str, Any]:
        """Return settings and vocabulary as JSON-ready data."""
        return {
            "kind": "sequence",
            "max_words": self.max_words,
            "max_sequence": self.max_sequence,
            "word_index": self.word_index,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "SequenceVectorizer":
        """Return the fitted vectorizer whose `to_dict` returned `state`."""
        vectorizer = cls(state["max_words"], state["max_sequence"])
        vectorizer._set_words(dict(state["word_index"]))
        return vectorizer


def _words(text: str) -> list[str]:
    return [word for word in text.lower().translate(_TABLE).split(" ") if word]
