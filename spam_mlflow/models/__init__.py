"""Model architectures behind one interface; Hydra instantiates them from `conf/model/*.yaml`."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spam_mlflow.scorer.vectorizers import Vectorizer

if TYPE_CHECKING:
    import keras


class Architecture(Protocol):
    """What a model is: its inputs, its network, and how its scores become probabilities.

    Attributes:
        name: Name of the model in run names and the model card.
        batch_size: Messages per step, where the training settings give no other number.
        learning_rate: Of the first step, likewise.
    """

    name: str
    batch_size: int
    learning_rate: float

    @property
    def folds(self) -> int:
        """Number of folds of the cross-fitting, 0 for none.

        A cross-fitted model is trained on train and validation part together, and gives every row
        an out-of-fold score.
        """
        ...

    def vectorizer(self) -> Vectorizer:
        """Return a new vectorizer, not yet fitted."""
        ...

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return the network, compiled for training with `targets`.

        Args:
            vectorizer: The fitted vectorizer whose output the network takes.
            learning_rate: Learning rate of the first step.
            steps: Optimizer steps in the whole training, for schedules.

        Returns:
            A network that reports `loss` and `accuracy`.
        """
        ...

    def targets(self, spam: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Return what the network is to predict for the training rows.

        Args:
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
            fold: Fold of each row; shape (rows,), int64.

        Returns:
            The targets; the rows are the first axis.
        """
        ...

    def batches(
        self, inputs: Any, targets: np.ndarray, weights: np.ndarray, batch_size: int, seed: int
    ) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` that feed it the training rows in batches.

        Args:
            inputs: The training rows, as the vectorizer returns them.
            targets: As the method `targets` returns them.
            weights: Weight of each row in the loss; shape (rows,).
            batch_size: Messages per step.
            seed: Seed of the order of the rows.
        """
        ...

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` for the validation after each epoch.

        Args:
            inputs: The rows of fold 0, as the vectorizer returns them.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
        """
        ...

    def calibrated(
        self,
        network: "keras.Model",
        vectorizer: Vectorizer,
        inputs: Any,
        spam: np.ndarray,
        fold: np.ndarray,
    ) -> tuple["keras.Model", np.ndarray]:
        """Calibrate the scores: on all rows of a cross-fitted model, else on the validation part.

        Args:
            network: The trained network.
            vectorizer: The fitted vectorizer.
            inputs: The rows, as the vectorizer returns them; more rows may follow and are ignored.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
            fold: Fold of each row; shape (rows,), int64.

        Returns:
            The network from inputs to probabilities of ham and spam, shape (rows, 2), and the
            rows' out-of-fold spam probabilities, shape (rows,).
        """
        ...

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray] | None:
        """Return the weights of a network that is linear in its input, to serve without TensorFlow.

        Args:
            network: The calibrated network.

        Returns:
            `coefficients`, shape (features,), and `intercept`, shape (), float64: the spam
            probability is sigmoid(row · coefficients + intercept). None for any other network.
        """
        ...
