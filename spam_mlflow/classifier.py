"""A trained classifier and the three files it is stored in.

The files keep the tutorial's names: `spam-model.keras` (inputs to ham and spam probabilities),
`spam-classifier-tokenizer.json` (the vectoriser) and `spam-classifier-metadata.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spam_mlflow import keras_backend, vectorizers
from spam_mlflow.data.messages import LABELS
from spam_mlflow.errors import UserError
from spam_mlflow.text import NORMALISER_VERSION
from spam_mlflow.vectorizers import Vectorizer

if TYPE_CHECKING:
    import keras

MODEL_FILE = "spam-model.keras"
TOKENIZER_FILE = "spam-classifier-tokenizer.json"
METADATA_FILE = "spam-classifier-metadata.json"


def _legend() -> dict[str, int]:
    return {label: index for index, label in enumerate(LABELS)}


def _inverted_legend() -> dict[str, str]:
    return {str(index): label for index, label in enumerate(LABELS)}


@dataclass(frozen=True)
class Thresholds:
    """Spam probabilities from which a message counts as spam, both chosen on held-out rows.

    chosen: the model's own.
    low_fpr: for a ham false-positive rate of 0.2 %, at which recall is compared between models.
    """

    chosen: float
    low_fpr: float


@dataclass(frozen=True)
class Metadata:
    """What a reader of the files needs besides the network.

    architecture: the model's name in `conf/model`.
    threshold: spam probability from which a message is called spam.
    threshold_at_fpr_0_2pct: the one for a ham false-positive rate of 0.2 % on held-out rows.
    labels_legend: class name to class index; labels_legend_inverted: the reverse.
    max_words, max_sequence: of the vectoriser; max_sequence is None where length is unlimited.
    data_digest: SHA-256 (hex) of the messages it was made from.
    normaliser_version: of `spam_mlflow.text.normalise`.
    """

    architecture: str
    threshold: float
    threshold_at_fpr_0_2pct: float
    max_words: int
    max_sequence: int | None
    data_digest: str
    normaliser_version: str = NORMALISER_VERSION
    labels_legend: dict[str, int] = field(default_factory=_legend)
    labels_legend_inverted: dict[str, str] = field(default_factory=_inverted_legend)

    @property
    def thresholds(self) -> Thresholds:
        """Both thresholds."""
        return Thresholds(self.threshold, self.threshold_at_fpr_0_2pct)


@dataclass(frozen=True)
class Classifier:
    """Vectoriser, network and metadata that belong together."""

    vectorizer: Vectorizer
    network: "keras.Model"
    metadata: Metadata

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        rows = self.vectorizer.transform(texts)
        probabilities = self.network.predict(rows, batch_size=1024, verbose=0)
        return np.asarray(probabilities[:, 1], dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write the three files into `folder`, which is created where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save(folder / MODEL_FILE)
        state = json.dumps(self.vectorizer.to_dict(), ensure_ascii=False)
        (folder / TOKENIZER_FILE).write_text(state, encoding="utf-8")
        metadata = json.dumps(asdict(self.metadata), indent=2)
        (folder / METADATA_FILE).write_text(metadata + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Return the classifier stored in `folder`.

        Raises UserError where a file is missing or unreadable, or the normaliser has changed.
        """
        try:
            state = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
            metadata = Metadata(**json.loads((folder / METADATA_FILE).read_text(encoding="utf-8")))
            network = keras_backend.load().models.load_model(folder / MODEL_FILE, compile=False)
            vectorizer = vectorizers.from_dict(state)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"no complete classifier in {folder}: {error}") from error
        if metadata.normaliser_version != NORMALISER_VERSION:
            raise UserError(
                f"the classifier in {folder} expects normaliser {metadata.normaliser_version}, not "
                f"{NORMALISER_VERSION}; train it again or check out the code it came from"
            )
        return cls(vectorizer, network, metadata)
