"""Answers of the scoring server, with what was predicted put into the store before they are sent.

The server looks up its function `invocations` anew for each request; `Recorder` stands in its
place. Recording in the model itself would also record what the gate, `evaluate` and Spark score.
"""

import contextvars
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from spam_mlflow.drift.signals import signals
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import (
    DAY_SECONDS,
    Inference,
    id_seconds,
    new_id,
    timestamp,
)
from spam_mlflow.inference_store.store import Store
from spam_mlflow.scorer import request_bodies
from spam_mlflow.serving.served_model import ServedModel, ServedVersion

SOURCE = contextvars.ContextVar("SOURCE", default="api")
"""Where the messages of the request come from, as its client says."""

_JSON = "application/json"
_REPEAT_SECONDS = 60  # after which a failure of the store is logged again

logger = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the inferences since the server was started.

    Attributes:
        recorded: Inferences that are in the store.
        unrecorded: Inferences that were answered without, since the store failed.
        unchecked_feedback: Feedback that was taken while the store could not tell whether there is
            such an inference.
    """

    recorded: int = 0
    unrecorded: int = 0
    unchecked_feedback: int = 0


class _Answer:
    """An answer with additions at its end, and the attributes of MLflow's `InvocationsResponse`.

    Args:
        answer: The answer without them. Its response is read once more when the server reads this
            one, since a model may wait for that to see the server's event loop.
        additions: Members of the JSON object, such as '"a": 1'.
    """

    def __init__(self, answer: Any, additions: Sequence[str]) -> None:
        self._answer, self._additions = answer, additions
        self.status, self.mimetype = answer.status, answer.mimetype

    @property
    def response(self) -> str:
        """The JSON."""
        return ", ".join([self._answer.response.rstrip()[:-1], *self._additions]) + "}"


class Recorder:
    """Answers requests in the place of MLflow's function `invocations`, and records them.

    Args:
        served: The model that answers.
        store: Where inferences go; None for nowhere.
    """

    def __init__(self, served: ServedModel, store: Store | None) -> None:
        self._served, self._store = served, store
        self.counts = Counts()
        self._said = 0.0

    def __call__(self, data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
        """Return the answer to a request, with the attributes of MLflow's `InvocationsResponse`.

        Args:
            data: The request's body.
            content_type: Its content type; None if it has none.
            model: The model that the app was made with; the version served now answers instead.
            input_schema: That of its signature, likewise.
        """
        version = self._served.current
        schema = version.model.metadata.get_input_schema()
        answer = version.invocations(data, content_type, version.model, schema)
        if answer.status != HTTPStatus.OK or answer.mimetype != _JSON:
            return answer
        said = json.loads(answer.response)
        additions = []
        if "model" not in said:  # as of versions that MLflow's own code answers for
            model_said = {"name": version.name, "version": version.number}
            additions.append(f'"model": {json.dumps(model_said)}')
        if self._store is not None:
            ids = self._recorded(self._store, data, said["predictions"], version)
            additions.append(f'"inference_ids": {json.dumps(ids)}')
        return _Answer(answer, additions)

    def _recorded(
        self, store: Store, data: bytes, rows: list[dict[str, Any]], version: ServedVersion
    ) -> list[str | None] | None:
        """Store the rows of an answer, and return their IDs; None if the store fails.

        The ID of a row is None if the store fails after some rows.

        A message is answered in any case: who waits for it should not wait for the store.
        """
        inferences = list(_inferences(store, data, rows, version))
        try:
            stored = store.add(inferences)
        except UserError as error:
            self.counts.unrecorded += len(rows)
            if time.monotonic() > self._said + _REPEAT_SECONDS:
                self._said = time.monotonic()
                logger.error("Inferences are answered without being stored: %s", error)
            return None
        self.counts.recorded += stored
        self.counts.unrecorded += len(rows) - stored
        ids = [inference.id for inference in inferences[:stored]]
        return [*ids, *[None] * (len(rows) - stored)]


def _inferences(
    store: Store, data: bytes, rows: list[dict[str, Any]], version: ServedVersion
) -> Iterator[Inference]:
    texts, threshold = _asked(data, len(rows))
    for text, row in zip(texts, rows, strict=True):
        inference_id = new_id()
        # The day is that of the ID, or pages that go back day by day would leave rows out.
        seconds = id_seconds(inference_id)
        at = timestamp(seconds)
        sealed = store.texts.seal(text, inference_id)
        yield Inference(
            inference_id,
            at,
            at[:10],
            version.name,
            version.number,
            row["label"],
            row["spam_probability"],
            version.threshold if threshold is None else threshold,
            SOURCE.get(),
            int(seconds + store.days * DAY_SECONDS),
            sealed.form,
            sealed.text,
            sealed.digest,
            sealed.length,
            _signals(text, version),
            row["label"] if threshold is None else _predicted(row["spam_probability"], version),
        )


def _predicted(score: float, version: ServedVersion) -> str:
    """Return the label by the version's own threshold, which no client chooses."""
    return "spam" if score >= version.threshold else "ham"


def _signals(text: str | None, version: ServedVersion) -> str | None:
    """Return what drift is found by, as JSON; None without a text or a reference."""
    if text is None or version.drift is None:
        return None
    return signals(text, version.drift.words).to_json()


def _asked(data: bytes, count: int) -> tuple[Sequence[str | None], float | None]:
    """Return texts and threshold of a request; None where this code cannot read them.

    An older version is answered by MLflow's own code, which reads other forms than this one.
    """
    try:
        texts, params = request_bodies.read(data)
    except UserError:
        return [None] * count, None
    return (texts if len(texts) == count else [None] * count), params.threshold
