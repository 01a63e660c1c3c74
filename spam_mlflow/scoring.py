"""Scoring texts in a serving process: NumPy alone for linear models, Keras for the others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from spam_mlflow.classifier import METADATA_FILE, MODEL_FILE, TOKENIZER_FILE, Classifier
from spam_mlflow.vectorizers.ngram import NgramVectorizer

CLASSIFIER = "classifier"
"""Name of the artifact, inside the servable model, that holds a scorer's files."""

LINEAR_FILE = "linear-weights.npz"


class Scorer(Protocol):
    """Gives spam probabilities and knows the model's threshold."""

    threshold: float

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        ...


class LinearScorer:
    """A linear model without TensorFlow: sigmoid(row · coefficients + intercept)."""

    def __init__(self, folder: Path) -> None:
        """Read vectoriser, metadata and weights from `folder`."""
        state = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
        self._vectorizer = NgramVectorizer.from_dict(state)
        self.threshold = float(_metadata(folder)["threshold"])
        with np.load(folder / LINEAR_FILE, allow_pickle=False) as weights:
            self._coefficients = weights["coefficients"]
            self._intercept = float(weights["intercept"])

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        rows, columns, values = self._vectorizer.coordinates(texts)
        moved = np.bincount(rows, values * self._coefficients[columns], minlength=len(texts))
        # Logits beyond ±700 overflow exp; the probability is 0 or 1 long before.
        return 1 / (1 + np.exp(-np.clip(moved + self._intercept, -700, 700)))


class KerasScorer:
    """Any other model, through Keras but without the slow `predict` loop."""

    def __init__(self, folder: Path) -> None:
        """Read the classifier from `folder` and compile its network once."""
        import tensorflow as tf

        classifier = Classifier.load(folder)
        self.threshold = classifier.metadata.threshold
        self._vectorizer = classifier.vectorizer
        self._network = tf.function(classifier.network, reduce_retracing=True)

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        if not texts:
            return np.zeros(0)
        rows = self._vectorizer.transform(texts)
        return np.asarray(self._network(rows, training=False))[:, 1].astype(np.float64)


def load(folder: Path) -> Scorer:
    """Return the scorer for the files that `export` put into `folder`."""
    return LinearScorer(folder) if (folder / LINEAR_FILE).is_file() else KerasScorer(folder)


def export(classifier: Classifier, weights: dict[str, np.ndarray] | None, folder: Path) -> None:
    """Write what a scorer needs into `folder`: `weights` of a linear model, else the network."""
    classifier.save(folder)
    if weights is not None:
        np.savez(folder / LINEAR_FILE, **weights)  # type: ignore[arg-type]
        (folder / MODEL_FILE).unlink()


def _metadata(folder: Path) -> dict[str, float]:
    metadata: dict[str, float] = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    return metadata
