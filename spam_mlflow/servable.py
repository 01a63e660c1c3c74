"""The model that MLflow serves, logged from this file's code: nothing of it is pickled."""

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from spam_mlflow import scoring
from spam_mlflow.errors import UserError

_SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # set to "true" by MLflow's scoring server
_SHOWN = 80  # characters of a bad value that an error repeats
_FEW = 16  # texts of a request that is over in a few milliseconds
_LONGEST = 200_000  # characters of a text; a message is shorter, and longer ones hold up others


class ServableSpamModel(PythonModel):
    """One column `text` in; `label`, `spam_probability` and `ham_probability` out, row by row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer and score once, so that the first request is as fast as the next."""
        self._scorer = scoring.load(Path(context.artifacts[scoring.CLASSIFIER]))
        self._scorer.spam_probability(["warm up"])
        self._one_at_a_time = threading.Lock()

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame | list[dict[str, Any]]:
        """Return one row per text: a table, or in MLflow's scoring server a list of dicts.

        The server writes both as the same JSON, but a table takes it longer than the scoring does.

        params: `threshold`, the spam probability from which a text is labelled spam; the model's
            own where it is absent. `explain`: whether to add a column `explanation` with the
            features that moved the score and their contributions, which sum to its logit.

        Raises MlflowException (HTTP 400) for anything but strings, for texts of more than 200,000
        characters, for a threshold outside 0 to 1, and for `explain` where the model is not linear.
        """
        texts = _texts(model_input)
        # Threads that fight over the interpreter take twice as long as threads that queue; large
        # batches do not queue, or they would hold up single messages.
        queue = self._one_at_a_time if len(texts) <= _FEW else contextlib.nullcontext()
        with queue:
            columns = self._answer(texts, params)
        if os.environ.get(_SERVING) != "true":
            return pd.DataFrame(columns)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _answer(self, texts: list[str], params: dict[str, Any] | None) -> dict[str, list[Any]]:
        threshold = _threshold(params, self._scorer.threshold)
        spam = self._scorer.spam_probability(texts)
        answer: dict[str, list[Any]] = {
            "label": np.where(spam >= threshold, "spam", "ham").tolist(),
            "spam_probability": spam.tolist(),
            "ham_probability": (1 - spam).tolist(),
        }
        if (params or {}).get("explain"):
            try:
                answer["explanation"] = self._scorer.explanations(texts)
            except UserError as error:
                raise _bad_request(str(error)) from error
        return answer


def _texts(model_input: pd.DataFrame) -> list[str]:
    if "text" not in model_input:
        raise _bad_request(f"the column 'text' is missing; got {list(model_input.columns)}")
    values = model_input["text"].tolist()
    if len(values) == 1 and isinstance(values[0], list | np.ndarray):
        # MLflow packs the list of an `inputs` or `instances` payload into a single cell.
        values = list(values[0])
    for row, value in enumerate(values):
        if not isinstance(value, str):
            kind = (
                "null" if pd.api.types.is_scalar(value) and pd.isna(value) else type(value).__name__
            )
            shown = repr(value)[:_SHOWN]
            raise _bad_request(f"'text' must be a string, but row {row} is {kind}: {shown}")
        if len(value) > _LONGEST:
            raise _bad_request(
                f"'text' in row {row} is {len(value):,} characters long; at most {_LONGEST:,} are "
                "scored: send the message alone"
            )
    return values


def _threshold(params: dict[str, Any] | None, default: float) -> float:
    given = (params or {}).get("threshold")
    threshold = default if given is None else float(given)
    if not 0 <= threshold <= 1:
        raise _bad_request(f"threshold={given} must lie between 0 and 1")
    return threshold


def _bad_request(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(ServableSpamModel())
