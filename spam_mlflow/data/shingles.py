"""Sets of character 5-grams, as sparse rows that can be compared many at a time."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

_SHINGLE = 5  # characters
_WORDS = 4  # of 64 bits in a sketch
_PAIRS_AT_ONCE = 200_000  # limits memory while pairs are compared
_ROUNDING = 1e-9  # products of a similarity and a count may be off by less than this


@dataclasses.dataclass(frozen=True)
class ShingleSets:
    """The distinct character 5-grams of texts, each a number that is smaller the rarer it is.

    Attributes:
        rows: Shape (texts, numbers), int16, 1 for every 5-gram of a text; a `csr_matrix` whose
            indices are sorted.
    """

    rows: Any

    @classmethod
    def of(cls, texts: Sequence[str]) -> "ShingleSets":
        """Return the sets of texts; one of fewer than five characters is padded with spaces.

        Args:
            texts: The texts.
        """
        from scipy.sparse import csr_matrix

        padded = [text.ljust(_SHINGLE) for text in texts]
        lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
        counts = lengths - _SHINGLE + 1
        # The last positions of a text, where a 5-gram would reach into the next one, are left out.
        last = np.repeat(np.cumsum(lengths) - np.cumsum(counts) - lengths + counts, counts)
        numbers = _numbered_shingles("".join(padded))[np.arange(counts.sum()) + last]
        frequencies = np.bincount(numbers)
        by_rarity = np.empty(len(frequencies), dtype=np.int64)
        by_rarity[np.argsort(frequencies, kind="stable")] = np.arange(len(frequencies))
        keyed = by_rarity[numbers]
        del numbers, last
        keyed += np.repeat(np.arange(len(padded)) * len(frequencies), counts)
        keyed.sort()
        keyed = keyed[np.concatenate([[True], keyed[1:] != keyed[:-1]])]
        starts = np.searchsorted(keyed, np.arange(len(padded) + 1) * len(frequencies))
        columns = (keyed % len(frequencies)).astype(np.int32)
        ones = np.ones(len(columns), dtype=np.int16)
        return cls(csr_matrix((ones, columns, starts), (len(padded), len(frequencies))))

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Number of 5-grams in each set, shape (texts,), int64."""
        return np.diff(self.rows.indptr).astype(np.int64)

    @functools.cached_property
    def sketches(self) -> np.ndarray:
        """The parity of the 5-grams that fall on each of 256 bits, shape (4, texts), uint64."""
        bits = np.random.default_rng(0).integers(_WORDS * 64, size=self.rows.shape[1])
        sketches = np.zeros((_WORDS, len(self.sizes)), dtype=np.uint64)
        for word in range(_WORDS):
            masks = np.where(
                bits // 64 == word, np.uint64(1) << (bits % 64).astype(np.uint64), np.uint64(0)
            )
            sketches[word] = np.bitwise_xor.reduceat(
                masks[self.rows.indices], self.rows.indptr[:-1]
            )
        return sketches

    def least_of(self, values: np.ndarray) -> np.ndarray:
        """Return the least value of each set's members: a MinHash, where the values are random.

        Args:
            values: A value for each 5-gram, shape (numbers,).

        Returns:
            Shape (texts,).
        """
        return np.minimum.reduceat(values[self.rows.indices], self.rows.indptr[:-1])

    def rarest(self, counts: np.ndarray) -> Any:
        """Return `rows` with only the rarest 5-grams of each text, as a `csr_matrix`.

        Args:
            counts: How many are kept of each set, shape (texts,).
        """
        from scipy.sparse import csr_matrix

        starts = self.rows.indptr[:-1].astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        kept = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], counts)
        columns = self.rows.indices[kept]
        return csr_matrix((np.ones(len(kept), np.int16), columns, bounds), self.rows.shape)

    def similar(self, left: np.ndarray, right: np.ndarray, jaccard: float) -> np.ndarray:
        """Return whether the sets of each pair have at least this Jaccard similarity.

        Pairs are dismissed by their sketches first (Sandes et al. 2017): every bit in which those
        differ is a 5-gram that only one of both has.

        Args:
            left: Positions of the left texts, shape (pairs,).
            right: Positions of the right texts, shape (pairs,).
            jaccard: The similarity.

        Returns:
            Shape (pairs,), bool.
        """
        found = np.zeros(len(left), dtype=bool)
        total = self.sizes[left] + self.sizes[right]
        differing = np.zeros(len(left), dtype=np.int64)
        for word in self.sketches:
            differing += np.bitwise_count(word[left] ^ word[right])
        possible = np.flatnonzero(
            differing <= total - 2 * np.ceil(jaccard / (1 + jaccard) * total - _ROUNDING)
        )
        for start in range(0, len(possible), _PAIRS_AT_ONCE):
            at = possible[start : start + _PAIRS_AT_ONCE]
            both = self.rows[left[at]].multiply(self.rows[right[at]]).sum(axis=1)
            shared = np.asarray(both, dtype=np.float64).ravel()
            found[at] = shared >= jaccard * (total[at] - shared)
        return found

    def similar_to(self, positions: np.ndarray, jaccard: float) -> np.ndarray:
        """Return whether each set has at least this Jaccard similarity to some of them.

        Args:
            positions: Positions of those, shape (chosen,).
            jaccard: The similarity.

        Returns:
            Shape (texts, chosen), bool.
        """
        chosen = self.rows[positions].astype(np.int32).T.tocsr()
        found = np.zeros((len(self.sizes), len(positions)), dtype=bool)
        step = max(1, _PAIRS_AT_ONCE // len(positions))
        for start in range(0, len(found), step):
            shared = (self.rows[start : start + step].astype(np.int32) @ chosen).toarray()
            total = self.sizes[start : start + step, None] + self.sizes[positions]
            found[start : start + step] = shared >= jaccard * (total - shared)
        return found

    def jaccard_to(self, position: int) -> np.ndarray:
        """Return the Jaccard similarity of each set to one of them, shape (texts,), float64.

        Args:
            position: Position of that one.
        """
        rows = self.rows.astype(np.int32)
        shared = (rows @ rows[position].T).toarray()[:, 0]
        return np.asarray(shared / (self.sizes + self.sizes[position] - shared))

    def in_order(self, order: np.ndarray) -> "ShingleSets":
        """Return the sets in another order.

        Args:
            order: Position of each set in this order, shape (texts,).
        """
        return ShingleSets(self.rows[order])


def fewest(share: float, sizes: np.ndarray) -> np.ndarray:
    """Return the least whole numbers that are at least a share of sizes, shape (sizes,), int64."""
    return np.ceil(share * sizes - _ROUNDING).astype(np.int64)


def _numbered_shingles(text: str) -> np.ndarray:
    """Return a number for the 5-gram at each position, equal where the 5-grams are, from 0."""
    characters, alphabet = _numbered(
        np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    )
    pairs, count = _numbered(characters[:-1] * alphabet + characters[1:])
    fours, _ = _numbered(pairs[:-2] * count + pairs[2:])
    return _numbered(fours[:-1] * alphabet + characters[4:])[0]


def _numbered(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a number for each value, from 0, and how many there are."""
    numbers, distinct = pd.factorize(values)
    return numbers.astype(np.int64, copy=False), len(distinct)
