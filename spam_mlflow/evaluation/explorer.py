"""The data of a report's threshold slider and message browser."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spam_mlflow.evaluation import slices
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.scorer.normalization import unescaped
from spam_mlflow.scorer.scorers import Scorer

_SHOWN_TEXTS = 20_000  # messages whose text is in the page
_DETAILED = 400  # messages whose features and neighbors are in the page
_FEATURES = 6  # of a message
_FAINT = 0.05  # share of the largest contribution of a word up to which others are left out
_NEIGHBORS = 3
_SEARCHED = 20_000  # training messages among which neighbors are looked for
_NO_FEATURE = ("all other features", "intercept")


@dataclass(frozen=True)
class ModelScores:
    """A model's scores of the messages.

    Attributes:
        name: Name of the model or run.
        scores: Spam probabilities, shape (rows,).
        threshold: Spam probability from which a message is labeled spam.
        estimated: Whether the threshold is only known to lie between two scores.
    """

    name: str
    scores: np.ndarray
    threshold: float
    estimated: bool = False


def data(
    frame: pd.DataFrame,
    models: Sequence[ModelScores],
    scorer: Scorer | None = None,
    training: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return what the page's script reads.

    Args:
        frame: The messages, with columns `text`, `label` and `source`.
        models: The models that scored them, at least one. Messages whose text, features and
            neighbors are shown are those that the first one gets most wrong, or nearly does.
        scorer: The first model's, if it can tell what moved its scores; else None.
        training: Messages that the first model was trained on, among which similar ones are looked
            for, with columns `text` and `label`; None if they are not at hand.
    """
    first = models[0]
    spam = is_spam(frame["label"])
    order = _order(first, spam)
    texts = list(frame["text"])
    detailed = [int(row) for row in order[:_DETAILED]]
    chosen = [texts[row] for row in detailed]
    features = scorer.explanations(chosen) if scorer else [[] for _ in detailed]
    words = _words_of(scorer, chosen) if scorer else [[] for _ in detailed]
    near = _neighbors(chosen, training) if training is not None else [[] for _ in detailed]
    sources, source = np.unique(frame["source"].astype(str), return_inverse=True)
    masks = [(name, mask) for name, mask in slices.masks(frame) if mask.any()]
    shown = set(order[:_SHOWN_TEXTS].tolist())
    return {
        "models": [
            {
                "name": m.name,
                "threshold": float(m.threshold),
                "estimated": m.estimated,
                "scores": m.scores.tolist(),
            }
            for m in models
        ],
        "spam": spam.astype(int).tolist(),
        "texts": [unescaped(t) if row in shown else None for row, t in enumerate(texts)],
        "sources": sources.tolist(),
        "source": source.tolist(),
        "slices": [name for name, _ in masks],
        "rows": [np.flatnonzero(mask).tolist() for _, mask in masks],
        "features": {row: _top(parts) for row, parts in zip(detailed, features, strict=True)},
        "words": dict(zip(detailed, words, strict=True)),
        "near": dict(zip(detailed, near, strict=True)),
    }


def as_script(values: dict[str, Any]) -> str:
    """Return data as JSON that may stand between the tags of a script element."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    # A text may hold "</script>" or "<!--"; both end or change the element.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _order(model: ModelScores, spam: np.ndarray) -> np.ndarray:
    """Return the rows: errors first, the most confident of them first, then the closest calls."""
    distance = np.abs(model.scores - model.threshold)
    wrong = (model.scores >= model.threshold) != spam
    return np.lexsort((np.where(wrong, -distance, distance), ~wrong))


def _top(parts: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """Return the names and contributions of the features that moved a score most."""
    named = [part for part in parts if part["feature"] not in _NO_FEATURE]
    return [(part["feature"], round(part["contribution"], 3)) for part in named[:_FEATURES]]


def _words_of(scorer: Scorer, texts: Sequence[str]) -> list[list[tuple[int, int, float]]]:
    """Return start, end and contribution of each word that moved the score of its text visibly."""
    moved = []
    for found in scorer.word_contributions([unescaped(text) for text in texts]):
        faint = _FAINT * np.abs(found.words).max(initial=0)
        words = zip(found.spans, np.round(found.words, 3).tolist(), strict=True)
        moved.append([(*span, value) for span, value in words if abs(value) > faint])
    return moved


def _neighbors(texts: Sequence[str], training: pd.DataFrame) -> list[list[tuple[str, str, float]]]:
    """Return text, label and similarity of the training messages that are most like each text.

    Messages are alike if they share words that are rare: the cosine of TF-IDF vectors.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = training.head(_SEARCHED)
    if not texts or known.empty:
        return [[] for _ in texts]
    vectorizer = TfidfVectorizer(analyzer=_words, sublinear_tf=True, dtype=np.float32)
    try:
        matrix = vectorizer.fit_transform(known["text"])
    except ValueError:  # no message has any word
        return [[] for _ in texts]
    likeness = (vectorizer.transform(texts) @ matrix.T).toarray()
    best = _largest(likeness, _NEIGHBORS)
    names, labels = list(known["text"]), list(known["label"])
    return [
        [
            (unescaped(names[at]), labels[at], round(float(likeness[row, at]), 2))
            for at in nearest
            if likeness[row, at] > 0
        ]
        for row, nearest in enumerate(best)
    ]


def _largest(values: np.ndarray, number: int) -> np.ndarray:
    """Return the columns of the largest values of each row, the largest first.

    This is many times faster than sorting all columns.

    Args:
        values: None of them is negative, shape (rows, columns).
        number: How many columns to return, if there are so many.
    """
    left, found = values.copy(), []
    for _ in range(min(number, values.shape[1])):
        found.append(left.argmax(axis=1))
        left[np.arange(len(left)), found[-1]] = -1
    return np.column_stack(found)


def _words(text: str) -> list[str]:
    return text.lower().split()
