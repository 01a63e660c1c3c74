"""Near-duplicates: finding them, and grouping them so that a split keeps them together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from spam_mlflow.scorer.normalization import duplicate_key

_SHINGLE = 5  # characters
_PAIRS_AT_ONCE = 200_000  # limits memory while candidate pairs are verified


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
    return kept.assign(group=_groups(list(keys[first]), kept["group"], jaccard))


def _groups(keys: Sequence[str], given: pd.Series, jaccard: float) -> np.ndarray:
    """Return a group number for each key, shape (rows,), int32; `given` are the known groups."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = near_duplicates(keys, jaccard)
    named = given[given != ""]
    links = named.index.to_series().groupby(named).transform("first")
    left = np.concatenate([left, links.index.to_numpy(dtype=np.int64)])
    right = np.concatenate([right, links.to_numpy(dtype=np.int64)])
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(keys),) * 2)
    return connected_components(graph, directed=False)[1]


def near_duplicates(keys: Sequence[str], jaccard: float) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of texts whose sets of character 5-grams are similar.

    The result is exact. Candidates come from prefix filtering (Chaudhuri et al. 2006; Bayardo et
    al. 2007): two sets of that similarity must share one of their rarest shingles.

    Args:
        keys: Distinct texts, as `duplicate_key` returns them.
        jaccard: Lowest Jaccard similarity of a pair, above 0 to 1.

    Returns:
        Two arrays of shape (pairs,), int64: the positions in `keys` of the left and the right text
        of each pair, the left one smaller.
    """
    from scipy.sparse import csr_matrix, triu
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        analyzer="char", ngram_range=(_SHINGLE,) * 2, binary=True, lowercase=False, dtype=np.int32
    )
    shingles = vectorizer.fit_transform([key.ljust(_SHINGLE) for key in keys])
    rarity = np.argsort(np.argsort(np.asarray(shingles.sum(axis=0)).ravel(), kind="stable"))
    shingles = csr_matrix(
        (shingles.data, rarity[shingles.indices], shingles.indptr), shingles.shape
    )
    shingles.sort_indices()
    sizes = np.diff(shingles.indptr)
    prefix = sizes - np.ceil(jaccard * sizes).astype(np.int64) + 1
    rank = np.arange(shingles.nnz) - np.repeat(shingles.indptr[:-1], sizes)
    rare = rank < np.repeat(prefix, sizes)
    bounds = np.concatenate([[0], np.cumsum(np.minimum(prefix, sizes))])
    prefixes = csr_matrix((shingles.data[rare], shingles.indices[rare], bounds), shingles.shape)
    candidates = triu(prefixes @ prefixes.T, k=1).tocoo()
    left, right = candidates.row.astype(np.int64), candidates.col.astype(np.int64)
    shared = np.concatenate(
        [np.zeros(0)]
        + [
            np.asarray(shingles[left[at]].multiply(shingles[right[at]]).sum(axis=1)).ravel()
            for start in range(0, len(left), _PAIRS_AT_ONCE)
            for at in [slice(start, start + _PAIRS_AT_ONCE)]
        ]
    )
    similar = shared >= jaccard * (sizes[left] + sizes[right] - shared)
    return left[similar], right[similar]
