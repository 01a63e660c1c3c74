"""Dealing training rows to a network: the arguments of Keras's `fit` for each kind of input."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    from scipy.sparse import csr_matrix

_LENGTHS = (8, 16, 24, 32, 48, 64, 96)  # words, where a batch of like length ends
_READY = 16  # batches made ahead


def whole(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """Deal from whole arrays, as Keras does it by itself."""
    return {"x": inputs, "y": targets, "sample_weight": weights, "batch_size": batch_size}


def sparse(
    inputs: "csr_matrix",
    targets: np.ndarray,
    weights: np.ndarray,
    batch_size: int,
    seed: int | None,
) -> "tf.data.Dataset":
    """Return batches of sparse rows, put together inside TensorFlow: its steps wait for no Python.

    inputs: scipy CSR matrix of shape (rows, width); its arrays are moved into TensorFlow's memory,
        so that they are held once.
    seed: of the order, another one in each pass; None for the rows' own order.
    """
    import tensorflow as tf

    rows, width = inputs.shape
    starts = tf.constant(inputs.indptr, tf.int64)
    entries = []
    for name in ("indices", "data"):
        flat = tf.constant(getattr(inputs, name))
        setattr(inputs, name, np.asarray(memoryview(flat)))
        entries.append(tf.RaggedTensor.from_row_splits(flat, starts, validate=False))
    labels = tf.constant(targets), tf.constant(weights)

    def batch(at: "tf.Tensor") -> tuple[Any, Any, Any]:
        found, numbers = (tf.gather(ragged, at) for ragged in entries)
        indices = tf.stack([found.value_rowids(), tf.cast(found.flat_values, tf.int64)], axis=1)
        some = tf.SparseTensor(indices, numbers.flat_values, [tf.size(at, tf.int64), width])
        return some, *(tf.gather(label, at) for label in labels)

    order = tf.data.Dataset.range(rows)
    if seed is not None:
        order = order.shuffle(rows, seed)
    return order.batch(batch_size).map(batch).prefetch(_READY)


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
