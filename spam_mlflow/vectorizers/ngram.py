"""TF-IDF over words, character n-grams, word shapes and the skeleton, plus a few style figures.

The skeleton is the text's letters run together, so that disguises cannot get at its n-grams. Every
feature but these and the word bigrams depends on one whitespace-separated chunk of text alone, so
a chunk's features are looked up once and remembered: most chunks have been seen before.
"""

import itertools
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from spam_mlflow.errors import UserError
from spam_mlflow.text import normalise, skeleton
from spam_mlflow.vectorizers import character_ngrams, writing
from spam_mlflow.vectorizers.writing import STYLE

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCKS = ("word", "char", "shape", "skeleton")
_CHARACTERS = ("char", "skeleton")
_OF_CHUNKS = BLOCKS[:3]  # whose grams a chunk holds by itself, but for pairs of words
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LETTERS_OR_OTHER = re.compile("[A-Za-z]+|[^A-Za-z]+")
_KEY_BITS = 60  # of a key, below the number of its block
_KEY = (1 << _KEY_BITS) - 1
_WORD_BITS = _KEY_BITS // 2  # of a word's number in a key, which holds two of them
_REMEMBERED_CHUNKS = 50_000  # some 30 MB; a chunk longer than the next figure is not worth it
_FEW_CHUNKS = 32  # new ones; more of them are read faster by NumPy
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
        self._words, self._shapes = _Numbers(), _Numbers()
        self._set_vocabulary({block: {} for block in BLOCKS}, texts=0)

    def fit_transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Learn vocabulary and document frequencies from `texts` and return their rows."""
        self._words, self._shapes = _Numbers(), _Numbers()
        self._set_vocabulary({block: {} for block in BLOCKS}, texts=0)
        self._words.grows = self._shapes.grows = True
        parts = list(_parts([normalise(text) for text in texts]))
        counted = [self._counted(part) for part in parts]
        self._set_vocabulary(self._selected(counted), len(texts))
        self._words.grows = self._shapes.grows = False
        # What was counted of a part is let go before the next part's rows are made.
        return self._matrix(self._recounted(counted.pop(0), part) for part in parts)

    def _counted(self, normal: Sequence[str]) -> "_Counted":
        """Return the distinct grams of each text, known or not."""
        owners, grams, style = self._grams(normal)
        numbers, keys = pd.factorize(grams)
        rows, columns, counts = _occurrences(owners, numbers, len(keys))
        return _Counted(
            rows.astype(np.min_scalar_type(len(normal))),
            columns.astype(np.int32),
            counts.astype(np.min_scalar_type(counts.max(initial=0))),
            style,
            keys,
        )

    def _selected(self, counted: Sequence["_Counted"]) -> dict[str, dict[str, int]]:
        """Return the vocabulary: the most frequent grams of each block and their frequencies."""
        frequencies = (
            pd.Series(np.bincount(found.columns, minlength=len(found.keys)), index=found.keys)
            for found in counted
        )
        counts = pd.concat(frequencies).groupby(level=0).sum()
        counts = counts[counts >= self.min_count]
        bounds = np.searchsorted(counts.index, np.arange(len(BLOCKS) + 1) << _KEY_BITS)
        vocabulary = {}
        for block, (start, end) in zip(BLOCKS, itertools.pairwise(bounds), strict=True):
            kept = counts.iloc[start:end]
            if self.max_words:
                frequent = np.argsort(-kept.to_numpy(), kind="stable")[: self.max_words]
                kept = kept.iloc[np.sort(frequent)]
            names = self._names(block, kept.index.to_numpy() & _KEY)
            vocabulary[block] = dict(zip(names, kept.tolist(), strict=True))
        return vocabulary

    def _recounted(self, counted: "_Counted", normal: Sequence[str]) -> "_Found":
        """Return the known features of texts counted before.

        Texts with words run together are read again, now that there are words to tell apart.
        """
        again = np.array([_runs_together(text, text.split()) for text in normal], dtype=bool)
        others = np.flatnonzero(again)
        anew = self._found([normal[at] for at in others.tolist()])
        columns = self._index.get_indexer(counted.keys)[counted.columns]
        known = (columns >= 0) & ~again[counted.rows]
        return _Found(
            np.concatenate([counted.rows[known].astype(np.int64), others[anew.rows]]),
            np.concatenate([columns[known], anew.columns]),
            np.concatenate([counted.counts[known], anew.counts]),
            counted.style,
        )

    def _set_vocabulary(self, frequencies: Mapping[str, Mapping[str, int]], texts: int) -> None:
        self.texts, self._frequencies = texts, frequencies
        self._feature_names: list[str] = []  # made on first use
        self._remembered: dict[str, _Chunk] = {}
        sizes = [len(frequencies[block]) for block in BLOCKS]
        keys = [self._keys(block, frequencies[block]) for block in BLOCKS]
        self._index = pd.Index(_with_blocks(keys, BLOCKS))
        numbered = itertools.count()
        self._column = {
            block: dict(zip(frequencies[block], numbered, strict=False)) for block in _OF_CHUNKS
        }
        counts = [count for block in BLOCKS for count in frequencies[block].values()]
        # The smoothed inverse document frequency of scikit-learn's TfidfTransformer.
        idf = np.log((1 + texts) / (1 + np.array(counts, dtype=np.float64))) + 1
        self._idf = idf.astype(np.float32)
        self._block = np.repeat(np.arange(len(BLOCKS), dtype=np.int8), sizes)
        log_texts = math.log(10 * max(texts, 1))
        self._log_probabilities = {
            word: math.log(count) - log_texts for word, count in frequencies["word"].items()
        }
        # An unknown word is the less likely, the longer it is (Norvig 2009).
        self._unknown = [
            (1 - length) * math.log(10) - log_texts for length in range(_LONG_WORD + 1)
        ]

    def _keys(self, block: str, grams: Iterable[str]) -> np.ndarray:
        """Return the integers that the grams of a block are known by, int64."""
        if block in _CHARACTERS:
            return character_ngrams.pack(list(grams))
        if block == "shape":
            return np.array([self._shapes[gram] for gram in grams], dtype=np.int64)
        keys = []
        for gram in grams:
            first, *second = (self._words[word] for word in gram.split(" "))
            keys.append(first << _WORD_BITS | second[0] if second else first)
        return np.array(keys, dtype=np.int64)

    def _names(self, block: str, keys: np.ndarray) -> list[str]:
        """Return the grams that `keys` stand for."""
        if block in _CHARACTERS:
            return character_ngrams.unpack(keys)
        if block == "shape":
            shapes = list(self._shapes)
            return [shapes[key - 1] for key in keys.tolist()]
        words = list(self._words)
        firsts, seconds = np.divmod(keys, 1 << _WORD_BITS)
        return [
            f"{words[first - 1]} {words[second - 1]}" if first else words[second - 1]
            for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True)
        ]

    def _grams(self, normal: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return owners of every gram in normalised texts, the grams, and the texts' style.

        Repeats are included. Grams are keys while the vocabulary is learnt; after that, they are
        columns, and only known ones. Style has the shape (texts, STYLE), float32.
        """
        read = self._chunks(normal)
        flat = list(itertools.chain.from_iterable(read))
        owner = np.repeat(np.arange(len(read)), [len(chunks) for chunks in read])
        letters = ["".join([chunk.skeleton for chunk in chunks]) for chunks in read]
        of_chunks = _unpacked([chunk.grams for chunk in flat], owner)
        words = _unpacked([chunk.words for chunk in flat], owner)
        across = [_pairs(*words), character_ngrams.find(letters, *self.skeleton)]
        owners = np.concatenate([owners for owners, _ in across])
        keys = _with_blocks([key for _, key in across], ("word", "skeleton"))
        owners, grams = self._settled(owners, keys)
        signs = np.frombuffer(b"".join([chunk.signs for chunk in flat]), dtype=np.uint32)
        return (
            np.concatenate([of_chunks[0], owners]),
            np.concatenate([of_chunks[1], grams]),
            writing.style(normal, owner, signs.reshape(-1, len(writing.SIGNS))),
        )

    def _settled(self, owners: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return keys as they are while the vocabulary is learnt, after that the known columns."""
        if self._words.grows:
            return owners, keys
        columns = self._index.get_indexer(keys)
        known = columns >= 0
        return owners[known], columns[known]

    def _chunks(self, normal: Sequence[str]) -> list[list["_Chunk"]]:
        """Return the chunks of each text; those met before are not read again."""
        if len(self._remembered) > _REMEMBERED_CHUNKS:
            self._remembered = {}
        remembered = self._remembered  # another thread may put a new one in its place
        pieces = [self._pieces(text) for text in normal]
        distinct = dict.fromkeys(itertools.chain.from_iterable(pieces))
        unread = [piece for piece in distinct if piece not in remembered]
        few = len(unread) <= _FEW_CHUNKS and not self._words.grows
        new = {piece: self._read_one(piece) for piece in unread} if few else self._read(unread)
        remembered.update((p, c) for p, c in new.items() if len(p) <= _REMEMBERED_LENGTH)
        return [[remembered.get(piece) or new[piece] for piece in of_text] for of_text in pieces]

    def _read(self, pieces: Sequence[str]) -> dict[str, "_Chunk"]:
        """Return what each of several distinct pieces of text holds."""
        if not pieces:
            return {}
        folded = [piece.casefold() for piece in pieces]
        words = [[self._words[word] for word in _TOKEN.findall(text)] for text in folded]
        shapes = np.array([self._shapes[writing.shape(piece)] for piece in pieces], dtype=np.int64)
        numbers = _owned(words)
        found = [
            numbers,
            character_ngrams.find([f" {text} " for text in folded], *self.characters),
            (np.arange(len(pieces)), shapes),
        ]
        keys = _with_blocks([key for _, key in found], _OF_CHUNKS)
        owners, grams = self._settled(np.concatenate([owner for owner, _ in found]), keys)
        order = np.argsort(owners, kind="stable")
        packed = zip(
            _packed(*numbers, len(pieces)),
            _packed(owners[order], grams[order], len(pieces)),
            strict=True,
        )
        return {
            piece: _Chunk(of_words, skeleton(piece), of_grams, writing.signs(piece))
            for piece, (of_words, of_grams) in zip(pieces, packed, strict=True)
        }

    def _read_one(self, piece: str) -> "_Chunk":
        """Return what `_read` does, without the fixed costs of NumPy."""
        folded = piece.casefold()
        if not folded.isascii() or "\0" in folded:
            return self._read([piece])[piece]
        tokens, pattern, padded = _TOKEN.findall(folded), writing.shape(piece), f" {folded} "
        shortest, longest = self.characters
        ngrams = [
            padded[start : start + length]
            for length in range(shortest, longest + 1)
            for start in range(len(padded) - length + 1)
        ]
        grams = [(self._column["word"], tokens), (self._column["char"], ngrams)]
        grams.append((self._column["shape"], [pattern]))
        columns = [known[gram] for known, found in grams for gram in found if gram in known]
        numbers = [self._words[token] for token in tokens]
        return _Chunk(_pack(numbers), skeleton(piece), _pack(columns), writing.signs(piece))

    def _pieces(self, text: str) -> list[str]:
        """Return what stands between spaces, words that were run together told apart."""
        pieces = text.split()
        # There are no words to find while they are learnt.
        if not self._log_probabilities or not _runs_together(text, pieces):
            return pieces
        return [
            part
            for piece in pieces
            for part in (self._segmented(piece) if len(piece) > _LONG_WORD else (piece,))
        ]

    def _segmented(self, piece: str) -> list[str]:
        """Return what a long piece of text without spaces was run together from, links aside."""
        if writing.LINK.search(piece):
            return [piece]
        runs = _LETTERS_OR_OTHER.findall(piece)
        return [word for run in runs for word in (self._words_of(run) if run.isalpha() else [run])]

    def _words_of(self, letters: str) -> list[str]:
        """Return the most likely words that make up `letters`, by dynamic programming."""
        folded, known, unknown = letters.casefold(), self._log_probabilities, self._unknown
        scores, starts = [0.0], [0]
        for end in range(1, len(folded) + 1):
            best, best_start = -math.inf, 0
            for start in range(max(0, end - _LONG_WORD), end):
                score = known.get(folded[start:end])
                score = scores[start] + (unknown[end - start] if score is None else score)
                if score >= best:
                    best, best_start = score, start
            scores.append(best)
            starts.append(best_start)
        words, end = [], len(letters)
        while end:
            words.append(letters[starts[end] : end])
            end = starts[end]
        return words[::-1]

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self._idf) + len(STYLE)

    @property
    def feature_names(self) -> list[str]:
        """Name of each column, such as "word:call now", "char:fre" or "style:capitals"."""
        grams = [f"{block}:{gram}" for block in BLOCKS for gram in self._frequencies[block]]
        return grams + [f"style:{name}" for name in STYLE]

    def names(self, columns: np.ndarray) -> list[str]:
        """Return the names of a few columns."""
        self._feature_names = self._feature_names or self.feature_names
        return [self._feature_names[column] for column in columns.tolist()]

    def transform(self, texts: Sequence[str]) -> "csr_matrix":
        """Return a scipy CSR matrix of shape (texts, width), float32."""
        return self._matrix(map(self._found, _parts([normalise(text) for text in texts])))

    def as_if_known(self, rows: "csr_matrix", known: np.ndarray) -> "csr_matrix":
        """Return `rows` as they would be if the vocabulary were only the columns that are `known`.

        known: shape (width,), bool; style figures stay in any case.
        """
        from scipy.sparse import csr_matrix

        owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        grams = rows.indices < len(self._idf)
        values = np.where(grams & ~known[rows.indices], 0, rows.data)
        slots, norms = self._norms(owners[grams], rows.indices[grams], values[grams], rows.shape[0])
        values[grams] /= norms[slots]
        return csr_matrix((values, rows.indices, rows.indptr), rows.shape)

    def coordinates(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the non-zero entries, in no order: rows and columns (int64), values (float32)."""
        entries = []
        for number, part in enumerate(_parts([normalise(text) for text in texts])):
            rows, columns, values = self._weighed(self._found(part))
            entries.append((rows + number * _TEXTS_AT_ONCE, columns, values))
        rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return rows, columns, values

    def products(self, texts: Sequence[str], coefficients: np.ndarray) -> np.ndarray:
        """Return the product of each text's row with `coefficients`, (width,); shape (texts,).

        It is faster than `coordinates` would be, since the rows are not written out.
        """
        of_grams, of_style = np.split(coefficients, [len(self._idf)])
        products = []
        for part in _parts([normalise(text) for text in texts]):
            found = self._found(part)
            values, slots, norms = self._tf_idf(found)
            moved = np.bincount(slots, values * of_grams[found.columns], minlength=len(norms))
            moved = (moved / norms).reshape(len(part), len(BLOCKS)).sum(axis=1)
            products.append(moved + found.style @ of_style * self.style_weight)
        return np.concatenate(products)

    def _matrix(self, found: Iterable["_Found"]) -> "csr_matrix":
        """Return the rows of texts `found` in several parts."""
        from scipy.sparse import coo_matrix, csr_matrix, get_index_dtype

        lengths, columns, values = [np.zeros(1, dtype=np.int64)], [], []
        for part in found:
            part_rows, part_columns, part_values = self._weighed(part)
            shape = (len(part.style), self.width)
            entries = coo_matrix((part_values, (part_rows, part_columns)), shape)
            entries.has_canonical_format = True  # no entry stands twice: nothing to look for
            rows = entries.tocsr()
            lengths.append(np.diff(rows.indptr))
            columns.append(rows.indices)
            values.append(rows.data)
        starts = np.cumsum(np.concatenate(lengths))
        index = get_index_dtype(maxval=max(int(starts[-1]), self.width))
        return csr_matrix(
            (_joined(values), _joined(columns).astype(index, copy=False), starts.astype(index)),
            shape=(len(starts) - 1, self.width),
        )

    def _found(self, normal: Sequence[str]) -> "_Found":
        """Return the known features of normalised texts."""
        owners, columns, style = self._grams(normal)
        return _Found(*_occurrences(owners, columns, self.width), style)

    def _weighed(self, found: "_Found") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, columns and values: TF-IDF, blocks of length 1, and style figures."""
        values, slots, norms = self._tf_idf(found)
        style = found.style * np.float32(self.style_weight)
        style_rows, style_columns = np.nonzero(style)
        return (
            np.concatenate([found.rows, style_rows]),
            np.concatenate([found.columns, style_columns + len(self._idf)]),
            np.concatenate([values / norms[slots], style[style_rows, style_columns]]).astype(
                np.float32
            ),
        )

    def _tf_idf(self, found: "_Found") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each feature's TF-IDF, before its block has length 1, then `_norms`."""
        values = (1 + np.log(found.counts.astype(np.float32))) * self._idf[found.columns]
        return values, *self._norms(found.rows, found.columns, values, len(found.style))

    def _norms(
        self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, texts: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each feature's slot, one for each text and block, and the slots' lengths.

        Slots without a feature have a tiny length, so that one can divide by it.
        """
        slots = rows * len(BLOCKS) + self._block[columns]
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
            "texts": self.texts,
            "document_frequencies": self._frequencies,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "NgramVectorizer":
        """Return the fitted vectoriser whose `to_dict` gave `state`."""
        settings = ("max_words", "min_count", "characters", "skeleton", "style_weight")
        vectorizer = cls(**{name: state[name] for name in settings})
        frequencies = state["document_frequencies"]
        vectorizer._words = _Numbers(" ".join(frequencies["word"]).split(" "))
        vectorizer._shapes = _Numbers(frequencies["shape"])
        vectorizer._set_vocabulary(frequencies, state["texts"])
        return vectorizer


class _Found(NamedTuple):
    """Known features of some texts: text, column, how often it is there; and the texts' style."""

    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    style: np.ndarray


class _Counted(NamedTuple):
    """The same while the vocabulary is learnt: `columns` are positions in `keys`."""

    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    style: np.ndarray
    keys: np.ndarray


class _Chunk(NamedTuple):
    """What a stretch of normalised text without spaces holds by itself.

    words: their numbers, int64. grams: words, characters and shape as `_settled`, int64. signs: see
    `writing.signs`. They are bytes because those of many chunks are joined fast.
    """

    words: bytes
    skeleton: str
    grams: bytes
    signs: bytes


class _Numbers(dict[str, int]):
    """Numbers of strings, from 1 in the order they come; others are 0, or added if it `grows`."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        super().__init__((string, n) for n, string in enumerate(dict.fromkeys(strings), 1))
        self.grows = False

    def __missing__(self, string: str) -> int:
        if not self.grows:
            return 0
        self[string] = number = len(self) + 1
        return number


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield `texts` a few at a time; one empty part if there are none."""
    for start in range(0, max(len(texts), 1), _TEXTS_AT_ONCE):
        yield texts[start : start + _TEXTS_AT_ONCE]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return the parts in one array and let go of them."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _runs_together(text: str, pieces: Sequence[str]) -> bool:
    """Return whether a text is short enough, and one of its pieces long enough, to be segmented."""
    return len(text) <= _LONGEST_SEGMENTED and max(map(len, pieces), default=0) > _LONG_WORD


def _owned(grams: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts' positions and their grams, flat; both int64."""
    owners = np.repeat(np.arange(len(grams)), [len(found) for found in grams])
    flat = np.fromiter(itertools.chain.from_iterable(grams), dtype=np.int64, count=len(owners))
    return owners, flat


def _pack(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"{len(numbers)}q", *numbers)


def _packed(owners: np.ndarray, numbers: np.ndarray, count: int) -> list[bytes]:
    """Return the int64 numbers of each of `count` owners as bytes; `owners` is sorted."""
    joined = numbers.astype(np.int64).tobytes()
    bounds = np.searchsorted(owners, np.arange(count + 1)) * np.int64().itemsize
    return [joined[start:end] for start, end in itertools.pairwise(bounds.tolist())]


def _unpacked(packed: Sequence[bytes], owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return owners and int64 numbers that were packed into bytes for each of `owners`, flat."""
    numbers = np.frombuffer(b"".join(packed), dtype=np.int64)
    sizes = np.fromiter(map(len, packed), dtype=np.int64, count=len(packed))
    return np.repeat(owners, sizes // numbers.itemsize), numbers


def _pairs(owners: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return owners and keys of pairs of neighbours that are both known."""
    at = np.flatnonzero((owners[:-1] == owners[1:]) & (words[:-1] > 0) & (words[1:] > 0))
    return owners[at], words[at] << _WORD_BITS | words[at + 1]


def _with_blocks(keys: Sequence[np.ndarray], blocks: Sequence[str]) -> np.ndarray:
    """Return all keys in one array, each with the number of its block in the top bits."""
    numbered = zip(keys, map(BLOCKS.index, blocks), strict=True)
    return np.concatenate([found | block << _KEY_BITS for found, block in numbered])


def _occurrences(
    owners: np.ndarray, columns: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and counts of the distinct pairs; all int64.

    width: above every column.
    """
    bits = width.bit_length()
    keys, counts = np.unique(owners << bits | columns, return_counts=True)
    return keys >> bits, keys & (1 << bits) - 1, counts
