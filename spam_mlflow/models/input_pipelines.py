"""Input pipelines: training rows in batches, as Keras's `fit` takes them."""

from typing import Any

import numpy as np

_BUCKETS = (8, 16, 24, 32, 48, 64, 96)  # words of the longest text in each bucket but the last


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
