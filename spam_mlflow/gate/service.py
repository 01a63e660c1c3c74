"""Checks of the scoring server's answers to every form of payload, odd texts and bad requests."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spam_mlflow.config.schema import GateSettings
from spam_mlflow.gate.check import Check, Scored, check
from spam_mlflow.gate.scoring_server import ScoringServer
from spam_mlflow.scorer.labels import LABELS

TEXT = "Free entry in a weekly competition, text WIN to 80086"
"""A message to send if any message will do."""

_ODD_TEXTS = (
    "",
    " ",
    "\U0001f600",
    "\u05e9\u05dc\u05d5\u05dd \u202exyz",
    "a\x00b",
    "a b " * 25_000,
)
BAD_BODIES: Mapping[str, Any] = {
    "empty body": "",
    "broken JSON": "{nonsense",
    "null": {"dataframe_records": [{"text": None}]},
    "number": {"inputs": [5]},
    "missing column": {"dataframe_records": [{"body": "x"}]},
}
"""Bodies that a server must refuse, by the reason."""


def service_checks(
    scored: Scored, server: ScoringServer, fresh: np.ndarray, settings: GateSettings
) -> Iterator[Check]:
    """Check the scoring server's answers.

    Args:
        scored: The version's scores from its server.
        server: Serves the version.
        fresh: Spam probabilities of the same messages from a fresh interpreter, shape (rows,).
        settings: Bounds of the checks.

    Yields:
        The results for parity with scores outside of a server, every form of payload, odd texts,
        and bad requests.
    """
    gap = float(np.abs(fresh - scored.scores).max())
    yield check(
        "service: parity",
        gap <= settings.parity,
        gap,
        f"<= {settings.parity}",
        "largest gap between the server's scores and those of a fresh interpreter",
    )
    (expected,) = server.spam_probability([TEXT])
    for name, body in _payloads(TEXT).items():
        answer = server.post(body)
        found = answer.json()["predictions"][0] if answer.ok else {}
        gap = abs(found.get("spam_probability", math.inf) - expected)
        yield check(
            f"service: payload {name}",
            gap <= settings.parity,
            answer.status_code,
            "200",
            "answered, with the score of the other payloads",
        )
    odd = server.score({"inputs": list(_ODD_TEXTS)})
    sound = all(0 <= row["spam_probability"] <= 1 and row["label"] in LABELS for row in odd)
    yield check(
        "service: odd texts",
        sound and len(odd) == len(_ODD_TEXTS),
        len(odd),
        str(len(_ODD_TEXTS)),
        "empty, emoji, right-to-left, NUL, 100 kB: labeled, 0 to 1",
    )
    for name, body in BAD_BODIES.items():
        answer = server.post(body)
        refused = answer.status_code == 400 and "Traceback" not in answer.text
        yield check(
            f"service: {name} refused", refused, answer.status_code, "400", "without a traceback"
        )


def _payloads(text: str) -> dict[str, Any]:
    return {
        "dataframe_split": {"dataframe_split": {"columns": ["text"], "data": [[text]]}},
        "dataframe_records": {"dataframe_records": [{"text": text}]},
        "inputs": {"inputs": {"text": [text]}},
        "inputs, list": {"inputs": [text]},
        "instances": {"instances": [{"text": text}]},
        "instances, list": {"instances": [text]},
    }
