"""Model architectures behind one interface; Hydra instantiates them from `conf/model/*.yaml`."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from spam_mlflow.models.cross_fit import CrossFit, Mixture, TrainingRows
from spam_mlflow.scorer.vectorizers import Vectorizer

if TYPE_CHECKING:
    import keras


class Architecture(Protocol):
    """What a model is: its inputs, and how its network is made.

    Each is a `TrainedNetwork` or a `SolvedNetwork` as well.

    Attributes:
        name: Name of the model in run names and the model card.
        batch_size: Messages per step, where the training settings give no other number; None where
            a solver takes all messages at once.
        learning_rate: Of the first step, likewise.
    """

    name: str
    batch_size: int | None
    learning_rate: float | None

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

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray] | None:
        """Return the weights of a network that `LinearScorer` serves without TensorFlow.

        Args:
            network: The finished network.

        Returns:
            `coefficients`, shape (features,), and `intercept`, shape (), float64: the log-odds of
            spam are row · coefficients + intercept. They may come with an expert for texts of
            another kind, `extra_coefficients` and `extra_intercept`, and with the log-odds that a
            text is of that kind, `gate_coefficients` and `gate_intercept`. None for any other
            network.
        """
        ...


@runtime_checkable
class SolvedNetwork(Architecture, Protocol):
    """A cross-fitted architecture whose weights a solver finds."""

    def solver(self, vectorizer: Vectorizer, rows: TrainingRows) -> CrossFit:
        """Return what solves for the heads.

        Args:
            vectorizer: The fitted vectorizer.
            rows: The rows to train on, messages first.
        """
        ...

    def network(self, mixture: Mixture, vectorizer: Vectorizer) -> "keras.Model":
        """Return the network from inputs to probabilities of ham and spam, shape (rows, 2).

        Args:
            mixture: What the solver found.
            vectorizer: The fitted vectorizer.
        """
        ...


@runtime_checkable
class TrainedNetwork(Architecture, Protocol):
    """An architecture that Keras's training loop fits."""

    def build(self, vectorizer: Vectorizer, learning_rate: float) -> "keras.Model":
        """Return the network, compiled for training; it reports `loss` and `accuracy`.

        Args:
            vectorizer: The fitted vectorizer whose output the network takes.
            learning_rate: Learning rate of the first step.
        """
        ...

    def batches(
        self, inputs: Any, spam: np.ndarray, weights: np.ndarray, batch_size: int
    ) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` that feed it the training rows in batches.

        Args:
            inputs: The training rows, as the vectorizer returns them.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
            weights: Weight of each row in the loss; shape (rows,).
            batch_size: Messages per step.
        """
        ...

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` for the validation after each epoch.

        Args:
            inputs: The rows of the validation part, as the vectorizer returns them.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
        """
        ...
