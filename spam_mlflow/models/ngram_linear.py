"""The default: a linear large-margin classifier over TF-IDF n-grams, shapes and style figures.

A single Keras layer on sparse input, trained with the squared hinge loss of scikit-learn's
LinearSVC. It has one head for each fold of the data, which learns from all other folds, and one
that learns from everything. The heads of the folds give scores of rows they never saw: on these,
the last one is calibrated by Platt scaling (Platt 1999) and its thresholds are chosen, so that no
message has to be kept from it. Only that head is stored.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spam_mlflow import batches, keras_backend
from spam_mlflow.errors import UserError
from spam_mlflow.vectorizers import Vectorizer
from spam_mlflow.vectorizers.ngram import NgramVectorizer

if TYPE_CHECKING:
    import keras


_STEPS_AT_ONCE = 16  # between returns from TensorFlow to Python, which take their time
_VALIDATED_AT_ONCE = 1024  # rows


@dataclass(frozen=True)
class NgramLinear:
    """See `NgramVectorizer` for the first five settings.

    l2: weight of the squared length of the coefficients in the loss.
    folds: of the cross-fitting, at least 2.
    """

    name: str
    max_words: int
    min_count: int
    characters: Sequence[int]
    skeleton: Sequence[int]
    style_weight: float
    l2: float
    batch_size: int
    learning_rate: float
    folds: int

    def __post_init__(self) -> None:
        """Check the settings; raises UserError for less than two folds."""
        if self.folds < 2:
            raise UserError(f"model.folds={self.folds} must be at least 2")

    def vectorizer(self) -> NgramVectorizer:
        """Return an n-gram vectoriser, not yet fitted."""
        return NgramVectorizer(
            self.max_words, self.min_count, self.characters, self.skeleton, self.style_weight
        )

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return a network from (rows, width) sparse input to margins of shape (rows, heads)."""
        keras = keras_backend.load()
        assert isinstance(vectorizer, NgramVectorizer)
        inputs = keras.Input((vectorizer.width,), sparse=True, name="features")
        # Zeros: a feature that training never meets must not move a score.
        margins = _sparse_dense()(
            self.folds + 1,
            kernel_initializer="zeros",
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="margins",
        )
        network = keras.Model(inputs, margins(inputs), name=self.name)
        # The loss is a mean over heads, but each head is to move as if it were alone.
        schedule = keras.optimizers.schedules.PolynomialDecay(learning_rate * self.folds, steps, 0)
        network.compile(
            # Not Adam: it moves rare n-grams as far as frequent ones, which costs 1 point of F1.
            optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
            loss=_squared_hinge,
            steps_per_execution=_STEPS_AT_ONCE,
            metrics=[keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy")],
        )
        return network

    def targets(self, spam: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Return 1 for spam and -1 for ham, shape (rows, heads); 0 for the head of a row's fold."""
        signs = np.repeat(2 * spam[:, None] - 1, self.folds + 1, axis=1)
        signs[np.arange(len(spam)), fold] = 0
        return signs

    def batches(
        self, inputs: Any, targets: np.ndarray, weights: np.ndarray, batch_size: int, seed: int
    ) -> dict[str, Any]:
        """Return batches of sparse rows."""
        return {"x": batches.sparse(inputs, targets, weights, batch_size, seed), "shuffle": False}

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return batches for the head of fold 0 alone, which never learnt from these rows."""
        signs = np.zeros((len(spam), self.folds + 1), dtype=np.float32)
        signs[:, 0] = 2 * spam - 1
        dealt = batches.sparse(inputs, signs, np.ones_like(spam), _VALIDATED_AT_ONCE, None)
        return {"validation_data": dealt}

    def calibrated(
        self,
        network: "keras.Model",
        vectorizer: Vectorizer,
        inputs: Any,
        spam: np.ndarray,
        fold: np.ndarray,
    ) -> tuple["keras.Model", np.ndarray]:
        """Return the head that saw everything, with a softmax layer fitted to the others."""
        from sklearn.linear_model import LogisticRegression

        assert isinstance(vectorizer, NgramVectorizer)
        keras = keras_backend.load()
        kernel, bias = network.get_layer("margins").get_weights()
        held_out = np.empty((len(fold), 1), dtype=np.float32)
        for head in range(self.folds):
            # Features that only this fold holds would not be in the vocabulary of new texts:
            # left in, they take up length, and held-out scores are less extreme than new ones.
            seen = kernel[:, head] != 0
            rows = np.flatnonzero(fold == head)
            for at in np.split(rows, range(_VALIDATED_AT_ONCE, len(rows), _VALIDATED_AT_ONCE)):
                known = vectorizer.as_if_known(inputs[at], seen)
                held_out[at, 0] = known @ kernel[:, head] + bias[head]
        platt = LogisticRegression(C=np.inf).fit(held_out, spam)
        margin = keras.layers.Dense(1, name="margin")
        softmax = keras.layers.Dense(2, activation="softmax", name="calibration")
        calibrated = keras.Model(network.input, softmax(margin(network.input)), name=self.name)
        margin.set_weights([kernel[:, -1:], bias[-1:]])
        # softmax([0, a·margin + b]) is sigmoid(a·margin + b), Platt's form.
        softmax.set_weights(
            [np.array([[0.0, platt.coef_[0, 0]]]), np.array([0.0, platt.intercept_[0]])]
        )
        return calibrated, platt.predict_proba(held_out)[:, 1]

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray]:
        """Return margin and calibration folded into one linear form, float64."""
        kernel, bias = (w.astype(np.float64) for w in network.get_layer("margin").get_weights())
        scale, offset = network.get_layer("calibration").get_weights()
        slope, shift = float(scale[0, 1] - scale[0, 0]), float(offset[1] - offset[0])
        return {"coefficients": kernel[:, 0] * slope, "intercept": bias[0] * slope + shift}


@functools.cache
def _sparse_dense() -> type["keras.layers.Dense"]:
    """Return a Dense layer for sparse input that trains three times as fast as Keras's own.

    Keras multiplies sparse tensors by way of an embedding look-up.
    """
    keras = keras_backend.load()
    import tensorflow as tf

    class SparseDense(keras.layers.Dense):  # type: ignore[name-defined, misc]
        def call(self, rows: tf.SparseTensor) -> tf.Tensor:
            kernel = tf.convert_to_tensor(self.kernel)
            return tf.sparse.sparse_dense_matmul(rows, kernel) + self.bias

    return SparseDense


def _squared_hinge(signs: Any, margins: Any) -> Any:
    """Return each row's squared hinge loss, averaged over the heads whose sign is not 0."""
    ops = keras_backend.load().ops
    seen = ops.abs(signs)
    losses = ops.square(ops.relu(1 - signs * margins)) * seen
    return ops.sum(losses, axis=-1) / ops.sum(seen, axis=-1)


def _accuracy(signs: Any, margins: Any) -> Any:
    """Return the share of right labels over the heads whose sign is not 0, for each row."""
    ops = keras_backend.load().ops
    right = ops.cast(signs * margins > 0, "float32")
    return ops.sum(right, axis=-1) / ops.sum(ops.abs(signs), axis=-1)
