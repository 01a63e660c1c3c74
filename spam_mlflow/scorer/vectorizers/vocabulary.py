"""The vocabulary of the n-gram vectorizer: which grams are features, and in which columns.

A gram is a word, a pair of words, a character n-gram or a shape. It is handled as an integer, its
key: the top bits hold the number of its block, the other bits two word numbers, up to six
characters (see `character_ngrams`), or the number of a shape.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import character_ngrams
from .key_table import KeyTable

if TYPE_CHECKING:
    import pandas as pd

BLOCKS = ("word", "char", "shape", "skeleton")
"""Kinds of grams: the blocks of features, in the order of their columns."""

CHUNK_BLOCKS = BLOCKS[:3]
"""Blocks whose grams lie within one chunk of text, except for pairs of words."""

_CHARACTER_BLOCKS = ("char", "skeleton")
_KEY_BITS = 60  # bits of a key below the number of its block
_KEY = (1 << _KEY_BITS) - 1
_WORD_BITS = _KEY_BITS // 2  # bits of a word's number; a key holds two of them


class Numbering(dict[str, int]):
    """Numbers of strings, from 1 in the order of the strings.

    Args:
        strings: The strings to number; repeats are ignored.

    Attributes:
        grows: Whether an unknown string gets the next number; otherwise its number is 0.
    """

    def __init__(self, strings: Iterable[str] = ()) -> None:
        super().__init__((string, n) for n, string in enumerate(dict.fromkeys(strings), 1))
        self.grows = False

    def __missing__(self, string: str) -> int:
        if not self.grows:
            return 0
        self[string] = number = len(self) + 1
        return number


def with_blocks(keys: Sequence[np.ndarray], blocks: Sequence[str]) -> np.ndarray:
    """Return all keys in one array, each with the number of its block in the top bits.

    Args:
        keys: Keys without their block, one int64 array for each of `blocks`.
        blocks: Names from BLOCKS.

    Returns:
        Array of shape (keys of all blocks,), int64.
    """
    numbered = zip(keys, map(BLOCKS.index, blocks), strict=True)
    return np.concatenate([found | block << _KEY_BITS for found, block in numbered])


def word_pairs(owners: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of neighboring words that are both known.

    Args:
        owners: Position of each word's text, sorted, shape (words,), int64.
        words: Number of each word, 0 for unknown words, shape (words,), int64.

    Returns:
        The position of each pair's first word and its key without the block; both int64, shape
        (pairs,).
    """
    at = np.flatnonzero((owners[:-1] == owners[1:]) & (words[:-1] > 0) & (words[1:] > 0))
    return at, words[at] << _WORD_BITS | words[at + 1]


class Vocabulary:
    """The grams that are features, in the order of their columns.

    Args:
        frequencies: For each of BLOCKS the document frequency of each gram, which is the number of
            training texts that hold it.
        words: Numbers of words, including every word of `frequencies`.
        shapes: Numbers of shapes, including every shape of `frequencies`.

    Attributes:
        columns: For each of CHUNK_BLOCKS the column of each gram.
        block: Number of each column's block, shape (columns,), int8.
        counts: Document frequency of each column, shape (columns,), float64.
    """

    def __init__(
        self, frequencies: Mapping[str, Mapping[str, int]], words: Numbering, shapes: Numbering
    ) -> None:
        self.frequencies, self.words, self.shapes = frequencies, words, shapes
        keys = [self._keys(block, frequencies[block]) for block in BLOCKS]
        self._table = KeyTable(with_blocks(keys, BLOCKS))
        numbered = itertools.count()
        self.columns = {
            block: dict(zip(frequencies[block], numbered, strict=False)) for block in CHUNK_BLOCKS
        }
        counts = [count for block in BLOCKS for count in frequencies[block].values()]
        self.counts = np.array(counts, dtype=np.float64)
        sizes = [len(frequencies[block]) for block in BLOCKS]
        self.block = np.repeat(np.arange(len(BLOCKS), dtype=np.int8), sizes)

    @classmethod
    def empty(cls) -> "Vocabulary":
        """Return a vocabulary without features."""
        return cls({block: {} for block in BLOCKS}, Numbering(), Numbering())

    @classmethod
    def from_frequencies(cls, frequencies: Mapping[str, Mapping[str, int]]) -> "Vocabulary":
        """Return the vocabulary that a stored attribute `frequencies` describes."""
        words = Numbering(" ".join(frequencies["word"]).split(" "))
        return cls(frequencies, words, Numbering(frequencies["shape"]))

    @classmethod
    def selected(
        cls, counts: "pd.Series", max_words: int, words: Numbering, shapes: Numbering
    ) -> "Vocabulary":
        """Return the vocabulary of the most frequent grams.

        Args:
            counts: Document frequencies, indexed and sorted by key.
            max_words: Limit of the number of grams per block; 0 means no limit.
            words: Numbers of words that the keys were made with.
            shapes: Numbers of shapes that the keys were made with.
        """
        numbering = cls({block: {} for block in BLOCKS}, words, shapes)
        bounds = np.searchsorted(counts.index, np.arange(len(BLOCKS) + 1) << _KEY_BITS)
        frequencies = {}
        for block, (start, end) in zip(BLOCKS, itertools.pairwise(bounds), strict=True):
            kept = counts.iloc[start:end]
            if max_words:
                frequent = np.argsort(-kept.to_numpy(), kind="stable")[:max_words]
                kept = kept.iloc[np.sort(frequent)]
            names = numbering._names(block, kept.index.to_numpy() & _KEY)
            frequencies[block] = dict(zip(names, kept.tolist(), strict=True))
        return cls(frequencies, words, shapes)

    def __len__(self) -> int:
        return len(self.counts)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the column of each key, or -1 if it is unknown.

        Args:
            keys: Keys with their block, shape (keys,), int64.

        Returns:
            Array of shape (keys,), int32.
        """
        return self._table.find(keys)

    @property
    def feature_names(self) -> list[str]:
        """Name of each column, such as "word:call now" or "char:fre"."""
        return [f"{block}:{gram}" for block in BLOCKS for gram in self.frequencies[block]]

    def _keys(self, block: str, grams: Iterable[str]) -> np.ndarray:
        """Return the keys of a block's grams, without the block; int64."""
        if block in _CHARACTER_BLOCKS:
            return character_ngrams.pack(list(grams))
        if block == "shape":
            return np.array([self.shapes[gram] for gram in grams], dtype=np.int64)
        keys = []
        for gram in grams:
            first, *second = (self.words[word] for word in gram.split(" "))
            keys.append(first << _WORD_BITS | second[0] if second else first)
        return np.array(keys, dtype=np.int64)

    def _names(self, block: str, keys: np.ndarray) -> list[str]:
        """Return the grams of a block that `_keys` made integers of."""
        if block in _CHARACTER_BLOCKS:
            return character_ngrams.unpack(keys)
        if block == "shape":
            shapes = list(self.shapes)
            return [shapes[key - 1] for key in keys.tolist()]
        words = list(self.words)
        firsts, seconds = np.divmod(keys, 1 << _WORD_BITS)
        return [
            f"{words[first - 1]} {words[second - 1]}" if first else words[second - 1]
            for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True)
        ]
