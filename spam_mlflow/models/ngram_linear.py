"""The default model: large-margin linear classifiers over TF-IDF n-grams, style and signals.

Its weights are solved for by liblinear and put into Keras layers (see `cross_fit`). These are
stored and, since they are linear, scored without TensorFlow.
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, Count, Positive, PositiveCount
from spam_mlflow.data.augmentation import EXTRA, EXTRA_COPY, MESSAGE
from spam_mlflow.models import cross_fit, lexicons
from spam_mlflow.models.cross_fit import CrossFit, Gate, Mixture, TrainingRows
from spam_mlflow.scorer.vectorizers import Vectorizer
from spam_mlflow.scorer.vectorizers.character_ngrams import LONGEST
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer

if TYPE_CHECKING:
    import keras


Length = Annotated[int, Field(ge=1, le=LONGEST)]
"""Length of an n-gram in characters."""

_GATE = Gate(cost=0.3, slope=0.6, bias=-1.25)


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
        signal_weight: Factor on the signals, likewise.
        cost: Weight of the loss against the squared length of the coefficients.
        extra_balance: Weight of a message in the expert for additional messages, whose own is 1.
        folds: Number of folds of the cross-fitting, at least 2.
        batch_size: None; the solver takes all messages at once.
        learning_rate: None; the solver has none.
    """

    name: str
    max_words: Count
    min_count: PositiveCount
    characters: tuple[Length, Length]
    skeleton: tuple[Length, Length]
    style_weight: Annotated[float, Field(ge=0)]
    signal_weight: Annotated[float, Field(ge=0)]
    cost: Positive
    extra_balance: Annotated[float, Field(ge=0)]
    folds: Annotated[int, Field(ge=2)]
    batch_size: PositiveCount | None = None
    learning_rate: Positive | None = None

    def __post_init__(self) -> None:
        """Check the settings of the vectorizer.

        Raises:
            UserError: Where lengths of n-grams are in the wrong order.
        """
        self.vectorizer()

    def vectorizer(self) -> NgramVectorizer:
        """Return a new n-gram vectorizer, not yet fitted."""
        return NgramVectorizer(
            self.max_words,
            self.min_count,
            self.characters,
            self.skeleton,
            self.style_weight,
            self.signal_weight,
            lexicons.read(),
        )

    def solver(self, vectorizer: Vectorizer, rows: TrainingRows) -> CrossFit:
        """Return what solves for the heads.

        Args:
            vectorizer: The fitted vectorizer.
            rows: The rows to train on, messages first.
        """
        assert isinstance(vectorizer, NgramVectorizer)
        balance = self.extra_balance
        weights = {MESSAGE: balance, EXTRA: 1.0, EXTRA_COPY: 1.0}
        return CrossFit(vectorizer, rows, self.folds, self.cost, weights, _GATE)

    def network(self, mixture: Mixture, vectorizer: Vectorizer) -> "keras.Model":
        """Return the heads as a network from sparse rows to probabilities of ham and spam.

        Args:
            mixture: What the solver found.
            vectorizer: The fitted vectorizer.
        """
        assert isinstance(vectorizer, NgramVectorizer)
        return cross_fit.network(mixture, self.name, vectorizer.n_features)

    def linear_weights(self, network: "keras.Model") -> dict[str, np.ndarray]:
        """Return the heads of the network, to serve it without TensorFlow.

        Args:
            network: What the method `network` returned.

        Returns:
            `coefficients`, shape (features,), and `intercept`, shape (), float64; with additional
            messages, the same with the prefixes `extra_` and `gate_`.
        """
        return cross_fit.linear_weights(network)
