"""The tutorial's recurrent network, layer by layer, as the baseline to compare with."""

from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, PositiveCount
from spam_mlflow.models.sequence import Dropped, SequenceNetwork


@dataclass(frozen=True, config=CONFIG)
class TutorialLstm(SequenceNetwork):
    """Embedding, spatial dropout, one LSTM, softmax over ham and spam.

    Attributes:
        units: Dimensions of the LSTM's state.
        spatial_dropout: Fraction of the embedding's dimensions dropped in training, 0 to 1.
        recurrent_dropout: Fraction of the LSTM's recurrent state dropped in training, 0 to 1.
    """

    units: PositiveCount
    spatial_dropout: Dropped
    recurrent_dropout: Dropped
    by_length: ClassVar[bool] = False  # the tutorial pads every text to max_sequence

    def hidden(self, layers: Any) -> list[Any]:
        """Return the tutorial's layers.

        Args:
            layers: The module `keras.layers`.
        """
        return [
            layers.Embedding(self.max_words, self.embedding),
            layers.SpatialDropout1D(self.spatial_dropout),
            layers.LSTM(self.units, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout),
        ]
