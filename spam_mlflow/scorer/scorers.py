"""Scoring texts in a serving process: with NumPy alone for linear models, else with Keras."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from . import word_spans
from .batches import batches
from .classifier import MODEL_FILE, TOKENIZER_FILE, Classifier, Metadata
from .errors import UserError
from .normalization import normalize
from .vectorizers.ngram import NgramVectorizer
from .vectorizers.sparse_rows import Coordinates, Places

CLASSIFIER = "classifier"
"""Name of the artifact in a logged model that holds the scorer's files."""

LINEAR_FILE = "linear-weights.npz"
CHECKSUMS_FILE = "checksums.json"
_COLUMN_BITS = 32  # of a number that stands for a text and a column
_HEADS = ("", "extra_", "gate_")  # prefixes of the weights of each linear function
_INTERCEPT = "intercept"
_NOT_LINEAR = "needs a linear model, such as ngram_linear; this one is not"
_EXPLAINED = 10  # features that an explanation names, those that moved the score most
_AT_ONCE = 500, 25_000  # texts and characters whose features' places are in memory together


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

    def word_contributions(self, texts: Sequence[str]) -> "list[WordContributions]":
        """Return what each word of each text adds to the text's logit.

        Args:
            texts: Any strings.

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
        vectorizer: The fitted vectorizer.
        threshold: Spam probability from which a text is labeled spam.
        weights: As for `export`.
    """

    def __init__(
        self, vectorizer: NgramVectorizer, threshold: float, weights: Mapping[str, np.ndarray]
    ) -> None:
        self._vectorizer, self.threshold = vectorizer, threshold
        heads = [name for name in _HEADS if f"{name}intercept" in weights]
        columns = np.column_stack([weights[f"{name}coefficients"] for name in heads])
        self._coefficients = np.asfortranarray(columns)  # columns are read one by one
        self._intercepts = np.array([float(weights[f"{name}intercept"]) for name in heads])

    @classmethod
    def load(cls, folder: Path) -> "LinearScorer":
        """Return the scorer of the files that `export` wrote to `folder`.

        Raises:
            UserError: For the reasons of `Metadata.read`.
        """
        threshold = Metadata.read(folder).threshold
        state = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
        with np.load(folder / LINEAR_FILE, allow_pickle=False) as weights:
            return cls(NgramVectorizer.from_dict(state), threshold, weights)

    @classmethod
    def of(cls, classifier: Classifier, weights: Mapping[str, np.ndarray]) -> "LinearScorer":
        """Return the scorer of a trained classifier, as if it was exported and loaded.

        Args:
            classifier: The classifier, whose vectorizer is an `NgramVectorizer`.
            weights: As for `export`.
        """
        assert isinstance(classifier.vectorizer, NgramVectorizer)  # no other model is linear
        return cls(classifier.vectorizer, classifier.metadata.threshold, weights)

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
        rows, columns, moved, intercepts = self._contributions(list(map(normalize, texts)))
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(len(texts) + 1))
        explained = []
        for intercept, (start, end) in zip(intercepts, itertools.pairwise(bounds), strict=True):
            of_text = order[start:end]
            largest_first = of_text[np.argsort(-np.abs(moved[of_text]), kind="stable")]
            top, others = np.split(largest_first, [_EXPLAINED])
            named = zip(self._vectorizer.names(columns[top]), moved[top].tolist(), strict=True)
            rest = [("all other features", moved[others].sum())]
            parts = [*named, *rest, (_INTERCEPT, intercept)]
            explained.append([{"feature": n, "contribution": float(c)} for n, c in parts])
        return explained

    def word_contributions(self, texts: Sequence[str]) -> list[WordContributions]:
        """Return what each word of each text adds to the text's logit."""
        return [found for few in batches(texts, *_AT_ONCE) for found in self._of_words(few)]

    def _of_words(self, texts: Sequence[str]) -> Iterator[WordContributions]:
        normal = list(map(normalize, texts))
        *moved, intercepts = self._contributions(normal)
        chunks, places = self._vectorizer.places(normal)
        text_of_chunk = np.repeat(np.arange(len(texts)), list(map(len, chunks)))
        of_chunk, (rows, columns, values) = _shared_out(moved, places, text_of_chunk)
        others: list[dict[str, float]] = [{} for _ in texts]
        named = zip(self._vectorizer.names(columns), values.tolist(), strict=True)
        for row, (name, value) in zip(rows.tolist(), named, strict=True):
            others[row][name] = value
        words = _in_words(texts, normal, chunks, of_chunk)
        for of_text, rest, intercept in zip(words, others, intercepts.tolist(), strict=True):
            parts = (rest | {_INTERCEPT: intercept}).items()
            largest_first = sorted(parts, key=lambda part: -abs(part[1]))
            yield WordContributions(*of_text, dict(largest_first))

    def _contributions(
        self, normal: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return what each feature of normalized texts adds to their logits.

        Returns:
            The row, column and contribution of each feature of a text, all of shape (entries,), and
            the intercept of each text, shape (texts,).
        """
        rows, columns, values = self._vectorizer.coordinates(normal)
        products = [
            np.bincount(rows, values * of_head[columns], minlength=len(normal))
            for of_head in self._coefficients.T
        ]
        shares = self._shares(np.column_stack(products) + self._intercepts)
        experts = self._coefficients[:, : shares.shape[1]]
        moved = values * (experts[columns] * shares[rows]).sum(axis=1)
        return rows, columns, moved, (self._intercepts[: shares.shape[1]] * shares).sum(axis=1)


def _shared_out(
    moved: Sequence[np.ndarray], places: Places, text_of_chunk: np.ndarray
) -> tuple[np.ndarray, Coordinates]:
    """Return what each chunk adds to its text's logit, and the features that are in no chunk.

    Args:
        moved: Row, column and contribution of each feature of a text, all of shape (entries,).
        places: Where the features are.
        text_of_chunk: Position of each chunk's text, shape (chunks,), int64.

    Returns:
        Array of shape (chunks,), float64; and of the features that are in no chunk and contribute
        anything, the same as in `moved`.
    """
    rows, columns, values = moved
    both = (rows, columns), (text_of_chunk[places.chunks], places.columns)
    keys = [owners << _COLUMN_BITS | of_owners for owners, of_owners in both]
    numbers, distinct = pd.factorize(np.concatenate(keys))
    of_entries, of_places = np.split(numbers, [len(rows)])
    whole = np.bincount(of_entries, values, minlength=len(distinct))
    shares = np.bincount(of_places, places.shares, minlength=len(distinct))
    parts = whole[of_places] * places.shares / shares[of_places]
    in_none = (shares[of_entries] == 0) & (values != 0)
    of_chunk = np.bincount(places.chunks, parts, minlength=len(text_of_chunk))
    return of_chunk, (rows[in_none], columns[in_none], values[in_none])


def _in_words(
    texts: Sequence[str],
    normal: Sequence[str],
    chunks: Sequence[Sequence[str]],
    of_chunk: np.ndarray,
) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
    """Yield the words of each text and their contributions, as `WordContributions` has them.

    Args:
        texts: The texts as they were written.
        normal: The same after `normalize`.
        chunks: The chunks of each.
        of_chunk: What each chunk of all texts contributes, shape (chunks,), float64.
    """
    lengths = np.array([len(chunk) for of_text in chunks for chunk in of_text], dtype=np.int64)
    of_character = np.repeat(of_chunk / lengths, lengths)
    start = 0
    for text, read in zip(texts, normal, strict=True):
        found = word_spans.find(text, read)
        here = of_character[start : start + len(found.owners)]
        yield found.spans, np.bincount(found.owners, here, minlength=len(found.spans))
        start += len(found.owners)


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
        """Return the spam probabilities, and for each text why its score means little."""
        return self.spam_probability(texts), self._vectorizer.doubts(texts)

    def explanations(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Refuse, since the scores of a network are no sum over features.

        Raises:
            UserError: In any case.
        """
        raise UserError(f"explain=true {_NOT_LINEAR}")

    def word_contributions(self, texts: Sequence[str]) -> list[WordContributions]:
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
    return LinearScorer.load(folder) if (folder / LINEAR_FILE).is_file() else KerasScorer(folder)


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
