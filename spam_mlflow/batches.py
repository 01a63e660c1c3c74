"""Dealing training rows to a network: the arguments of Keras's `fit` for each kind of input."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_LENGTHS = (8, 16, 24, 32, 48, 64, 96)  # words, where a batch of like length ends
_READY = 16  # batches made ahead, in another thread


def whole(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """Deal from whole arrays, as Keras does it by itself."""
    return {"x": inputs, "y": targets, "sample_weight": weights, "batch_size": batch_size}


def sparse(
    inputs: "csr_matrix", targets: np.ndarray, weights: np.ndarray, batch_size: int, seed: int
) -> dict[str, Any]:
    """Deal sparse rows without a second copy of them all, which Keras would make.

    inputs: scipy CSR matrix of shape (rows, width).
    """
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    rows, width = inputs.shape

    def batches() -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        order = rng.permutation(rows)
        for start in range(0, rows, batch_size):
            at = order[start : start + batch_size]
            some = inputs[at].tocoo()
            indices = np.column_stack([some.row, some.col]).astype(np.int64)
            yield tf.SparseTensor(indices, some.data, some.shape), targets[at], weights[at]

    signature = (
        tf.SparseTensorSpec((None, width), tf.float32),
        tf.TensorSpec((None, targets.shape[1]), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    dealt = tf.data.Dataset.from_generator(batches, output_signature=signature)
    count = -(-rows // batch_size)
    counted = dealt.apply(tf.data.experimental.assert_cardinality(count))
    return {"x": counted.prefetch(_READY), "shuffle": False}


def by_length(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """Deal sequences of like length together, so that a batch costs what its longest text costs.

    inputs: shape (rows, words), 0 for padding, which is cut off.
    """
    import tensorflow as tf

    lengths = np.searchsorted(_LENGTHS, np.count_nonzero(inputs, axis=1), side="left")
    count = int(np.sum(-(-np.bincount(lengths) // batch_size)))
    batches = (
        tf.data.Dataset.from_tensor_slices((inputs, targets, weights))
        .shuffle(len(inputs))
        .map(lambda row, target, weight: (row[row != 0], target, weight))
        .bucket_by_sequence_length(
            lambda row, _target, _weight: tf.size(row),
            [bound + 1 for bound in _LENGTHS],
            [batch_size] * (len(_LENGTHS) + 1),
        )
        # One column of padding, for texts without a single known word.
        .map(lambda rows, target, weight: (tf.pad(rows, [[0, 0], [1, 0]]), target, weight))
        .apply(tf.data.experimental.assert_cardinality(count))
    )
    return {"x": batches, "shuffle": False}
