"""Reading texts into grams, chunk by chunk.

A chunk is a stretch of normalized text without spaces. Except for pairs of words, n-grams of the
skeleton and style features, every feature depends on one chunk alone. What a chunk holds is
therefore computed once and remembered, since most chunks of a new text have been read before.
"""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..normalization import skeleton
from . import character_ngrams, familiarity, style_features
from .chunk_memory import END, ChunkMemory, Chunks, Lists
from .signals import Signals
from .sparse_rows import Places
from .style_features import CHUNK_COUNTS
from .vocabulary import CHUNK_BLOCKS, Numbering, Vocabulary, with_blocks, word_pairs
from .word_segmentation import WordSegmenter

_TOKEN = re.compile(r"\w+|[^\w\s]")
_REMEMBERED_BYTES = 30_000_000  # for what chunks hold
_FEW_CHARACTERS = 200  # of new chunks; NumPy reads more of them faster


class Grams(NamedTuple):
    """All grams of some texts, repeats included, and the texts' style features and signals.

    Attributes:
        owners: Position of each gram's text, shape (grams,), int64.
        ids: The grams as keys or as columns, depending on the reader, shape (grams,), int64.
        style: Style features, then signals, shape (texts, style features + signals), float32.
        unknown: For each text, the unknown tokens as a share of these and the known words, shape
            (texts,): known numbers and signs, which any language has, do not count.
    """

    owners: np.ndarray
    ids: np.ndarray
    style: np.ndarray
    unknown: np.ndarray


class GramReader:
    """Reads texts into the keys of all their grams, known or not, to fit a vocabulary.

    Args:
        characters: Lengths of the shortest and the longest character n-gram of a chunk, which is
            padded with one space on each side.
        skeleton: Lengths of the shortest and the longest n-gram of a text's skeleton.
        words: Numbers of words.
        shapes: Numbers of shapes.
        signals: Finds signals; None for none.
    """

    _gram_type: type = np.int64

    def __init__(
        self,
        characters: tuple[int, int],
        skeleton: tuple[int, int],
        words: Numbering,
        shapes: Numbering,
        signals: Signals | None,
    ) -> None:
        self._characters, self._skeleton = characters, skeleton
        self._words, self._shapes, self._signals = words, shapes, signals
        self._memory = self._new_memory()

    def read(self, normal: Sequence[str]) -> Grams:
        """Return the grams of normalized texts."""
        chunks, owner = self._chunks([self._pieces(text) for text in normal])
        numbers = chunks.words.owners(owner), chunks.words.numbers.astype(np.int64)
        codes = chunks.skeleton.numbers.astype(np.int64)
        skeletons = character_ngrams.find(codes, chunks.skeleton.owners(owner), *self._skeleton)
        pairs, pair_keys = word_pairs(*numbers)
        across = [(numbers[0][pairs], pair_keys), skeletons]
        keys = with_blocks([key for _, key in across], ("word", "skeleton"))
        owners, ids = self._encoded(np.concatenate([owners for owners, _ in across]), keys)
        style = style_features.style(normal, owner, chunks.counts)
        if self._signals:
            found = chunks.signals.owners(owner), chunks.signals.numbers
            style = np.hstack([style, self._signals.features(*found, len(normal))])
        return Grams(
            np.concatenate([chunks.grams.owners(owner), owners]),
            np.concatenate([chunks.grams.numbers, ids]),
            style,
            self._unknown(*numbers, len(normal)),
        )

    def _unknown(self, owners: np.ndarray, numbers: np.ndarray, texts: int) -> np.ndarray:
        """Return `Grams.unknown`, which is asked for new texts alone."""
        return np.zeros(texts)

    def _new_memory(self) -> ChunkMemory:
        return ChunkMemory(len(CHUNK_COUNTS), self._gram_type)

    def _encoded(self, owners: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return grams as this reader represents them, with their owners."""
        return owners, keys

    def _pieces(self, text: str) -> list[str]:
        """Return the chunks of a text as strings."""
        return text.split()

    def _chunks(self, pieces: Sequence[Sequence[str]]) -> tuple[Chunks, np.ndarray]:
        """Return the chunks of all texts, and the position of each one's text.

        Those that are remembered are not read again.

        Args:
            pieces: The chunks of each text as strings.
        """
        if self._memory.size > _REMEMBERED_BYTES:
            self._memory = self._new_memory()
        memory = self._memory  # another thread may replace the attribute
        flat = list(itertools.chain.from_iterable(pieces))
        found = list(map(memory.number.get, flat))
        if None in found:
            known = zip(flat, found, strict=True)
            new = list(dict.fromkeys(piece for piece, number in known if number is None))
            memory.add(new, self._read(new))
            found = list(map(memory.number.get, flat))
        sizes = np.array([len(of_text) for of_text in pieces], dtype=np.int64)
        texts = np.arange(len(pieces))
        numbers = np.full(len(flat) + len(pieces), END)
        numbers[np.arange(len(flat)) + np.repeat(texts, sizes)] = found
        return memory.take(numbers), np.repeat(texts, sizes + 1)

    def _read(self, pieces: Sequence[str]) -> Chunks:
        """Return what distinct pieces of text hold."""
        folded = [piece.casefold() for piece in pieces]
        tokens = [_TOKEN.findall(text) for text in folded]
        letters = [skeleton(piece) for piece in pieces]
        words = Lists.of([[self._words[word] for word in of_piece] for of_piece in tokens])
        signals: list[bytes] = [b""] * len(pieces)
        if self._signals:
            read = zip(pieces, tokens, letters, strict=True)
            signals = [self._signals.of_chunk(*of_piece) for of_piece in read]
        counts = b"".join([style_features.chunk_counts(piece) for piece in pieces])
        return Chunks(
            words,
            Lists(_sizes(letters), character_ngrams.codes("".join(letters))),
            self._grams(pieces, folded, tokens, words),
            Lists(_sizes(signals), np.frombuffer(b"".join(signals), dtype=np.uint8)),
            np.frombuffer(counts, dtype=np.uint32).reshape(-1, len(CHUNK_COUNTS)),
        )

    def _grams(
        self,
        pieces: Sequence[str],
        folded: Sequence[str],
        tokens: Sequence[Sequence[str]],
        words: Lists,
    ) -> Lists:
        """Return the words, character n-grams and shape of pieces.

        Args:
            pieces: The pieces.
            folded: The same, casefolded.
            tokens: The words of each.
            words: Their numbers.
        """
        shapes = [self._shapes[style_features.shape(piece)] for piece in pieces]
        own = np.arange(len(pieces))
        padded = [f" {text} " for text in folded]
        found = [
            (words.owners(own), words.numbers),
            character_ngrams.find_in_texts(padded, *self._characters),
            (own, np.array(shapes, dtype=np.int64)),
        ]
        keys = with_blocks([key for _, key in found], CHUNK_BLOCKS)
        owners, ids = self._encoded(np.concatenate([owner for owner, _ in found]), keys)
        order = np.argsort(owners, kind="stable")
        return Lists(np.bincount(owners, minlength=len(pieces)), ids[order])


class ColumnReader(GramReader):
    """Reads texts into the columns of those grams that a vocabulary knows.

    Args:
        characters: As in `GramReader`.
        skeleton: As in `GramReader`.
        vocabulary: The known grams.
        segmenter: Splits words that were run together.
        signals: As in `GramReader`.
    """

    _gram_type = np.int32

    def __init__(
        self,
        characters: tuple[int, int],
        skeleton: tuple[int, int],
        vocabulary: Vocabulary,
        segmenter: WordSegmenter,
        signals: Signals | None,
    ) -> None:
        super().__init__(characters, skeleton, vocabulary.words, vocabulary.shapes, signals)
        self._vocabulary, self._segmenter = vocabulary, segmenter
        kinds = [True, *map(familiarity.is_word, vocabulary.words)]
        self._counts_as_word = np.array(kinds)  # by number; 0 is that of unknown tokens

    def places(self, normal: Sequence[str]) -> tuple[list[list[str]], Places, Places]:
        """Return the chunks of normalized texts, and in which of them their features are.

        Returns:
            The chunks of each text, the places of the grams, and those of the signals, whose
            columns count from the first signal.
        """
        pieces = [self._pieces(text) for text in normal]
        chunks, texts = self._chunks(pieces)
        order = np.arange(len(texts)) - texts  # without the chunks that end each text
        owners, words = chunks.words.owners(order), chunks.words.numbers.astype(np.int64)
        first, keys = word_pairs(chunks.words.owners(texts), words)
        kept, pairs = self._encoded(first, with_blocks([keys], ["word"]))
        inside = chunks.grams.numbers.astype(np.int64)
        parts = [
            Places(inside, chunks.grams.owners(order), np.ones(len(inside))),
            *(Places(pairs, owners[kept + n], np.full(len(pairs), 0.5)) for n in (0, 1)),
            self._skeleton_places(chunks.skeleton, order),
        ]
        of_signals = chunks.signals.owners
        found = of_signals(order), chunks.signals.numbers, of_signals(texts)
        signals = self._signals.places(*found) if self._signals else Places.joined([])
        return pieces, Places.joined(parts), signals

    def _skeleton_places(self, letters: Lists, order: np.ndarray) -> Places:
        """Return the places of the skeleton's n-grams: each of their characters is in a chunk.

        Args:
            letters: Codes of the letters of each chunk.
            order: Position of each chunk, shape (chunks,), int64.
        """
        chunk, codes = letters.owners(order), letters.numbers
        starts, lengths, keys = character_ngrams.places(codes.astype(np.int64), *self._skeleton)
        kept, columns = self._encoded(np.arange(len(keys)), with_blocks([keys], ["skeleton"]))
        starts, lengths = starts[kept], lengths[kept]
        last = np.repeat(np.cumsum(lengths) - lengths, lengths)
        characters = np.repeat(starts, lengths) + np.arange(lengths.sum()) - last
        shares = np.repeat(1 / lengths, lengths)
        return Places(np.repeat(columns, lengths), chunk[characters], shares)

    def _unknown(self, owners: np.ndarray, numbers: np.ndarray, texts: int) -> np.ndarray:
        counted = np.bincount(owners, self._counts_as_word[numbers], minlength=texts)
        unknown = np.bincount(owners[numbers == 0], minlength=texts)
        return np.where(counted, unknown / np.maximum(counted, 1), 1)

    def _encoded(self, owners: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = self._vocabulary.find(keys)
        known = np.flatnonzero(columns >= 0)
        return owners[known], columns[known]

    def _pieces(self, text: str) -> list[str]:
        return self._segmenter.pieces(text)

    def _grams(
        self,
        pieces: Sequence[str],
        folded: Sequence[str],
        tokens: Sequence[Sequence[str]],
        words: Lists,
    ) -> Lists:
        if sum(map(len, folded)) > _FEW_CHARACTERS:
            return super()._grams(pieces, folded, tokens, words)
        # The same without NumPy's fixed costs.
        if any("\0" in text or not text.isascii() for text in folded):
            return super()._grams(pieces, folded, tokens, words)
        shapes = ([style_features.shape(piece)] for piece in pieces)
        ngrams = (_ngrams(f" {text} ", *self._characters) for text in folded)
        columns = [self._vocabulary.columns[block] for block in CHUNK_BLOCKS]
        found = [
            [
                known[gram]
                for known, of_block in zip(columns, of_piece, strict=True)
                for gram in of_block
                if gram in known
            ]
            for of_piece in zip(tokens, ngrams, shapes, strict=True)
        ]
        return Lists.of(found)


def _ngrams(text: str, shortest: int, longest: int) -> list[str]:
    return [
        text[start : start + length]
        for length in range(shortest, longest + 1)
        for start in range(len(text) - length + 1)
    ]


def _sizes(texts: Sequence[str] | Sequence[bytes]) -> np.ndarray:
    return np.array([len(text) for text in texts], dtype=np.int64)
