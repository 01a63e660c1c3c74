"""Neural networks over sequences of words: what they share, and two to compare the default with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spam_mlflow import batches, keras_backend
from spam_mlflow.vectorizers import Vectorizer
from spam_mlflow.vectorizers.sequence import SequenceVectorizer

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class SequenceNetwork:
    """From word numbers to probabilities of ham and spam; subclasses say through which layers.

    max_words: vocabulary, padding included.
    max_sequence: words per text.
    embedding: dimensions of a word's vector.
    """

    name: str
    max_words: int
    max_sequence: int
    embedding: int
    batch_size: int
    learning_rate: float
    folds: ClassVar[int] = 0
    by_length: ClassVar[bool] = True

    def vectorizer(self) -> SequenceVectorizer:
        """Return a sequence vectoriser, not yet fitted."""
        return SequenceVectorizer(self.max_words, self.max_sequence)

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return a network from (rows, words) integers to probabilities of shape (rows, 2)."""
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
        """Return the layers from word numbers to one vector per text; `layers` is keras.layers."""
        raise NotImplementedError

    def targets(self, spam: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Return the class index of each row, shape (rows, 1)."""
        return spam[:, None]

    def batches(
        self, inputs: Any, targets: np.ndarray, weights: np.ndarray, batch_size: int, seed: int
    ) -> dict[str, Any]:
        """Return batches of texts of like length, or of whole padded rows."""
        deal = batches.by_length if self.by_length else batches.whole
        return deal(inputs, targets, weights, batch_size)

    def validation(self, inputs: Any, spam: np.ndarray) -> dict[str, Any]:
        """Return whole padded rows, many at once."""
        return {"validation_data": (inputs, spam[:, None]), "validation_batch_size": 1024}

    def calibrated(
        self,
        network: "keras.Model",
        vectorizer: Vectorizer,
        inputs: Any,
        spam: np.ndarray,
        fold: np.ndarray,
    ) -> tuple["keras.Model", np.ndarray]:
        """Return `network` as it is and its scores: softmax probabilities are not recalibrated."""
        return network, network.predict(inputs, batch_size=1024, verbose=0)[:, 1]

    def linear_weights(self, network: "keras.Model") -> None:
        """Return None: the network is not linear."""
        return


@dataclass(frozen=True)
class Cnn(SequenceNetwork):
    """Convolution over words, then the maximum of each filter over the text (Kim 2014).

    filters, width: number of filters, and words that each spans.
    dropout: share of the values dropped in training, 0 to 1.
    """

    filters: int
    width: int
    dropout: float

    def hidden(self, layers: Any) -> list[Any]:
        """Return embedding, convolution and maximum."""
        return [
            layers.Embedding(self.max_words, self.embedding),
            layers.SpatialDropout1D(self.dropout),
            layers.Conv1D(self.filters, self.width, padding="same", activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dropout(self.dropout),
        ]


@dataclass(frozen=True)
class BiLstm(SequenceNetwork):
    """One LSTM in each direction; padding is masked.

    units: dimensions of the state in each direction.
    dropout: share of the values dropped in training, 0 to 1.
    """

    units: int
    dropout: float

    def hidden(self, layers: Any) -> list[Any]:
        """Return embedding and both LSTMs."""
        return [
            layers.Embedding(self.max_words, self.embedding, mask_zero=True),
            layers.SpatialDropout1D(self.dropout),
            layers.Bidirectional(layers.LSTM(self.units)),
            layers.Dropout(self.dropout),
        ]
