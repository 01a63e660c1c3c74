"""Recent inferences of messages that are like that of another one."""

import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import numpy as np

from spam_mlflow.data.shingles import ShingleSets
from spam_mlflow.inference_store.records import Filters, Inference
from spam_mlflow.inference_store.store import Store, is_full
from spam_mlflow.scorer.normalization import duplicate_key
from spam_mlflow.scorer.request_bodies import RefusedRequestError
from spam_mlflow.serving import exports

SEARCHED = 2_000
"""Inferences that are compared, the newest ones."""

SHOWN = 5
"""Similar inferences that are returned."""

JACCARD = 0.3
"""Similarity of sets of character 5-grams from which two messages are similar."""

_READ = 500  # characters of a text that are compared
_TOGETHER = 2_000_000  # characters of all texts that are read
_PAGE = 200  # inferences that are read at a time
_WAIT_SECONDS = 10  # for the search of another client

_turn = threading.Lock()  # searches would only slow each other and the answers down


def similar(store: Store, inference: Inference) -> dict[str, Any]:
    """Return the recent inferences whose messages are most like that of an inference.

    Where its text cannot be read, those of just the same message are found by their keyed hash.

    Args:
        store: The store.
        inference: One of its inferences.

    Returns:
        Under `inferences` up to SHOWN of them as `exports.shown` does, with their `similarity`,
        the most similar first, and of these the newest; under `found` how many there are, under
        `searched` how many were compared, and under `reason` why none could be; else None.

    Raises:
        RefusedRequestError: If other searches take too long.
    """
    text = store.texts.reveal(inference)
    if text is None and inference.text_hmac is None:
        why = f"the message is not stored (store.text={inference.text_form}), nor its hash"
        return {"inferences": [], "found": 0, "searched": 0, "reason": why}
    if not _turn.acquire(timeout=_WAIT_SECONDS):
        message = "other clients look for similar messages; try again in a few seconds"
        raise RefusedRequestError(HTTPStatus.SERVICE_UNAVAILABLE, message)
    try:
        others = [other for other in _recent(store) if other.id != inference.id]
        likeness = _by_hash(inference, others) if text is None else _by_text(store, text, others)
    finally:
        _turn.release()
    order = np.argsort(-likeness, kind="stable")
    found = int((likeness >= JACCARD).sum())
    best = order[: min(SHOWN, found)].tolist()
    rows = exports.shown(store, [others[at] for at in best])
    near = [row | {"similarity": float(likeness[at])} for at, row in zip(best, rows, strict=True)]
    return {"inferences": near, "found": found, "searched": len(others), "reason": None}


def _recent(store: Store) -> Iterator[Inference]:
    """Yield the newest inferences, as far as they may be read at once."""
    before, count, characters = None, 0, 0
    while count < SEARCHED and characters < _TOGETHER:
        page = store.page(Filters(), before, _PAGE)
        yield from page
        if not is_full(page, _PAGE):
            return
        before, count = page[-1].id, count + len(page)
        characters += sum(len(row.text or "") for row in page)


def _by_hash(inference: Inference, others: list[Inference]) -> np.ndarray:
    """Return 1 where the message is the same, else 0, shape (others,)."""
    same = [other.text_hmac == inference.text_hmac for other in others]
    return np.array(same, dtype=np.float64)


def _by_text(store: Store, text: str, others: list[Inference]) -> np.ndarray:
    """Return the Jaccard similarity of each message, 0 without a text, shape (others,)."""
    texts = [store.texts.reveal(other) for other in others]
    known = np.array([found is not None for found in texts], dtype=bool)
    keys = [duplicate_key(found[:_READ]) for found in (text, *texts) if found is not None]
    likeness = np.zeros(len(others))
    likeness[known] = ShingleSets.of(keys).jaccard_to(0)[1:]
    return likeness
