"""Scoring texts in a serving process: NumPy alone for linear models, Keras for the others."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spam_mlflow.classifier import METADATA_FILE, MODEL_FILE, TOKENIZER_FILE, Classifier
from spam_mlflow.errors import UserError
from spam_mlflow.vectorizers.ngram import NgramVectorizer

CLASSIFIER = "classifier"
"""Name of the artifact, inside the servable model, that holds a scorer's files."""

LINEAR_FILE = "linear-weights.npz"
CHECKSUMS_FILE = "checksums.json"
_EXPLAINED = 10  # features of a text that are named, those that moved its score most


class Scorer(Protocol):
    """Gives spam probabilities and knows the model's threshold."""

    threshold: float

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        ...

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return what moved each text's score: features by name, with their contributions.

        The contributions of a text sum to its logit, log(spam / ham probability).

        Raises UserError where the model's scores do not split into features.
        """
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
        logits = self._vectorizer.products(texts, self._coefficients) + self._intercept
        # Logits beyond ±700 overflow exp; the probability is 0 or 1 long before.
        return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the features that moved each text's score most, the others summed up."""
        rows, columns, values = self._vectorizer.coordinates(texts)
        moved = values * self._coefficients[columns]
        order = np.lexsort((-np.abs(moved), rows))
        bounds = np.searchsorted(rows[order], np.arange(len(texts) + 1))
        explained = []
        for start, end in itertools.pairwise(bounds):
            top = order[start : min(start + _EXPLAINED, end)]
            named = zip(self._vectorizer.names(columns[top]), moved[top].tolist(), strict=True)
            rest = [("all other features", moved[order[start + len(top) : end]].sum())]
            parts = [*named, *rest, ("intercept", self._intercept)]
            explained.append([{"feature": n, "contribution": float(c)} for n, c in parts])
        return explained


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

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Raise UserError."""
        raise UserError("explain=true needs a linear model, such as ngram_linear; this one is not")


def load(folder: Path) -> Scorer:
    """Return the scorer for the files that `export` put into `folder`.

    Raises UserError where a file is missing or differs from what was written by a single byte.
    """
    verify(folder)
    return LinearScorer(folder) if (folder / LINEAR_FILE).is_file() else KerasScorer(folder)


def export(classifier: Classifier, weights: dict[str, np.ndarray] | None, folder: Path) -> None:
    """Write what a scorer needs into `folder`: `weights` of a linear model, else the network."""
    classifier.save(folder)
    if weights is not None:
        np.savez(folder / LINEAR_FILE, **weights)  # type: ignore[arg-type]
        (folder / MODEL_FILE).unlink()
    checksums = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2) + "\n", encoding="utf-8")


def verify(folder: Path) -> None:
    """Raise UserError where a file that `export` put into `folder` is missing or has changed."""
    try:
        checksums = json.loads((folder / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        changed = [name for name, known in checksums.items() if sha256(folder / name) != known]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"the model in {folder} is incomplete or damaged: {error}") from error
    if changed:
        raise UserError(
            f"{', '.join(changed)} in {folder} has changed since the model was logged; restore "
            "the artifact, or register the model again"
        )


def sha256(file: Path) -> str:
    """Return the SHA-256 of the content of `file` in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _metadata(folder: Path) -> dict[str, float]:
    metadata: dict[str, float] = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    return metadata
