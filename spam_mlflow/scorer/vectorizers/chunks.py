"""Reading texts into grams, chunk by chunk.

A chunk is a stretch of normalized text without spaces. Except for pairs of words, n-grams of the
skeleton and style features, every feature depends on one chunk alone. What a chunk holds is
therefore computed once and remembered, since most chunks of a new text have been read before.
"""

import itertools
import re
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..normalization import skeleton
from . import character_ngrams, style_features
from .signals import Signals
from .style_features import CHUNK_COUNTS
from .vocabulary import CHUNK_BLOCKS, Numbering, Vocabulary, with_blocks, word_pairs
from .word_segmentation import WordSegmenter

_TOKEN = re.compile(r"\w+|[^\w\s]")
_REMEMBERED_CHUNKS = 50_000  # about 30 MB
_REMEMBERED_LENGTH = 40  # characters; longer chunks are not worth the memory
_FEW_CHUNKS = 32  # new chunks; NumPy reads more of them faster


class Chunk(NamedTuple):
    """What a chunk holds by itself, as bytes, which are joined fast for many chunks.

    Attributes:
        words: Numbers of its words, packed as int64.
        skeleton: Its letters; see `normalization.skeleton`.
        grams: Its words, character n-grams and shape, packed as int64: keys or columns, depending
            on the reader.
        counts: What it adds to the style features; see `style_features.chunk_counts`.
        signals: Numbers of its signals, a byte each; see `Signals.of_chunk`.
    """

    words: bytes
    skeleton: str
    grams: bytes
    counts: bytes
    signals: bytes


class Grams(NamedTuple):
    """All grams of some texts, repeats included, and the texts' style features and signals.

    Attributes:
        owners: Position of each gram's text, shape (grams,), int64.
        ids: The grams as keys or as columns, depending on the reader, shape (grams,), int64.
        style: Style features, then signals, shape (texts, style features + signals), float32.
        unknown: Share of the tokens of each text that are not in the vocabulary, shape (texts,).
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
        self._remembered: dict[str, Chunk] = {}

    def read(self, normal: Sequence[str]) -> Grams:
        """Return the grams of normalized texts."""
        chunks = self._chunks(normal)
        flat = list(itertools.chain.from_iterable(chunks))
        owner = np.repeat(np.arange(len(chunks)), [len(of_text) for of_text in chunks])
        skeletons = ["".join([chunk.skeleton for chunk in of_text]) for of_text in chunks]
        inside = _unpacked([chunk.grams for chunk in flat], owner)
        numbers = _unpacked([chunk.words for chunk in flat], owner)
        across = [word_pairs(*numbers), character_ngrams.find(skeletons, *self._skeleton)]
        keys = with_blocks([key for _, key in across], ("word", "skeleton"))
        owners, ids = self._encoded(np.concatenate([owners for owners, _ in across]), keys)
        packed = b"".join([chunk.counts for chunk in flat])
        counts = np.frombuffer(packed, dtype=np.uint32).reshape(-1, len(CHUNK_COUNTS))
        style = style_features.style(normal, owner, counts)
        if self._signals:
            of_chunks = _unpacked([chunk.signals for chunk in flat], owner, np.uint8)
            style = np.hstack([style, self._signals.features(*of_chunks, len(chunks))])
        tokens = np.bincount(numbers[0], minlength=len(chunks))
        known = np.bincount(numbers[0], numbers[1] > 0, minlength=len(chunks))
        return Grams(
            np.concatenate([inside[0], owners]),
            np.concatenate([inside[1], ids]),
            style,
            1 - known / np.maximum(tokens, 1),
        )

    def _encoded(self, owners: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return grams as this reader represents them, with their owners."""
        return owners, keys

    def _pieces(self, text: str) -> list[str]:
        """Return the chunks of a text as strings."""
        return text.split()

    def _chunks(self, normal: Sequence[str]) -> list[list[Chunk]]:
        """Return the chunks of each text; those that are remembered are not read again."""
        if len(self._remembered) > _REMEMBERED_CHUNKS:
            self._remembered = {}
        remembered = self._remembered  # another thread may replace the attribute
        pieces = [self._pieces(text) for text in normal]
        found: list[list[Any]] = [list(map(remembered.get, of_text)) for of_text in pieces]
        gaps = [at for at, of_text in enumerate(found) if not all(of_text)]
        missing = (
            p for at in gaps for p, chunk in zip(pieces[at], found[at], strict=True) if not chunk
        )
        new = self._read_new(list(dict.fromkeys(missing)))
        remembered.update((p, c) for p, c in new.items() if len(p) <= _REMEMBERED_LENGTH)
        for at in gaps:
            known = zip(pieces[at], found[at], strict=True)
            found[at] = [chunk or new[piece] for piece, chunk in known]
        return found

    def _read_new(self, pieces: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunk of each of several distinct pieces of text."""
        if not pieces:
            return {}
        folded = [piece.casefold() for piece in pieces]
        tokens = [_TOKEN.findall(text) for text in folded]
        words = _owned([[self._words[word] for word in of_piece] for of_piece in tokens])
        shapes = [self._shapes[style_features.shape(piece)] for piece in pieces]
        found = [
            words,
            character_ngrams.find([f" {text} " for text in folded], *self._characters),
            (np.arange(len(pieces)), np.array(shapes, dtype=np.int64)),
        ]
        keys = with_blocks([key for _, key in found], CHUNK_BLOCKS)
        owners, ids = self._encoded(np.concatenate([owner for owner, _ in found]), keys)
        order = np.argsort(owners, kind="stable")
        packed = zip(
            _packed(*words, len(pieces)),
            _packed(owners[order], ids[order], len(pieces)),
            strict=True,
        )
        return {
            piece: self._chunk(piece, of_piece, of_words, of_grams)
            for piece, of_piece, (of_words, of_grams) in zip(pieces, tokens, packed, strict=True)
        }

    def _chunk(self, piece: str, tokens: Sequence[str], words: bytes, grams: bytes) -> Chunk:
        letters = skeleton(piece)
        signals = self._signals.of_chunk(piece, tokens, letters) if self._signals else b""
        return Chunk(words, letters, grams, style_features.chunk_counts(piece), signals)


class ColumnReader(GramReader):
    """Reads texts into the columns of those grams that a vocabulary knows.

    Args:
        characters: As in `GramReader`.
        skeleton: As in `GramReader`.
        vocabulary: The known grams.
        segmenter: Splits words that were run together.
        signals: As in `GramReader`.
    """

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

    def _encoded(self, owners: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = self._vocabulary.find(keys)
        known = columns >= 0
        return owners[known], columns[known]

    def _pieces(self, text: str) -> list[str]:
        return self._segmenter.pieces(text)

    def _read_new(self, pieces: Sequence[str]) -> dict[str, Chunk]:
        if len(pieces) <= _FEW_CHUNKS:
            return {piece: self._read_one(piece) for piece in pieces}
        return super()._read_new(pieces)

    def _read_one(self, piece: str) -> Chunk:
        """Return the chunk that `GramReader._read_new` returns, without NumPy's fixed costs."""
        folded = piece.casefold()
        if not folded.isascii() or "\0" in folded:
            return super()._read_new([piece])[piece]
        tokens, padded = _TOKEN.findall(folded), f" {folded} "
        shortest, longest = self._characters
        ngrams = [
            padded[start : start + length]
            for length in range(shortest, longest + 1)
            for start in range(len(padded) - length + 1)
        ]
        found = zip(CHUNK_BLOCKS, (tokens, ngrams, [style_features.shape(piece)]), strict=True)
        grams = [(self._vocabulary.columns[block], of_block) for block, of_block in found]
        columns = [known[gram] for known, of_block in grams for gram in of_block if gram in known]
        words = [self._words[token] for token in tokens]
        return self._chunk(piece, tokens, _pack(words), _pack(columns))


def _owned(grams: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return each gram's position in the outer sequence, and the grams; both flat, int64."""
    owners = np.repeat(np.arange(len(grams)), [len(found) for found in grams])
    flat = np.fromiter(itertools.chain.from_iterable(grams), dtype=np.int64, count=len(owners))
    return owners, flat


def _pack(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"{len(numbers)}q", *numbers)


def _packed(owners: np.ndarray, numbers: np.ndarray, count: int) -> list[bytes]:
    """Return the numbers of each of `count` owners, packed as int64; `owners` is sorted."""
    joined = numbers.astype(np.int64).tobytes()
    bounds = np.searchsorted(owners, np.arange(count + 1)) * np.int64().itemsize
    return [joined[start:end] for start, end in itertools.pairwise(bounds.tolist())]


def _unpacked(
    packed: Sequence[bytes], owners: np.ndarray, dtype: type = np.int64
) -> tuple[np.ndarray, np.ndarray]:
    """Return the owner of each number that is packed in `packed`, and the numbers."""
    numbers: np.ndarray = np.frombuffer(b"".join(packed), dtype=dtype)
    sizes = np.fromiter(map(len, packed), dtype=np.int64, count=len(packed))
    return np.repeat(owners, sizes // numbers.itemsize), numbers
