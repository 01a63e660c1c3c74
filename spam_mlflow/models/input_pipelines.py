"""Input pipelines: training rows in batches, as Keras's `fit` takes them."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    from scipy.sparse import csr_matrix

_BUCKETS = (8, 16, 24, 32, 48, 64, 96)  # words of the longest text in each bucket but the last
_PREFETCHED = 16  # batches


def from_arrays(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """Return arguments of Keras's `fit` that leave the batches to Keras.

    Args:
        inputs: Shape (rows, words).
        targets: Shape (rows, 1).
        weights: Weight of each row in the loss; shape (rows,).
        batch_size: Messages per step.
    """
    return {"x": inputs, "y": targets, "sample_weight": weights, "batch_size": batch_size}


def sparse_batches(
    inputs: "csr_matrix",
    targets: np.ndarray,
    weights: np.ndarray,
    batch_size: int,
    seed: int | None,
) -> "tf.data.Dataset":
    """Return batches of sparse rows, made inside TensorFlow so that no step waits for Python.

    Args:
        inputs: Shape (rows, features). Its arrays are moved into TensorFlow's memory, so that there
            is only one copy of them.
        targets: Shape (rows, heads).
        weights: Weight of each row in the loss; shape (rows,).
        batch_size: Messages per step.
        seed: Seed of the order, which is another one in each epoch; None to keep the rows' order.

    Returns:
        Batches of inputs, targets and weights.
    """
    import tensorflow as tf

    rows, features = inputs.shape
    starts = tf.constant(inputs.indptr, tf.int64)
    entries = []
    for name in ("indices", "data"):
        flat = tf.constant(getattr(inputs, name))
        setattr(inputs, name, np.asarray(memoryview(flat)))
        entries.append(tf.RaggedTensor.from_row_splits(flat, starts, validate=False))
    labels = tf.constant(targets), tf.constant(weights)

    def batch(at: "tf.Tensor") -> tuple[Any, Any, Any]:
        columns, values = (tf.gather(ragged, at) for ragged in entries)
        indices = tf.stack([columns.value_rowids(), tf.cast(columns.flat_values, tf.int64)], axis=1)
        chosen = tf.SparseTensor(indices, values.flat_values, [tf.size(at, tf.int64), features])
        return chosen, *(tf.gather(label, at) for label in labels)

    order = tf.data.Dataset.range(rows)
    if seed is not None:
        order = order.shuffle(rows, seed)
    return order.batch(batch_size).map(batch).prefetch(_PREFETCHED)


def bucket_by_length(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """Return arguments of Keras's `fit` that batch texts of similar length, which saves padding.

    Args:
        inputs: Word numbers, shape (rows, words); 0 is padding, which is removed.
        targets: Shape (rows, 1).
        weights: Weight of each row in the loss; shape (rows,).
        batch_size: Messages per step.
    """
    import tensorflow as tf

    buckets = np.searchsorted(_BUCKETS, np.count_nonzero(inputs, axis=1), side="left")
    count = int(np.sum(-(-np.bincount(buckets) // batch_size)))
    batches = (
        tf.data.Dataset.from_tensor_slices((inputs, targets, weights))
        .shuffle(len(inputs))
        .map(lambda row, target, weight: (row[row != 0], target, weight))
        .bucket_by_sequence_length(
            lambda row, _target, _weight: tf.size(row),
            [bound + 1 for bound in _BUCKETS],
            [batch_size] * (len(_BUCKETS) + 1),
        )
        # One column of padding, for texts without a single known word.
        .map(lambda rows, target, weight: (tf.pad(rows, [[0, 0], [1, 0]]), target, weight))
        .apply(tf.data.experimental.assert_cardinality(count))
    )
    return {"x": batches, "shuffle": False}
