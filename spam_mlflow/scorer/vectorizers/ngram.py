"""TF-IDF over words, character n-grams, word shapes and the skeleton, plus style and signals.

The skeleton is the text's letters run together, so that obfuscation hardly changes its n-grams.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..batches import batches
from ..errors import UserError
from ..normalization import normalize
from . import character_ngrams, familiarity, sparse_rows
from .chunks import ColumnReader, GramReader
from .signals import Signals
from .sparse_rows import Coordinates, Places
from .style_features import STYLE
from .vocabulary import BLOCKS, Numbering, Vocabulary
from .word_segmentation import WordSegmenter, needs_segmentation

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_SETTINGS = ("max_words", "min_count", "characters", "skeleton", "style_weight")
_LATER_SETTINGS = ("signal_weight", "lexicons")  # which earlier states lack


class NgramVectorizer:
    """Sparse rows: a TF-IDF block of unit length for each of BLOCKS, then style and signals.

    Args:
        max_words: Limit of the features per block, of which the most frequent are taken; 0 means
            no limit.
        min_count: Number of training texts that must hold a gram for it to become a feature.
        characters: Lengths of the shortest and the longest character n-gram of a chunk, which is
            padded with one space on each side.
        skeleton: Lengths of the shortest and the longest n-gram of the skeleton, which runs
            through the whole text.
        style_weight: Factor of the style features, which lie between 0 and about 1.
        signal_weight: Factor of the signals, likewise; 0 for no signals.
        lexicons: Words of the signals, as `Signals` takes them.

    Attributes:
        texts: Number of texts that the vectorizer was fitted to.

    Raises:
        UserError: If lengths of n-grams are out of range or in the wrong order.
    """

    max_sequence: int | None = None

    def __init__(
        self,
        max_words: int,
        min_count: int,
        characters: Sequence[int],
        skeleton: Sequence[int],
        style_weight: float,
        signal_weight: float = 0.0,
        lexicons: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.max_words, self.min_count = max_words, min_count
        self.characters = _lengths("characters", characters)
        self.skeleton = _lengths("skeleton", skeleton)
        self.style_weight, self.signal_weight = style_weight, signal_weight
        self._signals = Signals(lexicons) if signal_weight else None
        names = self._signals.names if self._signals else ()
        self._beside_grams = [f"style:{n}" for n in STYLE] + [f"signal:{n}" for n in names]
        self._weights = np.repeat(
            np.array([style_weight, signal_weight], dtype=np.float32), [len(STYLE), len(names)]
        )
        self._set_vocabulary(Vocabulary.empty(), texts=0)

    def fit_transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Fit vocabulary and document frequencies to `texts` and return their rows.

        Args:
            texts: Texts to train on.

        Returns:
            SciPy CSR matrix of shape (texts, n_features), float32.
        """
        words, shapes = Numbering(), Numbering()
        words.grows = shapes.grows = True
        reader = GramReader(self.characters, self.skeleton, words, shapes, self._signals)
        parts = list(batches([normalize(text) for text in texts]))
        counted = [_count_all(reader, part) for part in parts]
        words.grows = shapes.grows = False
        counts = self._document_frequencies(counted)
        vocabulary = Vocabulary.selected(counts, self.max_words, words, shapes)
        self._set_vocabulary(vocabulary, len(texts))
        # The counts of a part are freed before the next part's rows are made.
        return self._matrix(self._known(counted.pop(0), part) for part in parts)

    def _document_frequencies(self, counted: Sequence["_AllCounts"]) -> "pd.Series":
        """Return how many texts hold each gram, sorted by key, without rare grams."""
        frequencies = (
            pd.Series(np.bincount(found.columns, minlength=len(found.keys)), index=found.keys)
            for found in counted
        )
        counts = pd.concat(frequencies).groupby(level=0).sum()
        return counts[counts >= self.min_count]

    def _known(self, counted: "_AllCounts", normal: Sequence[str]) -> "_Counts":
        """Return the known features of texts that were counted before.

        Texts with words that were run together are read again, since they can be segmented only
        now that the vocabulary is known.
        """
        again = np.array([needs_segmentation(text, text.split()) for text in normal], dtype=bool)
        others = np.flatnonzero(again)
        anew = self._count([normal[at] for at in others.tolist()])
        columns = self._vocabulary.find(counted.keys)[counted.columns]
        known = (columns >= 0) & ~again[counted.rows]
        return _Counts(
            np.concatenate([counted.rows[known].astype(np.int64), others[anew.rows]]),
            np.concatenate([columns[known], anew.columns]),
            np.concatenate([counted.counts[known], anew.counts]),
            counted.style,
            np.zeros(len(normal)),  # it is asked for new texts alone
        )

    def _set_vocabulary(self, vocabulary: Vocabulary, texts: int) -> None:
        self.texts, self._vocabulary = texts, vocabulary
        self._feature_names: list[str] = []  # filled on first use
        # This is the smoothed inverse document frequency of scikit-learn's TfidfTransformer.
        idf = np.log((1 + texts) / (1 + vocabulary.counts)) + 1
        self._idf = idf.astype(np.float32)
        segmenter = WordSegmenter(vocabulary.frequencies["word"], texts)
        self._reader = ColumnReader(
            self.characters, self.skeleton, vocabulary, segmenter, self._signals
        )

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return len(self._vocabulary) + len(self._beside_grams)

    @property
    def feature_names(self) -> list[str]:
        """Name of each column, such as "word:call now", "style:capitals" or "signal:prize"."""
        return self._vocabulary.feature_names + self._beside_grams

    def names(self, columns: np.ndarray) -> list[str]:
        """Return the names of some columns.

        Args:
            columns: Column numbers, shape (columns,), an integer type.
        """
        self._feature_names = self._feature_names or self.feature_names
        return [self._feature_names[column] for column in columns.tolist()]

    def transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Return the texts' rows as a SciPy CSR matrix of shape (texts, n_features), float32."""
        return self._matrix(map(self._count, batches([normalize(text) for text in texts])))

    def mask_vocabulary(self, rows: "csr_matrix", kept: np.ndarray) -> "csr_matrix":
        """Return `rows` as they would be if the vocabulary held only some of its columns.

        Args:
            rows: Rows that `transform` returned.
            kept: Whether to keep each column, shape (n_features,), bool; style features and
                signals are kept in any case.

        Returns:
            SciPy CSR matrix of the shape of `rows`, in which masked entries are explicit zeros.
        """
        from scipy.sparse import csr_matrix

        owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        grams = rows.indices < len(self._idf)
        values = np.where(grams & ~kept[rows.indices], 0, rows.data)
        slots, norms = self._norms(owners[grams], rows.indices[grams], values[grams], rows.shape[0])
        values[grams] /= norms[slots]
        return csr_matrix((values, rows.indices, rows.indptr), rows.shape)

    def coordinates(self, normal: Sequence[str]) -> Coordinates:
        """Return the non-zero entries of the rows of normalized texts, in no order.

        Args:
            normal: The texts after `normalize`.

        Returns:
            Rows (int64), columns (int64) and values (float32), all of shape (entries,).
        """
        entries, start = [], 0
        for part in batches(normal):
            rows, columns, values = self._weighed(self._count(part))
            entries.append((rows + start, columns, values))
            start += len(part)
        rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return rows, columns, values

    def places(self, normal: Sequence[str]) -> tuple[list[list[str]], Places]:
        """Return the chunks of normalized texts, and in which of them their features are.

        Style features are in none: they are of the text as a whole.

        Args:
            normal: The texts after `normalize`.
        """
        chunks, grams, signals = self._reader.places(normal)
        columns = signals.columns + len(self._idf) + len(STYLE)
        return chunks, Places.joined([grams, signals._replace(columns=columns)])

    def dot(self, texts: Sequence[str], coefficients: np.ndarray) -> np.ndarray:
        """Return the product of each text's row with each column of `coefficients`.

        This is faster than computing it from `coordinates`, since the rows are not written out.

        Args:
            texts: Any strings.
            coefficients: One number per feature, shape (n_features,), or several, shape
                (n_features, products).

        Returns:
            Array of shape (texts,) or (texts, products), float64.
        """
        if coefficients.ndim == 1:
            return self.dot_and_doubts(texts, coefficients[:, None])[0][:, 0]
        return self.dot_and_doubts(texts, coefficients)[0]

    def dot_and_doubts(
        self, texts: Sequence[str], coefficients: np.ndarray
    ) -> tuple[np.ndarray, list[str | None]]:
        """Return the products as `dot` does, and for each text why they mean little.

        Args:
            texts: Any strings.
            coefficients: Several numbers per feature, shape (n_features, products).

        Returns:
            Array of shape (texts, products), float64, and what `familiarity.doubt` says of each
            text.
        """
        of_grams, of_style = np.split(coefficients, [len(self._idf)])
        of_style = of_style * self._weights[:, None]
        products, doubts = [], []
        for part in batches([normalize(text) for text in texts]):
            found = self._count(part)
            products.append(self._products(found, of_grams) + found.style @ of_style)
            doubts += self._doubts(part, found.unknown)
        return np.concatenate(products), doubts

    def _products(self, found: "_Counts", coefficients: np.ndarray) -> np.ndarray:
        """Return the products of the TF-IDF blocks of texts with each column of `coefficients`.

        Features are in the order of text and column, so that those of a slot follow each other.
        """
        values, texts = self._unscaled(found).astype(np.float64), len(found.style)
        slots = self._slots(found.rows, found.columns)
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        norms = np.sqrt(np.add.reduceat(values**2, starts))
        products = [
            np.add.reduceat(values * of_product[found.columns], starts) / norms
            for of_product in coefficients.T
        ]
        owners = found.rows[starts]
        return np.column_stack([np.bincount(owners, p, minlength=texts) for p in products])

    def doubts(self, texts: Sequence[str]) -> list[str | None]:
        """Return what `familiarity.doubt` says of each text."""
        parts = batches([normalize(text) for text in texts])
        return [doubt for part in parts for doubt in self._doubts(part, self._count(part).unknown)]

    def _doubts(self, normal: Sequence[str], unknown: np.ndarray) -> list[str | None]:
        found: list[str | None] = [None] * len(normal)
        for at in np.flatnonzero(unknown >= familiarity.PERHAPS_UNKNOWN).tolist():
            found[at] = familiarity.doubt(normal[at], self._vocabulary.words, self._scripts)
        return found

    @functools.cached_property
    def _scripts(self) -> frozenset[str]:
        return familiarity.scripts(self._vocabulary.words)

    def _matrix(self, counts: "Iterator[_Counts]") -> "csr_matrix":
        """Return the rows of texts that were counted in several parts."""
        parts = ((self._weighed(found), len(found.style)) for found in counts)
        return sparse_rows.matrix(parts, self.n_features)

    def _count(self, normal: Sequence[str]) -> "_Counts":
        """Return the known features of normalized texts."""
        grams = self._reader.read(normal)
        found = sparse_rows.occurrences(grams.owners, grams.ids, self.n_features)
        return _Counts(*found, grams.style, grams.unknown)

    def _weighed(self, found: "_Counts") -> Coordinates:
        """Return rows, columns and values: TF-IDF in blocks of unit length, and style features."""
        values, slots, norms = self._tf_idf(found)
        style = found.style * self._weights
        style_rows, style_columns = np.nonzero(style)
        return (
            np.concatenate([found.rows, style_rows]),
            np.concatenate([found.columns, style_columns + len(self._idf)]),
            np.concatenate([values / norms[slots], style[style_rows, style_columns]]).astype(
                np.float32
            ),
        )

    def _tf_idf(self, found: "_Counts") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each feature's TF-IDF, before its block has unit length, and the `_norms`."""
        values = self._unscaled(found)
        return values, *self._norms(found.rows, found.columns, values, len(found.style))

    def _unscaled(self, found: "_Counts") -> np.ndarray:
        """Return each feature's TF-IDF, before its block has unit length, float32."""
        return (1 + np.log(found.counts.astype(np.float32))) * self._idf[found.columns]

    def _slots(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the slot of each feature, which is a block of a text."""
        return rows * len(BLOCKS) + self._vocabulary.block[columns]

    def _norms(
        self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, texts: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each feature's slot and each slot's length.

        A slot without features has a tiny length instead of 0, so that one can divide by it.
        """
        slots = self._slots(rows, columns)
        squares = np.bincount(slots, values.astype(np.float64) ** 2, minlength=texts * len(BLOCKS))
        return slots, np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))

    def to_dict(self) -> dict[str, Any]:
        """Return settings, vocabulary and document frequencies as JSON-ready data."""
        return {
            "kind": "ngram",
            "max_words": self.max_words,
            "min_count": self.min_count,
            "characters": list(self.characters),
            "skeleton": list(self.skeleton),
            "style_weight": self.style_weight,
            "signal_weight": self.signal_weight,
            "lexicons": self._signals.words if self._signals else {},
            "texts": self.texts,
            "document_frequencies": self._vocabulary.frequencies,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "NgramVectorizer":
        """Return the fitted vectorizer whose `to_dict` returned `state`."""
        later = {name: state[name] for name in _LATER_SETTINGS if name in state}
        vectorizer = cls(**{name: state[name] for name in _SETTINGS}, **later)
        vocabulary = Vocabulary.from_frequencies(state["document_frequencies"])
        vectorizer._set_vocabulary(vocabulary, state["texts"])
        return vectorizer


class _Counts(NamedTuple):
    """Known features of some texts, and the texts' style features.

    Attributes:
        rows: Position of each feature's text, shape (features,), int64.
        columns: Column of each feature, shape (features,), int64.
        counts: How often the text holds the feature, shape (features,), an integer type.
        style: Style features and signals, shape (texts, style features + signals), float32.
        unknown: Share of unknown tokens of each text, shape (texts,).
    """

    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    style: np.ndarray
    unknown: np.ndarray


class _AllCounts(NamedTuple):
    """The same for all grams, known or not: `columns` are positions in `keys`."""

    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    style: np.ndarray
    keys: np.ndarray


def _count_all(reader: GramReader, normal: Sequence[str]) -> _AllCounts:
    """Return the distinct grams of each normalized text, in small types to save memory."""
    grams = reader.read(normal)
    numbers, keys = pd.factorize(grams.ids)
    rows, columns, counts = sparse_rows.occurrences(grams.owners, numbers, len(keys))
    return _AllCounts(
        rows.astype(np.min_scalar_type(len(normal))),
        columns.astype(np.int32),
        counts.astype(np.min_scalar_type(counts.max(initial=0))),
        grams.style,
        keys,
    )


def _lengths(name: str, given: Sequence[int]) -> tuple[int, int]:
    if len(given) != 2 or not 1 <= given[0] <= given[1] <= character_ngrams.LONGEST:
        raise UserError(
            f"model.{name}={list(given)} must be two lengths, the shorter one first, "
            f"from 1 to {character_ngrams.LONGEST}"
        )
    return given[0], given[1]
