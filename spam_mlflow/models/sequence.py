"""Neural networks over sequences of words, to compare the default model with."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, Positive, PositiveCount
from spam_mlflow.models import input_pipelines
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.vectorizers import Vectorizer
from spam_mlflow.scorer.vectorizers.sequence import SequenceVectorizer

if TYPE_CHECKING:
    import keras

Dropped = Annotated[float, Field(ge=0, lt=1)]
"""Fraction of the values that are dropped in training."""


@dataclass(frozen=True, config=CONFIG)
class SequenceNetwork:
    """A network from word numbers to probabilities; subclasses define the layers between.

    Attributes:
        name: Name of the model in run names and the model card.
        max_words: Size of the vocabulary, padding included.
        max_sequence: Words per text.
        embedding: Dimensions of a word's vector.
        dropout: Fraction of the values dropped in training, 0 to 1.
        batch_size: Messages per step.
        learning_rate: Learning rate of Adam.
        folds: 0, since these networks are not cross-fitted.
        by_length: Whether batches hold texts of similar length instead of texts that are all padded
            to `max_sequence`.
    """

    name: str
    max_words: Annotated[int, Field(ge=2)]
    max_sequence: PositiveCount
    embedding: PositiveCount
    dropout: Dropped
    batch_size: PositiveCount
    learning_rate: Positive
    folds: ClassVar[int] = 0
    by_length: ClassVar[bool] = True

    def vectorizer(self) -> SequenceVectorizer:
        """Return a new sequence vectorizer, not yet fitted."""
        return SequenceVectorizer(self.max_words, self.max_sequence)

    def build(self, vectorizer: Vectorizer, learning_rate: float) -> "keras.Model":
        """Return the network, compiled for training.

        Args:
            vectorizer: Not used; the settings give the shape of its output.
            learning_rate: Learning rate of Adam.

        Returns:
            A network from word numbers of shape (rows, words), int32, to probabilities of ham and
            spam, shape (rows, 2).
        """
        keras = keras_backend.load()
        length = None if self.by_length else self.max_sequence
        network = keras.Sequential(
            [
                keras.Input((length,), dtype="int32", name="words"),
                *self.hidden(keras.layers),
                keras.layers.Dense(2, activation="softmax"),
            ],
            name=self.name,
        )
        network.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        )
        return network

    def hidden(self, layers: Any) -> list[Any]:
        """Return the layers from word numbers to one vector per text.

        Args:
            layers: The module `keras.layers`, which is slow to import.
        """
        raise NotImplementedError

    def batches(
        self, inputs: Any, spam: np.ndarray, weights: np.ndarray, batch_size: int
    ) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` that feed it the training rows in batches.

        The global random seed determines the order.

        Args:
            inputs: Word numbers, shape (rows, words), int32; 0 is padding.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
            weights: Weight of each row in the loss; shape (rows,).
            batch_size: Messages per step.
        """
        batch = input_pipelines.bucket_by_length if self.by_length else input_pipelines.from_arrays
        return batch(inputs, spam[:, None], weights, batch_size)

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return the arguments of Keras's `fit` for the validation after each epoch.

        Args:
            inputs: Word numbers of the validation part, shape (rows, words), int32.
            spam: 1 for spam, 0 for ham; shape (rows,), float32.
        """
        return {"validation_data": (inputs, spam[:, None]), "validation_batch_size": 1024}

    def linear_weights(self, network: "keras.Model") -> None:
        """Return None: the network is not linear."""
        return


@dataclass(frozen=True, config=CONFIG)
class Cnn(SequenceNetwork):
    """Convolution over words, then the maximum of each filter over the text (Kim 2014).

    Attributes:
        filters: Number of filters.
        width: Words that each filter spans.
    """

    filters: PositiveCount
    width: PositiveCount

    def hidden(self, layers: Any) -> list[Any]:
        """Return embedding, convolution and maximum.

        Args:
            layers: The module `keras.layers`.
        """
        return [
            layers.Embedding(self.max_words, self.embedding),
            layers.SpatialDropout1D(self.dropout),
            layers.Conv1D(self.filters, self.width, padding="same", activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dropout(self.dropout),
        ]


@dataclass(frozen=True, config=CONFIG)
class BiLstm(SequenceNetwork):
    """A bidirectional LSTM; padding is masked.

    Attributes:
        units: Dimensions of the state in each direction.
    """

    units: PositiveCount

    def hidden(self, layers: Any) -> list[Any]:
        """Return embedding and both LSTMs.

        Args:
            layers: The module `keras.layers`.
        """
        return [
            layers.Embedding(self.max_words, self.embedding, mask_zero=True),
            layers.SpatialDropout1D(self.dropout),
            layers.Bidirectional(layers.LSTM(self.units)),
            layers.Dropout(self.dropout),
        ]
