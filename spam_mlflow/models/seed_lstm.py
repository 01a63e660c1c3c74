"""The tutorial's recurrent network, layer by layer, as the figure to compare with."""

from dataclasses import dataclass
from typing import Any, ClassVar

from spam_mlflow.models.sequence import SequenceNetwork


@dataclass(frozen=True)
class SeedLstm(SequenceNetwork):
    """Embedding, spatial dropout, one LSTM, softmax over ham and spam.

    units: dimensions of the LSTM's state.
    spatial_dropout, dropout, recurrent_dropout: shares dropped in training, 0 to 1.
    """

    units: int
    spatial_dropout: float
    dropout: float
    recurrent_dropout: float
    by_length: ClassVar[bool] = False  # the tutorial pads every text to max_sequence

    def hidden(self, layers: Any) -> list[Any]:
        """Return the tutorial's layers."""
        return [
            layers.Embedding(self.max_words, self.embedding),
            layers.SpatialDropout1D(self.spatial_dropout),
            layers.LSTM(self.units, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout),
        ]
