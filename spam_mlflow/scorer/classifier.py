"""A trained classifier and the three files that it is stored in.

The files keep the tutorial's names: `spam-model.keras` (the network, from a vectorizer's rows to
ham and spam probabilities), `spam-classifier-tokenizer.json` (the vectorizer) and
`spam-classifier-metadata.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import keras_backend, vectorizers
from .batches import batches
from .errors import UserError
from .labels import LABELS
from .normalization import NORMALIZER_VERSION
from .vectorizers import Vectorizer

if TYPE_CHECKING:
    import keras

MODEL_FILE = "spam-model.keras"
TOKENIZER_FILE = "spam-classifier-tokenizer.json"
METADATA_FILE = "spam-classifier-metadata.json"

FORMAT_VERSION = 3
"""Version of the format of a model's files; raised whenever older code would misread them."""

_READABLE = (2, FORMAT_VERSION)  # format 3 added signals and a second expert, which may be missing


def _legend() -> dict[str, int]:
    return {label: index for index, label in enumerate(LABELS)}


def _inverted_legend() -> dict[str, str]:
    return {str(index): label for index, label in enumerate(LABELS)}


@dataclass(frozen=True)
class Thresholds:
    """Spam probabilities from which a message is labeled spam, chosen on out-of-fold scores.

    Attributes:
        chosen: The model's own threshold.
        low_fpr: The threshold for a ham false-positive rate of 0.2 %, at which the recall of
            models is compared.
    """

    chosen: float
    low_fpr: float


@dataclass(frozen=True)
class Metadata:
    """What a reader of the files needs besides the vectorizer and the network.

    Attributes:
        architecture: The model's name in `conf/model`.
        threshold: Spam probability from which a message is labeled spam.
        threshold_at_fpr_0_2pct: The same for a ham false-positive rate of 0.2 %.
        max_words: Size limit of the vectorizer's vocabulary; 0 means no limit.
        max_sequence: Number of words of a text that the model reads; None means all.
        data_digest: SHA-256 (hex) of the messages that the model was trained on.
        format_version: FORMAT_VERSION of the code that wrote the files.
        normalizer_version: NORMALIZER_VERSION of the code that the model was trained with.
        labels_legend: Class index by class name.
        labels_legend_inverted: Class name by class index, which is a string.
    """

    architecture: str
    threshold: float
    threshold_at_fpr_0_2pct: float
    max_words: int
    max_sequence: int | None
    data_digest: str
    format_version: int = FORMAT_VERSION
    normalizer_version: str = NORMALIZER_VERSION
    labels_legend: dict[str, int] = field(default_factory=_legend)
    labels_legend_inverted: dict[str, str] = field(default_factory=_inverted_legend)

    @property
    def thresholds(self) -> Thresholds:
        """Both thresholds."""
        return Thresholds(self.threshold, self.threshold_at_fpr_0_2pct)

    @classmethod
    def read(cls, folder: Path) -> "Metadata":
        """Return the metadata stored in `folder`.

        Args:
            folder: Folder with the classifier's files.

        Raises:
            UserError: If the file is missing or unreadable, or was written for a format or
                normalizer other than this code's.
        """
        try:
            values = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
            versions = values.get("format_version", 1), values.get("normalizer_version")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"no readable {METADATA_FILE} in {folder}: {error}") from error
        expected = _READABLE, (NORMALIZER_VERSION,)
        for name, found, ours in zip(("format", "normalizer"), versions, expected, strict=True):
            if found not in ours:
                raise UserError(
                    f"the model in {folder} has {name} version {found}, but this code reads "
                    f"{ours[-1]}; load it by its model URI, which brings its own code, or train "
                    "again"
                )
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"no readable {METADATA_FILE} in {folder}: {error}") from error


@dataclass(frozen=True)
class Classifier:
    """A vectorizer, a network and metadata that belong together.

    Attributes:
        vectorizer: Turns texts into the network's inputs.
        network: Turns inputs into probabilities of ham and spam, shape (texts, 2), float32.
        metadata: The thresholds and versions to score with.
    """

    vectorizer: Vectorizer
    network: "keras.Model"
    metadata: Metadata

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the spam probability of each text, shape (texts,), float64."""
        # In batches, since Keras copies all rows that it is given.
        parts = [
            self.network.predict(self.vectorizer.transform(part), batch_size=1024, verbose=0)
            for part in batches(texts)
        ]
        return np.concatenate(parts)[:, 1].astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write the three files into `folder`, which is created if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save(folder / MODEL_FILE)
        state = json.dumps(self.vectorizer.to_dict(), ensure_ascii=False)
        (folder / TOKENIZER_FILE).write_text(state, encoding="utf-8")
        metadata = json.dumps(asdict(self.metadata), indent=2)
        (folder / METADATA_FILE).write_text(metadata + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Return the classifier that `save` wrote to `folder`.

        Raises:
            UserError: If a file is missing or unreadable, or for the reasons of `Metadata.read`.
        """
        metadata = Metadata.read(folder)
        try:
            state = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
            network = keras_backend.load().models.load_model(folder / MODEL_FILE, compile=False)
            vectorizer = vectorizers.from_dict(state)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"no complete classifier in {folder}: {error}") from error
        return cls(vectorizer, network, metadata)
