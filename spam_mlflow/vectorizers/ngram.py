"""TF-IDF over word n-grams, character n-grams and word shapes, plus a few style figures.

Every feature but the word bigrams depends on one whitespace-separated chunk of text alone, so a
chunk's features are looked up once and remembered: most chunks of a message have been seen before.
"""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spam_mlflow.text import normalise

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCKS = ("word", "char", "shape")
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

_TOKEN = re.compile(r"\w+|[^\w\s]")
_LINK = re.compile(r"https?:|www\.|\.com\b|\.co\b|\.ly\b|\.net\b|\.org\b", re.IGNORECASE)
_CURRENCY = re.compile("[£$€]")
_LONG_NUMBER = re.compile(r"\d{5,}")
_UPPER, _LOWER, _DIGIT = re.compile("[A-Z]"), re.compile("[a-z]"), re.compile(r"\d")
_LONG_RUN = re.compile(r"([Aa])\1+")
_SHAPE_LENGTH = 12  # characters of a shape that are told apart
_REMEMBERED_CHUNKS = 50_000  # some 30 MB; a chunk longer than the next figure is not worth it
_REMEMBERED_LENGTH = 40  # characters
_TEXTS_AT_ONCE = 4096  # bounds memory for large batches


class NgramVectorizer:
    """Sparse rows: TF-IDF blocks `word`, `char` and `shape`, each of length 1, then style figures.

    max_words: most features per block, the most frequent ones; 0 for no limit.
    min_count: training texts that must hold a feature for it to enter the vocabulary.
    characters: shortest and longest character n-gram, within a chunk padded with one space.
    style_weight: factor on the style figures, which lie between 0 and about 1.
    """

    max_sequence: int | None = None

    def __init__(
        self, max_words: int, min_count: int, characters: Sequence[int], style_weight: float
    ) -> None:
        """Take the settings; `fit` or `from_dict` supplies the vocabulary."""
        self.max_words, self.min_count = max_words, min_count
        self.shortest, self.longest = characters
        self.style_weight = style_weight
        self._set_vocabulary({block: {} for block in BLOCKS}, texts=0)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn vocabulary and document frequencies from `texts`."""
        counts: dict[str, Counter[str]] = {block: Counter() for block in BLOCKS}
        for text in texts:
            chunks = normalise(text).split()
            grams = {block: set[str]() for block in BLOCKS}
            for chunk in set(chunks):
                for block, found in zip(BLOCKS, self._chunk_grams(chunk), strict=True):
                    grams[block].update(found)
            grams["word"].update(_bigrams(chunks))
            for block in BLOCKS:
                counts[block].update(grams[block])
        kept = {block: self._select(counts[block]) for block in BLOCKS}
        self._set_vocabulary(kept, len(texts))

    def _select(self, counts: Counter[str]) -> dict[str, int]:
        """Return the vocabulary of one block with its document frequencies, in a fixed order."""
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        frequent = [(gram, count) for gram, count in ranked if count >= self.min_count]
        return dict(sorted(frequent[: self.max_words or None]))

    def _set_vocabulary(self, frequencies: Mapping[str, Mapping[str, int]], texts: int) -> None:
        self.texts, self._frequencies = texts, frequencies
        names = [(block, gram) for block in BLOCKS for gram in frequencies[block]]
        index = {block: {} for block in BLOCKS}  # type: dict[str, dict[str, int]]
        for position, (block, gram) in enumerate(names):
            index[block][gram] = position
        self._index = index
        self._names = names
        counts = np.array([frequencies[block][gram] for block, gram in names], dtype=np.float64)
        # The smoothed inverse document frequency of scikit-learn's TfidfTransformer.
        self._idf = (np.log((1 + texts) / (1 + counts)) + 1).astype(np.float32)
        self._block = np.array([BLOCKS.index(block) for block, _ in names], dtype=np.int64)
        self._chunk_ids = functools.lru_cache(_REMEMBERED_CHUNKS)(self._look_up)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self._names) + len(STYLE)

    @property
    def feature_names(self) -> list[str]:
        """Name of each column, such as "word:call now", "char:fre" or "style:capitals"."""
        return [f"{block}:{gram}" for block, gram in self._names] + [f"style:{s}" for s in STYLE]

    def transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Return a scipy CSR matrix of shape (texts, width), float32."""
        from scipy.sparse import csr_matrix

        rows, columns, values = self.coordinates(texts)
        return csr_matrix((values, (rows, columns)), shape=(len(texts), self.width))

    def coordinates(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the non-zero entries as rows (int64), columns (int64) and values (float32)."""
        parts = [
            self._coordinates(texts[start : start + _TEXTS_AT_ONCE], start)
            for start in range(0, max(len(texts), 1), _TEXTS_AT_ONCE)
        ]
        rows, columns, values = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)

    def _coordinates(
        self, texts: Sequence[str], first: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        normal = [normalise(text) for text in texts]
        ids = [self._text_ids(text) for text in normal]
        owners = np.repeat(np.arange(len(ids)), [len(found) for found in ids])
        width = max(len(self._names), 1)
        flat = np.concatenate([*ids, np.zeros(0, dtype=np.int64)])
        keys, counts = np.unique(owners * width + flat, return_counts=True)
        rows, columns = np.divmod(keys, width)
        values = (1 + np.log(counts.astype(np.float32))) * self._idf[columns]
        slots = rows * len(BLOCKS) + self._block[columns]
        norms = np.sqrt(np.bincount(slots, values.astype(np.float64) ** 2))
        values = (values / norms[slots]).astype(np.float32)
        style = np.array([style_figures(text) for text in normal], dtype=np.float32)
        style = style.reshape(len(normal), len(STYLE)) * np.float32(self.style_weight)
        style_rows, style_columns = np.nonzero(style)
        return (
            np.concatenate([rows, style_rows]) + first,
            np.concatenate([columns, style_columns + len(self._names)]),
            np.concatenate([values, style[style_rows, style_columns]]),
        )

    def _text_ids(self, text: str) -> np.ndarray:
        """Return the column of every n-gram and shape in a normalised text, repeats included."""
        chunks = text.split()
        words = self._index["word"]
        found = [words[gram] for gram in _bigrams(chunks) if gram in words]
        known = [
            self._chunk_ids(chunk) if len(chunk) <= _REMEMBERED_LENGTH else self._look_up(chunk)
            for chunk in chunks
        ]
        return np.concatenate([np.array(found, dtype=np.int64), *known])

    def _look_up(self, chunk: str) -> np.ndarray:
        grams = zip(BLOCKS, self._chunk_grams(chunk), strict=True)
        ids = [self._index[b][g] for b, found in grams for g in found if g in self._index[b]]
        return np.array(ids, dtype=np.int64)

    def _chunk_grams(self, chunk: str) -> tuple[list[str], list[str], list[str]]:
        """Return a chunk's words, character n-grams and shape."""
        folded = chunk.casefold()
        padded = f" {folded} "
        lengths = range(self.shortest, self.longest + 1)
        grams = [padded[i : i + n] for n in lengths for i in range(len(padded) - n + 1)]
        return _TOKEN.findall(folded), grams, [shape(chunk)]

    def to_dict(self) -> dict[str, Any]:
        """Return settings, vocabulary and document frequencies as JSON-ready data."""
        return {
            "kind": "ngram",
            "max_words": self.max_words,
            "min_count": self.min_count,
            "characters": [self.shortest, self.longest],
            "style_weight": self.style_weight,
            "texts": self.texts,
            "document_frequencies": self._frequencies,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "NgramVectorizer":
        """Return the fitted vectoriser whose `to_dict` gave `state`."""
        settings = ("max_words", "min_count", "characters", "style_weight")
        vectorizer = cls(**{name: state[name] for name in settings})
        vectorizer._set_vocabulary(state["document_frequencies"], state["texts"])
        return vectorizer


def _bigrams(chunks: Sequence[str]) -> Iterator[str]:
    tokens = [token for chunk in chunks for token in _TOKEN.findall(chunk.casefold())]
    return (f"{first} {second}" for first, second in itertools.pairwise(tokens))


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
        sum(character > "\x7f" for character in text) / length,
        float(bool(_LINK.search(text))),
        float(bool(_CURRENCY.search(text))),
        float(bool(_LONG_NUMBER.search(text))),
    ]
