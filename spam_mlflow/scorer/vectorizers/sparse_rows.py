"""Sparse rows from coordinates: counting occurrences and building CSR matrices."""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows (int64), columns (int64) and values or counts, all of shape (entries,)."""

_MANY = 20_000  # keys; fewer take no time
_SPREAD = 0x9E3779B1  # 2^32 over the golden ratio: it shuffles any numbers


class Places(NamedTuple):
    """Which chunk of a text each feature is in; a feature may be in several.

    Attributes:
        columns: The features, shape (places,), int64.
        chunks: Position, among the chunks of all texts, of a chunk that holds the feature or a part
            of it, shape (places,), int64.
        shares: How much of one occurrence of the feature is there, shape (places,).
    """

    columns: np.ndarray
    chunks: np.ndarray
    shares: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Places"]) -> "Places":
        """Return several as one."""
        none = cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
        return cls(*(np.concatenate(columns) for columns in zip(none, *parts, strict=True)))


def occurrences(owners: np.ndarray, columns: np.ndarray, n_columns: int) -> Coordinates:
    """Return the distinct pairs of row and column, and how often each of them occurs.

    Args:
        owners: Row of each occurrence, shape (occurrences,), int64.
        columns: Column of each occurrence, shape (occurrences,), int64.
        n_columns: A number above every column.

    Returns:
        Rows, columns and counts, sorted by row and column; all int64.
    """
    bits = n_columns.bit_length()
    keys = _sorted(owners << bits | columns)
    is_first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    distinct = keys[starts].astype(np.int64)
    counts = np.diff(starts, append=len(keys))
    return distinct >> bits, distinct & (1 << bits) - 1, counts


def _sorted(keys: np.ndarray) -> np.ndarray:
    """Return keys in ascending order; those of up to 32 bits are returned as uint32.

    Args:
        keys: Numbers from 0, shape (keys,), int64.
    """
    if keys.max(initial=0) >> 32:
        return np.sort(keys)
    short = keys.astype(np.uint32)
    return np.sort(short) if len(short) < _MANY or _compares_fast() else _sorted_by_bytes(short)


def _sorted_by_bytes(keys: np.ndarray) -> np.ndarray:
    """Return uint32 keys in ascending order: by their lower halves first, then by the upper ones.

    NumPy sorts 16-bit numbers by their bytes.
    """
    keys = keys[np.argsort(keys.astype(np.uint16), kind="stable")]
    return keys[np.argsort((keys >> 16).astype(np.uint16), kind="stable")]


@functools.cache
def _compares_fast() -> bool:
    """Return whether this processor sorts faster by comparing keys than by their bytes.

    With vector instructions, it takes a tenth of the time; without them, or where they are slow,
    twice as long. Both ways give the same, so that a wrong answer costs nothing but time.
    """
    keys = (np.arange(_MANY) * _SPREAD).astype(np.uint32)

    def seconds(way: Callable[[np.ndarray], np.ndarray]) -> float:
        # `timeit` turns garbage collection off for all threads; two of them at once leave it off.
        before = time.perf_counter()
        way(keys)
        return time.perf_counter() - before

    fastest = [min(seconds(way) for _ in range(3)) for way in (np.sort, _sorted_by_bytes)]
    return fastest[0] < fastest[1]


def matrix(parts: Iterable[tuple[Coordinates, int]], n_columns: int) -> "csr_matrix":
    """Return a CSR matrix whose rows come in several parts, each freed after its use.

    Args:
        parts: Coordinates of each part, distinct but in any order, and its number of rows.
        n_columns: Number of columns of the matrix.

    Returns:
        A matrix of shape (rows of all parts, n_columns), with sorted indices and the type of the
        values.
    """
    from scipy.sparse import coo_matrix, csr_matrix, get_index_dtype

    lengths, columns, values = [np.zeros(1, dtype=np.int64)], [], []
    for (part_rows, part_columns, part_values), n_rows in parts:
        entries = coo_matrix((part_values, (part_rows, part_columns)), (n_rows, n_columns))
        entries.has_canonical_format = True  # entries are distinct: SciPy need not look for repeats
        rows = entries.tocsr()
        rows.sort_indices()  # here once, or else in every solver that the matrix is given to
        lengths.append(np.diff(rows.indptr))
        columns.append(rows.indices)
        values.append(rows.data)
    starts = np.cumsum(np.concatenate(lengths))
    index = get_index_dtype(maxval=max(int(starts[-1]), n_columns))
    return csr_matrix(
        (_joined(values), _joined(columns).astype(index, copy=False), starts.astype(index)),
        shape=(len(starts) - 1, n_columns),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return the parts in one array, and empty the list so that they are freed."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole
