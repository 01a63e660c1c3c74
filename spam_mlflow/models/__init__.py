"""Model architectures behind one interface; built by Hydra from `conf/model/*.yaml`."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spam_mlflow.vectorizers import Vectorizer

if TYPE_CHECKING:
    import keras


class Architecture(Protocol):
    """What a model is: its inputs, its network, and how scores become probabilities.

    folds: above 0, the model is cross-fitted: it learns from train and validation part together,
        and gives every row a score from weights that never saw the row's fold.
    """

    name: str
    batch_size: int
    learning_rate: float

    @property
    def folds(self) -> int:
        """Folds of the cross-fitting; 0 for none."""
        ...

    def vectorizer(self) -> Vectorizer:
        """Return the vectoriser, not yet fitted."""
        ...

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return the network compiled for training with `targets`.

        steps: optimiser steps in the whole training, for schedules. The network reports `loss`
        and `accuracy`.
        """
        ...

    def targets(self, spam: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Return what the network learns from rows of these labels (1: spam) and folds."""
        ...

    def batches(
        self, inputs: Any, targets: np.ndarray, weights: np.ndarray, batch_size: int, seed: int
    ) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` that deal the rows to learn from in batches."""
        ...

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return those that deal the rows of fold 0, to be validated with after each epoch."""
        ...

    def calibrated(
        self,
        network: "keras.Model",
        vectorizer: Vectorizer,
        inputs: Any,
        spam: np.ndarray,
        fold: np.ndarray,
    ) -> tuple["keras.Model", np.ndarray]:
        """Return the network that yields probabilities of shape (rows, 2): ham, spam.

        inputs, spam, fold: all rows if the model is cross-fitted, else the validation part; to
        calibrate the scores with. What `inputs` holds beyond the rows of `spam` is left out.
        Returned second are the rows' spam probabilities from weights
        that never saw their fold, shape (rows,).
        """
        ...

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray] | None:
        """Return the calibrated network's weights if it is linear in its input, else None.

        With `coefficients` of shape (width,) and `intercept` of shape (), the spam probability is
        sigmoid(row · coefficients + intercept): enough to serve it without TensorFlow.
        """
        ...
