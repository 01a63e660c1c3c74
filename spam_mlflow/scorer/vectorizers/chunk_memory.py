"""What chunks of text hold, remembered in a few large arrays.

Most of the time for a text goes into fetching from memory what its chunks hold. Objects of Python
lie scattered there, and each must arrive before the next can be found; numbers in an array are
fetched many at a time.
"""

import itertools
import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ENTRY = 250  # bytes for a chunk: in the table of numbers, its bounds and style counts

END = 0
"""Number of a chunk that ends each text: it holds nothing but an end of the skeleton."""


class Lists(NamedTuple):
    """Several lists of numbers, one after the other.

    Attributes:
        sizes: Length of each list, shape (lists,), int64.
        numbers: Those of all lists, shape (numbers of all lists,).
    """

    sizes: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "Lists":
        """Return lists of Python's."""
        sizes = np.array([len(of_one) for of_one in lists], dtype=np.int64)
        joined = itertools.chain.from_iterable(lists)
        return cls(sizes, np.fromiter(joined, dtype=np.int64, count=int(sizes.sum())))

    def owners(self, of_lists: np.ndarray) -> np.ndarray:
        """Return the owner of each number.

        Args:
            of_lists: The owner of each list, shape (lists,), an integer type.
        """
        return np.repeat(of_lists, self.sizes)


class Chunks(NamedTuple):
    """What several chunks hold, each by itself.

    Attributes:
        words: Numbers of their words.
        skeleton: Codes of their letters; see `normalization.skeleton` and `character_ngrams`.
        grams: Their words, character n-grams and shape: keys or columns, depending on the reader.
        signals: Numbers of their signals; see `Signals.of_chunk`.
        counts: What they add to the style features, shape (chunks, len(CHUNK_COUNTS)), uint32; see
            `style_features.chunk_counts`.
    """

    words: Lists
    skeleton: Lists
    grams: Lists
    signals: Lists
    counts: np.ndarray


class ChunkMemory:
    """Remembers what chunks hold; several threads may use it.

    Args:
        counts: Number of style counts of a chunk.
        grams: Type of the numbers of grams.

    Attributes:
        number: Number of each chunk.
        size: Bytes that all of it takes, about.
    """

    def __init__(self, counts: int, grams: type) -> None:
        self.number: dict[str, int] = {}
        self.size = 0
        types = (np.int32, np.int16, grams, np.uint8)  # of words, skeleton, grams and signals
        self._lists = [_Store(kind) for kind in types]
        self._counts = np.zeros((1, counts), dtype=np.uint32)
        self._lock = threading.Lock()
        self._chunks = 1
        for store, numbers in zip(self._lists, ([], [0], [], []), strict=True):
            store.add(Lists.of([numbers]), 0)

    def add(self, pieces: Sequence[str], chunks: Chunks) -> None:
        """Remember chunks.

        Args:
            pieces: The chunks as strings.
            chunks: What they hold.
        """
        with self._lock:
            first, end = self._chunks, self._chunks + len(pieces)
            added = sum(map(sys.getsizeof, pieces)) + len(pieces) * _ENTRY
            for store, lists in zip(self._lists, chunks[:-1], strict=True):
                store.add(lists, first)
                added += len(lists.numbers) * store.itemsize
            self._counts = _with_room(self._counts, end)
            self._counts[first:end] = chunks.counts
            # Only now: if memory runs out before, the next chunks take these ones' place.
            self._chunks, self.size = end, self.size + added
            # Last, since other threads look them up meanwhile.
            self.number.update(zip(pieces, itertools.count(first)))

    def take(self, numbers: np.ndarray) -> Chunks:
        """Return what chunks hold.

        Args:
            numbers: Of the chunks, repeats included, shape (chunks,), int64.
        """
        words, skeleton, grams, signals = (store.take(numbers) for store in self._lists)
        return Chunks(words, skeleton, grams, signals, self._counts[numbers])


class _Store:
    """Lists of numbers, to which others are added.

    Args:
        kind: Type of the numbers.

    Attributes:
        itemsize: Bytes of a number.
    """

    def __init__(self, kind: type) -> None:
        self._numbers: np.ndarray = np.zeros(1, dtype=kind)
        self.itemsize = self._numbers.itemsize
        self._bounds = np.zeros(1, dtype=np.int64)

    def add(self, lists: Lists, first: int) -> None:
        """Add lists after the first so many ones; what came after these is overwritten."""
        start, last = int(self._bounds[first]), first + len(lists.sizes)
        end = start + len(lists.numbers)
        self._numbers = _with_room(self._numbers, end)
        self._numbers[start:end] = lists.numbers
        self._bounds = _with_room(self._bounds, last + 1)
        self._bounds[first + 1 : last + 1] = start + np.cumsum(lists.sizes)

    def take(self, at: np.ndarray) -> Lists:
        starts = self._bounds[at]
        sizes = self._bounds[at + 1] - starts
        ends = np.cumsum(sizes)
        where = np.repeat(starts - ends + sizes, sizes)
        where += np.arange(len(where))
        return Lists(sizes, self._numbers[where])


def _with_room(array: np.ndarray, rows: int) -> np.ndarray:
    """Return an array with at least so many rows, the first of which are those of `array`."""
    if rows <= len(array):
        return array
    larger = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
