"""TF-IDF over words, character n-grams, word shapes and the skeleton, plus a few style figures.

The skeleton is the text's letters run together, so that disguises cannot get at its n-grams. Every
feature but these and the word bigrams depends on one whitespace-separated chunk of text alone, so
a chunk's features are looked up once and remembered: most chunks have been seen before.
"""

import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spam_mlflow.errors import UserError
from spam_mlflow.text import normalise, skeleton
from spam_mlflow.vectorizers import character_ngrams

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCKS = ("word", "char", "shape", "skeleton")
STYLE = (
    "characters",
    "words",
    "capitals",
    "digits",
    "punctuation",
    "non_ascii",
    "link",
    "currency",
    "long_number",
)
_CHARACTERS = ("char", "skeleton")

_TOKEN = re.compile(r"\w+|[^\w\s]")
_LINK = re.compile(r"https?:|www\.|\.com\b|\.co\b|\.ly\b|\.net\b|\.org\b", re.IGNORECASE)
_CURRENCY = re.compile("[£$€]")
_LONG_NUMBER = re.compile(r"\d{5,}")
_UPPER, _LOWER, _DIGIT = re.compile("[A-Z]"), re.compile("[a-z]"), re.compile(r"\d")
_LETTERS_OR_OTHER = re.compile("[A-Za-z]+|[^A-Za-z]+")
_LONG_RUN = re.compile(r"([Aa])\1+")
_SHAPE_LENGTH = 12  # characters of a shape that are told apart
_REMEMBERED_CHUNKS = 50_000  # some 30 MB; a chunk longer than the next figure is not worth it
_REMEMBERED_LENGTH = 40  # characters
_LONG_WORD = 20  # characters; longer runs of letters are words run together
_LONGEST_SEGMENTED = 2000  # characters of a text; bounds the time that it can take to 50 ms
_TEXTS_AT_ONCE = 4096  # bounds memory for large batches


class NgramVectorizer:
    """Sparse rows: one TF-IDF block of length 1 for each of BLOCKS, then style figures.

    max_words: most features per block, the most frequent ones; 0 for no limit.
    min_count: training texts that must hold a feature for it to enter the vocabulary.
    characters: shortest and longest character n-gram, within a chunk padded with one space.
    skeleton: shortest and longest n-gram of the skeleton, which runs on through the whole text.
    style_weight: factor on the style figures, which lie between 0 and about 1.
    """

    max_sequence: int | None = None

    def __init__(
        self,
        max_words: int,
        min_count: int,
        characters: Sequence[int],
        skeleton: Sequence[int],
        style_weight: float,
    ) -> None:
        """Take the settings; `fit_transform` or `from_dict` supplies the vocabulary.

        Raises UserError for lengths of n-grams that cannot be.
        """
        self.max_words, self.min_count = max_words, min_count
        self.characters, self.skeleton = tuple(characters), tuple(skeleton)
        self.style_weight = style_weight
        for name, lengths in (("characters", self.characters), ("skeleton", self.skeleton)):
            if len(lengths) != 2 or not 1 <= lengths[0] <= lengths[1] <= character_ngrams.LONGEST:
                raise UserError(
                    f"model.{name}={list(lengths)} must be two lengths, the shorter one first, "
                    f"from 1 to {character_ngrams.LONGEST}"
                )
        self._remembered = functools.lru_cache(_REMEMBERED_CHUNKS)(Chunk)
        self._set_vocabulary({block: {} for block in BLOCKS}, texts=0)

    def fit_transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Learn vocabulary and document frequencies from `texts` and return their rows."""
        normal = [normalise(text) for text in texts]
        counted = self._document_frequencies(normal)
        self._set_vocabulary({b: self._select(b, counted[b]) for b in BLOCKS}, len(texts))
        return self._matrix(normal)

    def _document_frequencies(self, normal: Sequence[str]) -> dict[str, pd.Series]:
        """Return, for each block, the number of texts that hold each gram, in a fixed order."""
        found: dict[str, list[pd.Series]] = {block: [] for block in BLOCKS}
        for start in range(0, max(len(normal), 1), _TEXTS_AT_ONCE):
            some = normal[start : start + _TEXTS_AT_ONCE]
            for block, (owners, grams) in self._grams(some).items():
                numbers, distinct = pd.factorize(grams)
                _, columns, _ = _occurrences(owners, numbers, len(distinct))
                counts = np.bincount(columns, minlength=len(distinct))
                found[block].append(pd.Series(counts, index=distinct))
        return {block: pd.concat(parts).groupby(level=0).sum() for block, parts in found.items()}

    def _select(self, block: str, counts: pd.Series) -> dict[str, int]:
        """Return the vocabulary of one block: the most frequent grams and their frequencies."""
        kept = counts[counts >= self.min_count]
        if self.max_words:
            frequent = np.argsort(-kept.to_numpy(), kind="stable")[: self.max_words]
            kept = kept.iloc[np.sort(frequent)]
        names = _names(block, kept.index.to_numpy())
        return dict(zip(names, kept.tolist(), strict=True))

    def _set_vocabulary(self, frequencies: Mapping[str, Mapping[str, int]], texts: int) -> None:
        self.texts, self._frequencies = texts, frequencies
        sizes = [len(frequencies[block]) for block in BLOCKS]
        self._starts = dict(zip(BLOCKS, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self._index = {block: pd.Index(_keys(block, list(frequencies[block]))) for block in BLOCKS}
        counts = [count for block in BLOCKS for count in frequencies[block].values()]
        # The smoothed inverse document frequency of scikit-learn's TfidfTransformer.
        idf = np.log((1 + texts) / (1 + np.array(counts, dtype=np.float64))) + 1
        self._idf = idf.astype(np.float32)
        self._block = np.repeat(np.arange(len(BLOCKS)), sizes)

    def _grams(self, normal: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return owners and keys of every gram in normalised texts, repeats included, by block."""
        remembered = self._remembered
        read = [
            [
                remembered(piece) if len(piece) <= _REMEMBERED_LENGTH else Chunk(piece)
                for piece in self._pieces(text)
            ]
            for text in normal
        ]
        words = [[word for chunk in chunks for word in chunk.words] for chunks in read]
        bigrams = [[f"{a} {b}" for a, b in itertools.pairwise(found)] for found in words]
        folded = [
            f" {' '.join(chunk.folded for chunk in chunks)} " if chunks else "" for chunks in read
        ]
        letters = ["".join(chunk.skeleton for chunk in chunks) for chunks in read]
        return {
            "word": _owned([[*one, *two] for one, two in zip(words, bigrams, strict=True)]),
            "char": character_ngrams.find(folded, *self.characters),
            "shape": _owned([[chunk.shape for chunk in chunks] for chunks in read]),
            "skeleton": character_ngrams.find(letters, *self.skeleton),
        }

    def _pieces(self, text: str) -> list[str]:
        """Return what stands between spaces, words that were run together told apart."""
        pieces = text.split()
        vocabulary = self._frequencies["word"]  # still empty while it is learnt
        if (
            not vocabulary
            or len(text) > _LONGEST_SEGMENTED
            or max(map(len, pieces), default=0) <= _LONG_WORD
        ):
            return pieces
        return [
            part
            for piece in pieces
            for part in (self._segmented(piece) if len(piece) > _LONG_WORD else (piece,))
        ]

    def _segmented(self, piece: str) -> list[str]:
        """Return what a long piece of text without spaces was run together from, links aside."""
        if _LINK.search(piece):
            return [piece]
        runs = _LETTERS_OR_OTHER.findall(piece)
        return [word for run in runs for word in (self._words(run) if run.isalpha() else [run])]

    def _words(self, letters: str) -> list[str]:
        """Return the most likely words that make up `letters`, by dynamic programming."""
        best = [(0.0, 0)]
        for end in range(1, len(letters) + 1):
            starts = range(max(0, end - _LONG_WORD), end)
            best.append(
                max(
                    (best[start][0] + self._log_probability(letters[start:end].casefold()), start)
                    for start in starts
                )
            )
        words, end = [], len(letters)
        while end:
            start = best[end][1]
            words.append(letters[start:end])
            end = start
        return words[::-1]

    def _log_probability(self, word: str) -> float:
        """Return how likely a word is; an unknown one the less, the longer it is (Norvig 2009)."""
        count = self._frequencies["word"].get(word) or 10.0 ** (1 - len(word))
        return math.log(count / (10 * max(self.texts, 1)))

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self._idf) + len(STYLE)

    @property
    def feature_names(self) -> list[str]:
        """Name of each column, such as "word:call now", "char:fre" or "style:capitals"."""
        grams = [f"{block}:{gram}" for block in BLOCKS for gram in self._frequencies[block]]
        return grams + [f"style:{name}" for name in STYLE]

    def transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Return a scipy CSR matrix of shape (texts, width), float32."""
        return self._matrix([normalise(text) for text in texts])

    def coordinates(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the non-zero entries: rows (int64, sorted), columns (int32), values (float32)."""
        return self._entries([normalise(text) for text in texts])

    def _matrix(self, normal: Sequence[str]) -> "csr_matrix":
        from scipy.sparse import csr_matrix

        rows, columns, values = self._entries(normal)
        starts = np.searchsorted(rows, np.arange(len(normal) + 1))
        return csr_matrix((values, columns, starts), shape=(len(normal), self.width))

    def _entries(self, normal: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [
            self._some_entries(normal[start : start + _TEXTS_AT_ONCE], start)
            for start in range(0, max(len(normal), 1), _TEXTS_AT_ONCE)
        ]
        rows, columns, values = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)

    def _some_entries(
        self, normal: Sequence[str], first: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = []
        for block, (owners, grams) in self._grams(normal).items():
            numbers = self._index[block].get_indexer(grams)
            known = numbers >= 0
            found.append((owners[known], numbers[known] + self._starts[block]))
        owners, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
        rows, columns, values = self._weigh(*_occurrences(owners, columns, self.width), normal)
        return rows + first, columns, values

    def _weigh(
        self, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, normal: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return TF-IDF weights of counted features, blocks of length 1, with style figures."""
        values = (1 + np.log(counts.astype(np.float32))) * self._idf[columns]
        slots = rows * len(BLOCKS) + self._block[columns]
        norms = np.sqrt(np.bincount(slots, values.astype(np.float64) ** 2))
        style = np.array([style_figures(text) for text in normal], dtype=np.float32)
        style = style.reshape(len(normal), len(STYLE)) * np.float32(self.style_weight)
        style_rows, style_columns = np.nonzero(style)
        rows = np.concatenate([rows, style_rows])
        order = np.argsort(rows, kind="stable")
        return (
            rows[order],
            np.concatenate([columns, style_columns + len(self._idf)]).astype(np.int32)[order],
            np.concatenate([values / norms[slots], style[style_rows, style_columns]]).astype(
                np.float32
            )[order],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return settings, vocabulary and document frequencies as JSON-ready data."""
        return {
            "kind": "ngram",
            "max_words": self.max_words,
            "min_count": self.min_count,
            "characters": list(self.characters),
            "skeleton": list(self.skeleton),
            "style_weight": self.style_weight,
            "texts": self.texts,
            "document_frequencies": self._frequencies,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "NgramVectorizer":
        """Return the fitted vectoriser whose `to_dict` gave `state`."""
        settings = ("max_words", "min_count", "characters", "skeleton", "style_weight")
        vectorizer = cls(**{name: state[name] for name in settings})
        vectorizer._set_vocabulary(state["document_frequencies"], state["texts"])
        return vectorizer


class Chunk:
    """What a stretch of normalised text without spaces holds by itself."""

    __slots__ = ("folded", "shape", "skeleton", "words")

    def __init__(self, text: str) -> None:
        """Read the chunk `text`."""
        self.folded = text.casefold()
        self.words = _TOKEN.findall(self.folded)
        self.shape, self.skeleton = shape(text), skeleton(text)


def _owned(grams: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts' positions and their grams, flat: int64 and object."""
    owners = np.repeat(np.arange(len(grams)), [len(found) for found in grams])
    flat = np.empty(len(owners), dtype=object)
    flat[:] = list(itertools.chain.from_iterable(grams))
    return owners, flat


def _keys(block: str, grams: Sequence[str]) -> np.ndarray:
    """Return what `grams` are looked up by: integers for character n-grams, else themselves."""
    return character_ngrams.pack(grams) if block in _CHARACTERS else np.array(grams, dtype=object)


def _names(block: str, keys: np.ndarray) -> list[str]:
    return character_ngrams.unpack(keys) if block in _CHARACTERS else keys.tolist()


def _occurrences(
    owners: np.ndarray, columns: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and counts of the distinct pairs; all int64.

    width: above every column.
    """
    keys, counts = np.unique(owners * max(width, 1) + columns, return_counts=True)
    return *np.divmod(keys, max(width, 1)), counts


def shape(chunk: str) -> str:
    """Return the pattern of a chunk: "Call" and "Mobile" are "Aaa", "£100" is "£000"."""
    pattern = _DIGIT.sub("0", _LOWER.sub("a", _UPPER.sub("A", chunk)))
    return _LONG_RUN.sub(r"\1\1", pattern)[:_SHAPE_LENGTH]


def style_figures(text: str) -> list[float]:
    """Return how a normalised text is written, in the order of STYLE, each about 0 to 1."""
    length = len(text) + 1
    letters = sum(map(str.isalpha, text))
    spaces = text.count(" ")
    return [
        math.log1p(length) / 6,
        math.log1p(spaces + bool(text)) / 5,
        sum(map(str.isupper, text)) / (letters + 1),
        sum(map(str.isdigit, text)) / length,
        (len(text) - sum(map(str.isalnum, text)) - spaces) / length,
        0.0 if text.isascii() else (len(text) - len(text.encode("ascii", "ignore"))) / length,
        float(bool(_LINK.search(text))),
        float(bool(_CURRENCY.search(text))),
        float(bool(_LONG_NUMBER.search(text))),
    ]
