"""Near-duplicates: finding them, and grouping them so that a split keeps them together.

The groups are the connected components of the graph whose edges are the pairs of similar texts, so
that a pair within a component that is already known need not be looked at. Spam comes in campaigns
of thousands of similar texts: a few cheap comparisons join most of a campaign, and the exact search
is then for pairs of different components only.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spam_mlflow.data.shingles import ShingleSets, fewest
from spam_mlflow.scorer.normalization import duplicate_key

_ROUNDS = 24  # of comparing the neighbors by MinHash, at most
_FEW = 1000  # texts, of which one may be joined in the last round
_LARGE = 300  # texts of a component whose pairs of its own are not even enumerated
_STEP = 1.06  # by which the sizes of the sets searched for at once differ
_MORE = 0.06  # of a set: by how much its prefix is longer than it must be
_PRODUCTS_AT_ONCE = 20_000_000  # limits memory while candidates are enumerated


def deduplicated(frame: pd.DataFrame, jaccard: float) -> pd.DataFrame:
    """Drop duplicate texts and group near-duplicates.

    Args:
        frame: Columns `text` and `group` (str), as in `Messages.frame`.
        jaccard: Similarity from which two texts are near-duplicates, above 0 to 1.

    Returns:
        The first row of every distinct text, renumbered from 0. `group` is an int32, equal for
        rows whose texts are near-duplicates, directly or through others, and for rows that had
        the same non-empty `group`.
    """
    keys = frame["text"].map(duplicate_key)
    first = ~keys.duplicated()
    kept = frame[first].reset_index(drop=True)
    return kept.assign(group=groups(list(keys[first]), kept["group"], jaccard))


def groups(keys: Sequence[str], given: pd.Series, jaccard: float) -> np.ndarray:
    """Return the groups of texts that are similar, directly or through others.

    The result is exact: texts are in one group if and only if a chain of pairs, each with the same
    known group or with at least this Jaccard similarity of its character 5-grams, connects them.

    Args:
        keys: Distinct texts, as `duplicate_key` returns them.
        given: The known group of each text, "" for none; its index counts from 0.
        jaccard: Lowest Jaccard similarity of a pair, above 0 to 1.

    Returns:
        Shape (texts,), int32: the number of each text's group, from 0 in the order of the texts.
    """
    if not keys:
        return np.zeros(0, dtype=np.int32)
    sets = ShingleSets.of(keys)
    by_size = np.argsort(sets.sizes, kind="stable")
    known = pd.factorize(given.to_numpy())[0].astype(np.int64)
    alone = (given == "").to_numpy()
    known[alone] = len(keys) + np.flatnonzero(alone)
    search = _Search(sets.in_order(by_size), known[by_size], jaccard)
    del sets
    search.join_neighbors()
    search.join_all()
    found = np.empty(len(keys), dtype=np.int64)
    found[by_size] = search.components
    return pd.factorize(found)[0].astype(np.int32)


class _Search:
    """The components of similar texts as far as they are known.

    Attributes:
        components: Number of the component of each text, shape (texts,), int64.
    """

    def __init__(self, sets: ShingleSets, known: np.ndarray, jaccard: float) -> None:
        """Start from known components; the sets are in the order of their sizes."""
        self._sets, self._jaccard = sets, jaccard
        self.components = pd.factorize(known)[0].astype(np.int64)

    def join_neighbors(self) -> None:
        """Join most texts of each campaign: those with equal MinHashes that are sorted together."""
        rng = np.random.default_rng(0)
        numbers = self._sets.rows.shape[1]
        before = self._sets.least_of(rng.permutation(numbers).astype(np.int32))
        for _ in range(_ROUNDS):
            hashes = self._sets.least_of(rng.permutation(numbers).astype(np.int32))
            order = np.lexsort((before, hashes))
            equal = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
            joined = self._join(order[equal], order[equal + 1])
            before = hashes
            if joined < len(hashes) / _FEW:
                return

    def join_all(self) -> None:
        """Join all components that have a similar pair.

        Candidates come from prefix filtering (Bayardo et al. 2007; Wang et al. 2012): where a set x
        has the similarity t with a y that is not larger, the rarest |x| - t|x| + n members of x and
        the rarest |y| - 2t/(1+t)|y| + n members of y have n in common.
        """
        sizes, share = self._sets.sizes, self._jaccard
        more = np.minimum(_MORE * sizes, fewest(share, sizes) - 1).astype(np.int64)
        wide = _prefixes(self._sets, share, more)
        narrow = _prefixes(self._sets, 2 * share / (1 + share), more)
        # A component of many texts is left out where it would be compared with itself.
        large = np.bincount(self.components)[self.components] >= _LARGE
        self._join_between(np.flatnonzero(large), wide)
        for start, stop in _steps(sizes):
            first = int(np.searchsorted(sizes, share * sizes[start] - 1e-6))
            rows, columns = np.arange(start, stop), np.arange(first, stop)
            small = ~large[start:stop]
            self._join_candidates(rows[small], columns, wide, narrow)
            if not small.all():
                self._join_candidates(rows[~small], columns[~large[first:stop]], wide, narrow)

    def _join_between(self, texts: np.ndarray, wide: "_Prefixes") -> None:
        """Join the components of these texts that have a similar pair."""
        texts = texts[np.argsort(self.components[texts], kind="stable")]
        ends = np.flatnonzero(np.diff(self.components[texts], append=-1)) + 1
        start = 0
        for end in ends[:-1]:
            self._join_candidates(texts[start:end], texts[end:], wide, wide)
            start = end

    def _join_candidates(
        self, rows: np.ndarray, columns: np.ndarray, of_rows: "_Prefixes", of_columns: "_Prefixes"
    ) -> None:
        """Join similar pairs of the one texts and the others."""
        if not len(rows) or not len(columns):
            return
        least = 1 + min(of_rows.more[rows.min()], of_columns.more[columns.min()])
        prefixes, inverted = of_rows.rows[rows], of_columns.rows[columns].T.tocsr()
        for start, stop in _blocks(prefixes @ np.diff(inverted.indptr).astype(np.int64)):
            shared = prefixes[start:stop] @ inverted
            enough = np.flatnonzero(shared.data >= least)
            left = rows[start + np.searchsorted(shared.indptr, enough, side="right") - 1]
            right = columns[shared.indices[enough]]
            # All common members up to the less rare end of both prefixes are in both of them.
            # Beyond it, all members of that set may be common ones.
            beyond = np.where(
                of_rows.last[left] < of_columns.last[right],
                of_rows.others[left],
                of_columns.others[right],
            )
            total = self._sets.sizes[left] + self._sets.sizes[right]
            needed = fewest(self._jaccard / (1 + self._jaccard), total)
            possible = shared.data[enough] + beyond >= needed
            self._join(left[possible], right[possible])

    def _join(self, left: np.ndarray, right: np.ndarray) -> int:
        """Join the components of the pairs that are similar; return by how many there are fewer."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        apart = self.components[left] != self.components[right]
        left, right = left[apart], right[apart]
        similar = self._sets.similar(left, right, self._jaccard)
        if not similar.any():
            return 0
        count = int(self.components.max()) + 1
        ends = self.components[left[similar]], self.components[right[similar]]
        graph = coo_matrix((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(count, count))
        remaining, joined = connected_components(graph, directed=False)
        self.components = joined.astype(np.int64)[self.components]
        return count - int(remaining)


@dataclasses.dataclass(frozen=True)
class _Prefixes:
    """The rarest members of each set.

    Attributes:
        rows: As `ShingleSets.rows`.
        last: The member that is the least rare of these, shape (texts,).
        others: Number of members that are not among these, shape (texts,).
        more: By how many the prefix is longer than it must be, shape (texts,).
    """

    rows: Any
    last: np.ndarray
    others: np.ndarray
    more: np.ndarray


def _prefixes(sets: ShingleSets, share: float, more: np.ndarray) -> _Prefixes:
    """Return a prefix of each set in which a set that shares that share of it has 1 + `more`."""
    others = fewest(share, sets.sizes) - 1 - more
    rows = sets.rarest(sets.sizes - others)
    return _Prefixes(rows, rows.indices[rows.indptr[1:] - 1], others, more)


def _steps(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the bounds of stretches of about equal sizes, which are sorted."""
    start = 0
    while start < len(sizes):
        stop = int(np.searchsorted(sizes, sizes[start] * _STEP, side="right"))
        yield start, stop
        start = stop


def _blocks(costs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the bounds of stretches with about equal sums of costs."""
    total = np.cumsum(costs, dtype=np.int64)
    start = 0
    while start < len(total):
        spent = total[start - 1] if start else 0
        stop = int(np.searchsorted(total, spent + _PRODUCTS_AT_ONCE, side="right"))
        yield start, max(stop, start + 1)
        start = max(stop, start + 1)
