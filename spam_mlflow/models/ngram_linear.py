"""The default model: a linear large-margin classifier over TF-IDF n-grams and style features.

It is a single Keras layer on sparse input, trained with the squared hinge loss of scikit-learn's
LinearSVC. The layer has one head for each fold of the data, which is trained on all other folds,
and one that is trained on all of them. The first heads give every row an out-of-fold score. On
these scores, the last head is calibrated by Platt scaling (Platt 1999) and its thresholds are
chosen, so that it can be trained on every message. Only that head is stored.
"""

import functools
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, Count, Positive, PositiveCount
from spam_mlflow.models import input_pipelines
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.vectorizers import Vectorizer
from spam_mlflow.scorer.vectorizers.character_ngrams import LONGEST
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer

if TYPE_CHECKING:
    import keras


Length = Annotated[int, Field(ge=1, le=LONGEST)]
"""Length of an n-gram in characters."""

_STEPS_AT_ONCE = 16  # steps between returns from TensorFlow to Python, which are slow
_ROWS_AT_ONCE = 1024  # rows that are scored at a time


@dataclass(frozen=True, config=CONFIG)
class NgramLinear:
    """A cross-fitted linear classifier over n-grams.

    Attributes:
        name: Name of the model in run names and the model card.
        max_words: Largest number of features per block, as for `NgramVectorizer`; 0 for no limit.
        min_count: Number of training texts that must contain a feature, likewise.
        characters: Shortest and longest character n-gram, likewise.
        skeleton: Shortest and longest n-gram of the letters run together, likewise.
        style_weight: Factor on the style features, likewise.
        l2: Weight of the squared length of the coefficients in the loss.
        batch_size: Messages per step.
        learning_rate: Learning rate of the first step; it falls linearly to 0.
        folds: Number of folds of the cross-fitting, at least 2.
    """

    name: str
    max_words: Count
    min_count: PositiveCount
    characters: tuple[Length, Length]
    skeleton: tuple[Length, Length]
    style_weight: Annotated[float, Field(ge=0)]
    l2: Annotated[float, Field(ge=0)]
    batch_size: PositiveCount
    learning_rate: Positive
    folds: Annotated[int, Field(ge=2)]

    def __post_init__(self) -> None:
        """Check the settings of the vectorizer.

        Raises:
            UserError: Where lengths of n-grams are in the wrong order.
        """
        self.vectorizer()

    def vectorizer(self) -> NgramVectorizer:
        """Return a new n-gram vectorizer, not yet fitted."""
        return NgramVectorizer(
            self.max_words, self.min_count, self.characters, self.skeleton, self.style_weight
        )

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return the network, compiled for training with `targets`.

        Args:
            vectorizer: The fitted vectorizer whose output the network takes.
            learning_rate: Learning rate of the first step.
            steps: Optimizer steps in the whole training, over which the learning rate falls to 0.

        Returns:
            A network from sparse input of shape (rows, features) to margins of shape
            (rows, folds + 1): a head for each fold, then the one that is trained on all rows.
        """
        keras = keras_backend.load()
        assert isinstance(vectorizer, NgramVectorizer)
        inputs = keras.Input((vectorizer.n_features,), sparse=True, name="features")
        # Zeros, so that a feature without training rows does not change a score.
        margins = _sparse_dense()(
            self.folds + 1,
            kernel_initializer="zeros",
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="margins",
        )
        network = keras.Model(inputs, margins(inputs), name=self.name)
        # The loss is a mean over heads; times their number, each head trains as if it were alone.
        schedule = keras.optimizers.schedules.PolynomialDecay(learning_rate * self.folds, steps, 0)
        network.compile(
            # Not Adam: its steps are as large for rare n-grams as for frequent ones, which costs a
            # percentage point of F1.
            optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
            loss=_squared_hinge,
            steps_per_execution=_STEPS_AT_ONCE,
            metrics=[keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy")],
        )
        return network

    def targets(self, spam: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Return the sign that each head is to give to the training rows.

        Args:
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
            fold: Fold of each row; shape (rows,), int64.

        Returns:
            1 for spam, -1 for ham, and 0 where the row is in the head's own fold, on which it is
            not trained; shape (rows, folds + 1), float32.
        """
        signs = np.repeat(2 * spam[:, None] - 1, self.folds + 1, axis=1)
        signs[np.arange(len(spam)), fold] = 0
        return signs

    def batches(
        self, inputs: Any, targets: np.ndarray, weights: np.ndarray, batch_size: int, seed: int
    ) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` that feed it the training rows in batches.

        Args:
            inputs: CSR matrix of shape (rows, features).
            targets: Shape (rows, folds + 1).
            weights: Weight of each row in the loss; shape (rows,).
            batch_size: Messages per step.
            seed: Seed of the order of the rows.
        """
        return {
            "x": input_pipelines.sparse_batches(inputs, targets, weights, batch_size, seed),
            "shuffle": False,
        }

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` for the validation of the head of fold 0.

        That head is not trained on the rows of fold 0; the targets of the other heads are 0.

        Args:
            inputs: The rows of fold 0, CSR matrix of shape (rows, features).
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
        """
        signs = np.zeros((len(spam), self.folds + 1), dtype=np.float32)
        signs[:, 0] = 2 * spam - 1
        batches = input_pipelines.sparse_batches(
            inputs, signs, np.ones_like(spam), _ROWS_AT_ONCE, None
        )
        return {"validation_data": batches}

    def calibrated(
        self,
        network: "keras.Model",
        vectorizer: Vectorizer,
        inputs: Any,
        spam: np.ndarray,
        fold: np.ndarray,
    ) -> tuple["keras.Model", np.ndarray]:
        """Calibrate the head that is trained on all rows, on the out-of-fold scores of the others.

        Args:
            network: The trained network.
            vectorizer: The fitted vectorizer.
            inputs: CSR matrix of shape (rows or more, features); further rows are ignored.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
            fold: Fold of each row; shape (rows,), int64.

        Returns:
            The network from sparse input to probabilities of ham and spam, shape (rows, 2), and the
            rows' out-of-fold spam probabilities, shape (rows,), float64.
        """
        from sklearn.linear_model import LogisticRegression

        assert isinstance(vectorizer, NgramVectorizer)
        keras = keras_backend.load()
        kernel, bias = network.get_layer("margins").get_weights()
        out_of_fold = np.empty((len(fold), 1), dtype=np.float32)
        for head in range(self.folds):
            # Features that occur in this fold alone would not be in the vocabulary for new texts.
            # Kept, they would add to a row's length, and make out-of-fold scores less extreme than
            # scores of new texts.
            trained = kernel[:, head] != 0
            rows = np.flatnonzero(fold == head)
            for at in np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE)):
                masked = vectorizer.mask_vocabulary(inputs[at], trained)
                out_of_fold[at, 0] = masked @ kernel[:, head] + bias[head]
        platt = LogisticRegression(C=np.inf).fit(out_of_fold, spam)
        margin = keras.layers.Dense(1, name="margin")
        softmax = keras.layers.Dense(2, activation="softmax", name="calibration")
        calibrated = keras.Model(network.input, softmax(margin(network.input)), name=self.name)
        margin.set_weights([kernel[:, -1:], bias[-1:]])
        # softmax([0, a·margin + b]) is sigmoid(a·margin + b), Platt's form.
        softmax.set_weights(
            [np.array([[0.0, platt.coef_[0, 0]]]), np.array([0.0, platt.intercept_[0]])]
        )
        return calibrated, platt.predict_proba(out_of_fold)[:, 1]

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray]:
        """Return margin and calibration as one linear function.

        Args:
            network: The calibrated network.

        Returns:
            `coefficients`, shape (features,), and `intercept`, shape (), float64.
        """
        kernel, bias = (w.astype(np.float64) for w in network.get_layer("margin").get_weights())
        scale, offset = network.get_layer("calibration").get_weights()
        slope, shift = float(scale[0, 1] - scale[0, 0]), float(offset[1] - offset[0])
        return {"coefficients": kernel[:, 0] * slope, "intercept": bias[0] * slope + shift}


@functools.cache
def _sparse_dense() -> type["keras.layers.Dense"]:
    """Return a Dense layer for sparse input that trains three times as fast as Keras's own.

    Keras multiplies sparse tensors through an embedding look-up.
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
    trained = ops.abs(signs)
    losses = ops.square(ops.relu(1 - signs * margins)) * trained
    return ops.sum(losses, axis=-1) / ops.sum(trained, axis=-1)


def _accuracy(signs: Any, margins: Any) -> Any:
    """Return each row's fraction of correct labels over the heads whose sign is not 0."""
    ops = keras_backend.load().ops
    correct = ops.cast(signs * margins > 0, "float32")
    return ops.sum(correct, axis=-1) / ops.sum(ops.abs(signs), axis=-1)
