"""The default: a linear large-margin classifier over TF-IDF n-grams, shapes and style figures.

A single Keras layer on sparse input, trained with the squared hinge loss of scikit-learn's
LinearSVC, then calibrated by Platt scaling (Platt 1999) on the validation part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spam_mlflow import keras_backend
from spam_mlflow.vectorizers import Vectorizer
from spam_mlflow.vectorizers.ngram import NgramVectorizer

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class NgramLinear:
    """See `NgramVectorizer` for the first four settings.

    l2: weight of the squared length of the coefficients in the loss.
    """

    name: str
    max_words: int
    min_count: int
    characters: Sequence[int]
    style_weight: float
    l2: float
    batch_size: int
    learning_rate: float

    def vectorizer(self) -> NgramVectorizer:
        """Return an n-gram vectoriser, not yet fitted."""
        return NgramVectorizer(self.max_words, self.min_count, self.characters, self.style_weight)

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return a network from (rows, width) sparse input to a margin of shape (rows, 1)."""
        keras = keras_backend.load()
        assert isinstance(vectorizer, NgramVectorizer)
        inputs = keras.Input((vectorizer.width,), sparse=True, name="features")
        # Zeros: a feature that training never meets must not move a score.
        margin = keras.layers.Dense(
            1,
            kernel_initializer="zeros",
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="margin",
        )
        network = keras.Model(inputs, margin(inputs), name=self.name)
        schedule = keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, 0.0)
        network.compile(
            # Not Adam: it moves rare n-grams as far as frequent ones, which costs 1 point of F1.
            optimizer=keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
            loss="squared_hinge",
            metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],
        )
        return network

    def calibrated(self, network: "keras.Model", inputs: Any, spam: np.ndarray) -> "keras.Model":
        """Return `network` with a softmax layer on top that is fitted to the validation part."""
        from sklearn.linear_model import LogisticRegression

        keras = keras_backend.load()
        margins = network.predict(inputs, batch_size=4096, verbose=0)
        platt = LogisticRegression(C=np.inf).fit(margins, spam)
        layer = keras.layers.Dense(2, activation="softmax", name="calibration")
        outputs = layer(network.output)
        # softmax([0, a·margin + b]) is sigmoid(a·margin + b), Platt's form.
        layer.set_weights(
            [np.array([[0.0, platt.coef_[0, 0]]]), np.array([0.0, platt.intercept_[0]])]
        )
        return keras.Model(network.input, outputs, name=self.name)

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray]:
        """Return margin and calibration folded into one linear form, float64."""
        kernel, bias = (w.astype(np.float64) for w in network.get_layer("margin").get_weights())
        scale, offset = network.get_layer("calibration").get_weights()
        slope, shift = float(scale[0, 1] - scale[0, 0]), float(offset[1] - offset[0])
        return {"coefficients": kernel[:, 0] * slope, "intercept": bias[0] * slope + shift}
