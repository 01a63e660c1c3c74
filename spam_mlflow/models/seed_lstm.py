"""The tutorial's recurrent network, layer by layer, as the figure to compare with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spam_mlflow import keras_backend
from spam_mlflow.vectorizers import Vectorizer
from spam_mlflow.vectorizers.sequence import SequenceVectorizer

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class SeedLstm:
    """Embedding, spatial dropout, one LSTM, softmax over ham and spam.

    max_words: vocabulary, padding included.
    max_sequence: words per text.
    embedding, units: dimensions of the embedding and of the LSTM's state.
    spatial_dropout, dropout, recurrent_dropout: shares dropped in training, 0 to 1.
    """

    name: str
    max_words: int
    max_sequence: int
    embedding: int
    units: int
    spatial_dropout: float
    dropout: float
    recurrent_dropout: float
    batch_size: int
    learning_rate: float

    def vectorizer(self) -> SequenceVectorizer:
        """Return a sequence vectoriser, not yet fitted."""
        return SequenceVectorizer(self.max_words, self.max_sequence)

    def build(self, vectorizer: Vectorizer, learning_rate: float, steps: int) -> "keras.Model":
        """Return a network from (rows, max_sequence) words to probabilities of shape (rows, 2)."""
        keras = keras_backend.load()
        layers = keras.layers
        lstm = layers.LSTM(
            self.units, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout
        )
        network = keras.Sequential(
            [
                keras.Input((self.max_sequence,), dtype="int32", name="words"),
                layers.Embedding(self.max_words, self.embedding),
                layers.SpatialDropout1D(self.spatial_dropout),
                lstm,
                layers.Dense(2, activation="softmax"),
            ],
            name=self.name,
        )
        network.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        )
        return network

    def calibrated(self, network: "keras.Model", inputs: Any, spam: np.ndarray) -> "keras.Model":
        """Return `network` as it is: the tutorial does not calibrate."""
        return network

    def linear_weights(self, network: "keras.Model") -> None:
        """Return None: the network is not linear."""
        return
