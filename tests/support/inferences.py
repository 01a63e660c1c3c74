"""Inferences and feedback that tests put into stores."""

import time
from typing import Any

from spam_mlflow.inference_store.records import DAY_SECONDS, Feedback, Inference, new_id, timestamp
from spam_mlflow.inference_store.texts import TextPolicy


def inference(text: str = "hello", texts: TextPolicy | None = None, **changes: Any) -> Inference:
    """Return an inference that was made now."""
    made = changes.pop("id", None) or new_id()
    at = timestamp(time.time())
    sealed = (texts or TextPolicy("plain")).seal(text, made)
    values: dict[str, Any] = {
        "at": at,
        "day": at[:10],
        "model_name": "spam-classifier",
        "model_version": "1",
        "label": "ham",
        "spam_probability": 0.25,
        "threshold": 0.5,
        "source": "test",
        "expires": int(time.time()) + DAY_SECONDS,
        "text_form": sealed.form,
        "text": sealed.text,
        "text_hmac": sealed.digest,
        "text_length": sealed.length,
    }
    return Inference(made, **(values | changes))


def feedback(inference_id: str, label: str = "spam", **changes: Any) -> Feedback:
    """Return feedback that was given now."""
    at = timestamp(time.time())
    values: dict[str, Any] = {
        "at": at,
        "day": at[:10],
        "label": label,
        "reporter": "ann",
        "kind": "report",
        "note": "",
        "expires": int(time.time()) + DAY_SECONDS,
    }
    return Feedback(new_id(), inference_id, **(values | changes))
