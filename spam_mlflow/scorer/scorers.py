"""Scoring texts in a serving process: with NumPy alone for linear models, else with Keras."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import word_spans
from .classifier import MODEL_FILE, TOKENIZER_FILE, Classifier, Metadata
from .errors import UserError
from .normalization import normalize
from .vectorizers.ngram import NgramVectorizer

CLASSIFIER = "classifier"
"""Name of the artifact in a logged model that holds the scorer's files."""

LINEAR_FILE = "linear-weights.npz"
CHECKSUMS_FILE = "checksums.json"
_HEADS = ("", "extra_", "gate_")  # prefixes of the weights of each linear function
_INTERCEPT = "intercept"
_NOT_LINEAR = "needs a linear model, such as ngram_linear; this one is not"
_EXPLAINED = 10  # features that an explanation names, those that moved the score most


class Scorer(Protocol):
    """Scores texts as the trained model does.

    Attributes:
        threshold: Spam probability from which a text is labeled spam.
    """

    threshold: float

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the spam probability of each text, shape (texts,), float64."""
        ...

    def scores_and_doubts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
        """Return the spam probabilities, and for each text why its score means little.

        Args:
            texts: Any strings.

        Returns:
            Array of shape (texts,), float64, and for each text a reason, None where it is like the
            texts that the model was trained on, or where the model cannot tell.
        """
        ...

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the features that moved each text's score.

        Args:
            texts: Any strings.

        Returns:
            For each text a list of dictionaries with the keys `feature` (its name) and
            `contribution`. The contributions sum to the text's logit, log(spam / ham probability).

        Raises:
            UserError: If the model is not linear, so that its scores are no sum over features.
        """
        ...

    def word_contributions(self, text: str) -> "WordContributions":
        """Return what each word of a text adds to its logit.

        Raises:
            UserError: As by `explanations`.
        """
        ...


@dataclass(frozen=True)
class WordContributions:
    """What the words of a text add to its logit, log(spam / ham probability).

    The sum of all contributions is the logit.

    Attributes:
        spans: Start and end of each word in the text, in characters; a word is a stretch without
            spaces. Those of the middle of a long text are missing, since it is not read.
        words: Contribution of each word: of its features, and its share of those that are in
            several words, shape (words,), float64.
        others: Contribution of each feature that is in no word, and of the intercept, by its name,
            the largest first.
    """

    spans: list[tuple[int, int]]
    words: np.ndarray
    others: dict[str, float]


class LinearScorer:
    """A linear model without TensorFlow: sigmoid(row · coefficients + intercept).

    There may be a second linear function, for texts of another kind, and a gate: the share, from 0
    to 1, that the second has in the log-odds of a text.

    Args:
        folder: Folder that `export` wrote, with a vectorizer, metadata and weights.

    Raises:
        UserError: For the reasons of `Metadata.read`.
    """

    def __init__(self, folder: Path) -> None:
        self.threshold = Metadata.read(folder).threshold
        state = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
        self._vectorizer = NgramVectorizer.from_dict(state)
        with np.load(folder / LINEAR_FILE, allow_pickle=False) as weights:
            heads = [name for name in _HEADS if f"{name}intercept" in weights]
            columns = np.column_stack([weights[f"{name}coefficients"] for name in heads])
            self._coefficients = np.asfortranarray(columns)  # columns are read one by one
            self._intercepts = np.array([float(weights[f"{name}intercept"]) for name in heads])

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the spam probability of each text, shape (texts,), float64."""
        return self.scores_and_doubts(texts)[0]

    def scores_and_doubts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
        """Return the spam probabilities, and for each text why its score means little."""
        products, doubts = self._vectorizer.dot_and_doubts(texts, self._coefficients)
        heads = products + self._intercepts
        return sigmoid((heads[:, :2] * self._shares(heads)).sum(axis=1)), doubts

    def _shares(self, heads: np.ndarray) -> np.ndarray:
        """Return the share of each expert in the log-odds, shape (texts, experts)."""
        if heads.shape[1] == 1:
            return np.ones_like(heads)
        gate = sigmoid(heads[:, 2])
        return np.column_stack([1 - gate, gate])

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the features that moved each text's score most; the others are summed up."""
        rows, columns, moved, intercepts = self._contributions(texts)
        order = np.lexsort((-np.abs(moved), rows))
        bounds = np.searchsorted(rows[order], np.arange(len(texts) + 1))
        explained = []
        for intercept, (start, end) in zip(intercepts, itertools.pairwise(bounds), strict=True):
            top = order[start : min(start + _EXPLAINED, end)]
            named = zip(self._vectorizer.names(columns[top]), moved[top].tolist(), strict=True)
            rest = [("all other features", moved[order[start + len(top) : end]].sum())]
            parts = [*named, *rest, (_INTERCEPT, intercept)]
            explained.append([{"feature": n, "contribution": float(c)} for n, c in parts])
        return explained

    def word_contributions(self, text: str) -> WordContributions:
        """Return what each word of a text adds to its logit."""
        normal = normalize(text)
        _, columns, moved, intercepts = self._contributions([text])
        chunks, places = self._vectorizer.places(normal)
        of_column = np.bincount(columns, moved, minlength=self._vectorizer.n_features)
        shares = np.bincount(places.columns, places.shares, minlength=len(of_column))
        parts = of_column[places.columns] * places.shares / shares[places.columns]
        of_chunk = np.bincount(places.chunks, parts, minlength=len(chunks))
        lengths = np.array(list(map(len, chunks)), dtype=np.int64)
        found = word_spans.find(text, normal)
        of_character = np.repeat(of_chunk / lengths, lengths)
        words = np.bincount(found.owners, of_character, minlength=len(found.spans))
        alone = np.flatnonzero((shares == 0) & (of_column != 0))
        named = zip(self._vectorizer.names(alone), of_column[alone].tolist(), strict=True)
        others = sorted([*named, (_INTERCEPT, float(intercepts[0]))], key=lambda one: -abs(one[1]))
        return WordContributions(found.spans, words, dict(others))

    def _contributions(
        self, texts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return what each feature of the texts adds to their logits.

        Returns:
            The row, column and contribution of each feature of a text, all of shape (entries,), and
            the intercept of each text, shape (texts,).
        """
        rows, columns, values = self._vectorizer.coordinates(texts)
        products = [
            np.bincount(rows, values * of_head[columns], minlength=len(texts))
            for of_head in self._coefficients.T
        ]
        shares = self._shares(np.column_stack(products) + self._intercepts)
        experts = self._coefficients[:, : shares.shape[1]]
        moved = values * (experts[columns] * shares[rows]).sum(axis=1)
        return rows, columns, moved, (self._intercepts[: shares.shape[1]] * shares).sum(axis=1)


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Return the probabilities of log-odds, in the same shape."""
    # Beyond ±700, exp would overflow; the probability is 0 or 1 long before that.
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -700, 700))))


class KerasScorer:
    """Any other model, through Keras but without its slow `predict` loop.

    Args:
        folder: Folder that `export` wrote, with a whole classifier.

    Raises:
        UserError: For the reasons of `Classifier.load`.
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        classifier = Classifier.load(folder)
        self.threshold = classifier.metadata.threshold
        self._vectorizer = classifier.vectorizer
        self._network = tf.function(classifier.network, reduce_retracing=True)

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the spam probability of each text, shape (texts,), float64."""
        if not texts:
            return np.zeros(0)
        rows = self._vectorizer.transform(texts)
        return np.asarray(self._network(rows, training=False))[:, 1].astype(np.float64)

    def scores_and_doubts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
        """Return the spam probabilities; a network cannot tell what it was not trained on."""
        return self.spam_probability(texts), [None] * len(texts)

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Refuse, since the scores of a network are no sum over features.

        Raises:
            UserError: In any case.
        """
        raise UserError(f"explain=true {_NOT_LINEAR}")

    def word_contributions(self, text: str) -> WordContributions:
        """Refuse, likewise.

        Raises:
            UserError: In any case.
        """
        raise UserError(f"what words contribute {_NOT_LINEAR}")


def load(folder: Path) -> Scorer:
    """Return the scorer of the files that `export` wrote to `folder`.

    Raises:
        UserError: If a file is missing or differs by a single byte from the one that was written,
            or if its format version is not the one that this code reads.
    """
    verify(folder)
    return LinearScorer(folder) if (folder / LINEAR_FILE).is_file() else KerasScorer(folder)


def export(classifier: Classifier, weights: dict[str, np.ndarray] | None, folder: Path) -> None:
    """Write the files that a scorer needs, with their checksums.

    Args:
        classifier: The trained classifier.
        weights: `coefficients`, shape (features,), and `intercept`, a scalar, of a linear model,
            with `extra_...` and `gate_...` where there are such functions; they are written instead
            of the network. None for any other model.
        folder: Folder for the files, which is created if it is missing.
    """
    classifier.save(folder)
    if weights is not None:
        np.savez(folder / LINEAR_FILE, **weights)  # type: ignore[arg-type]
        (folder / MODEL_FILE).unlink()
    checksums = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2) + "\n", encoding="utf-8")


def verify(folder: Path) -> None:
    """Check the files that `export` wrote to `folder` against their checksums.

    Raises:
        UserError: If a file is missing or has changed.
    """
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
