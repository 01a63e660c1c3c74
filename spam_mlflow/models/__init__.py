"""Model architectures behind one interface; built by Hydra from `conf/model/*.yaml`."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from spam_mlflow.vectorizers import Vectorizer

if TYPE_CHECKING:
    import keras


class Architecture(Protocol):
    """What a model is: its inputs, its network, and how scores become probabilities."""

    name: str
    batch_size: int
    learning_rate: float

    def vectorizer(self) -> Vectorizer:
        """Return the vectoriser, not yet fitted."""
        ...

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return the network compiled for training with labels of shape (rows, 1), spam 1.

        steps: optimiser steps in the whole training, for schedules. The network reports `loss`
        and `accuracy`.
        """
        ...

    def calibrated(self, network: "keras.Model", inputs: object, spam: np.ndarray) -> "keras.Model":
        """Return the network that yields probabilities of shape (rows, 2): ham, spam.

        inputs, spam: the validation part, for models whose scores need calibration; spam is of
        shape (rows,), 1 for spam.
        """
        ...

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray] | None:
        """Return the calibrated network's weights if it is linear in its input, else None.

        With `coefficients` of shape (width,) and `intercept` of shape (), the spam probability is
        sigmoid(row · coefficients + intercept): enough to serve it without TensorFlow.
        """
        ...
