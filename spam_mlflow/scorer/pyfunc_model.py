"""The model that MLflow loads and serves, as MLflow's models-from-code: nothing is pickled.

A logged model imports this module in a file of its own, which `registry.model_logging` writes.
"""

import contextlib
import inspect
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from . import scorers
from .errors import UserError
from .labels import predicted_labels

TEXT = "text"
"""Name of the input column."""

_MLFLOW = f"{os.sep}mlflow{os.sep}"  # in the path of every file of MLflow
_PASSED = (__file__, logging.__file__)  # files whose frames lie between this module and MLflow
_SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # MLflow's scoring server sets it to "true"
_SHOWN = 80  # characters of a bad value that an error repeats
_FEW = 16  # texts; a request of so many is answered in a few milliseconds
_LONGEST = 200_000  # characters of a text; longer ones would delay other requests


class SpamModel(PythonModel):
    """A pyfunc model from a column `text` to `label`, `spam_probability` and `ham_probability`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer and score one text, so that the first request is as fast as the next.

        Args:
            context: MLflow's, with the folder of the scorer's files among its artifacts.
        """
        self._scorer = scorers.load(Path(context.artifacts[scorers.CLASSIFIER]))
        self._scorer.spam_probability(["warm up"])
        self._one_at_a_time = threading.Lock()
        logging.getLogger("mlflow.models.utils").addFilter(_is_true_alarm)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame | list[dict[str, Any]]:
        """Return one row per text.

        In Python, texts may be given as a data frame with a column `text`, a series, a list or
        array of strings, a list of records, a dictionary of columns, or a single string.

        Args:
            context: MLflow's; not used.
            model_input: What MLflow made of the caller's input; see `_given_to_mlflow`.
            params: `threshold`, the spam probability from which a text is labeled spam (default:
                the model's own), and `explain`, whether to add a column `explanation` with the
                features that moved the score and their contributions, which sum to its logit.

        Returns:
            A data frame with the caller's index, or in MLflow's scoring server a list of
            dictionaries. The server writes both as the same JSON, but writing a data frame takes
            it longer than the scoring.

        Raises:
            MlflowException: (HTTP 400) For anything but strings, for texts of more than 200,000
                characters, for a threshold outside 0 to 1, and for `explain` if the model is not
                linear.
        """
        texts, index = _read(_given_to_mlflow(model_input))
        _require_strings(texts)
        # Threads that compete for the interpreter take twice as long as threads that queue. Large
        # batches do not queue, since they would delay single messages.
        queue = self._one_at_a_time if len(texts) <= _FEW else contextlib.nullcontext()
        with queue:
            columns = self._answer(texts, params)
        if os.environ.get(_SERVING) != "true":
            return pd.DataFrame(columns, index=index)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _answer(self, texts: list[str], params: dict[str, Any] | None) -> dict[str, list[Any]]:
        threshold = _threshold(params, self._scorer.threshold)
        spam = self._scorer.spam_probability(texts)
        answer: dict[str, list[Any]] = {
            "label": predicted_labels(spam, threshold).tolist(),
            "spam_probability": spam.tolist(),
            "ham_probability": (1 - spam).tolist(),
        }
        if (params or {}).get("explain"):
            try:
                answer["explanation"] = self._scorer.explanations(texts)
            except UserError as error:
                raise _bad_request(str(error)) from error
        return answer


def _given_to_mlflow(default: Any) -> Any:
    """Return what the caller gave to MLflow's `predict`.

    MLflow turns every input into a data frame with the signature's columns. A list of strings
    loses its values by this, since it has no column `text`, and a column of texts becomes a single
    cell, just like a record whose text is a list. Only the caller's own object tells them apart.

    Args:
        default: What to return if the caller is not MLflow.
    """
    caller = inspect.currentframe()
    while caller and (_MLFLOW in caller.f_code.co_filename or caller.f_code.co_filename in _PASSED):
        if caller.f_code.co_name == "predict" and isinstance(
            caller.f_locals.get("self"), PyFuncModel
        ):
            return caller.f_locals.get("data", default)
        caller = caller.f_back
    return default


def _read(data: Any) -> tuple[list[Any], pd.Index | None]:
    """Return the texts of any input that MLflow accepts, and their index if they have one.

    Raises:
        MlflowException: For any other input.
    """
    if isinstance(data, pd.DataFrame | Mapping):
        data = _column(data)
    elif isinstance(data, list) and any(isinstance(record, Mapping) for record in data):
        data = [_column(record) for record in data]
    if isinstance(data, pd.Series):
        return data.tolist(), data.index
    if isinstance(data, str):
        return [data], None
    values = data.tolist() if isinstance(data, np.ndarray) and data.ndim == 1 else data
    if not isinstance(values, list):
        raise _bad_request(
            f"texts must be a column {TEXT!r} or a list of strings, not {type(data).__name__} "
            f"{repr(data)[:_SHOWN]}"
        )
    return values, None


def _column(data: Any) -> Any:
    """Return the column `text` of a data frame or of a dictionary, or a record's value of it."""
    names = list(data) if isinstance(data, pd.DataFrame | Mapping) else repr(data)[:_SHOWN]
    if not isinstance(names, list) or names.count(TEXT) != 1:
        raise _bad_request(f"there must be one column {TEXT!r}; got {names}")
    return data[TEXT]


def _require_strings(values: list[Any]) -> None:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            kind = (
                "null" if pd.api.types.is_scalar(value) and pd.isna(value) else type(value).__name__
            )
            shown = repr(value)[:_SHOWN]
            raise _bad_request(f"{TEXT!r} must be a string, but row {row} is {kind}: {shown}")
        if len(value) > _LONGEST:
            raise _bad_request(
                f"{TEXT!r} in row {row} is {len(value):,} characters long; at most {_LONGEST:,} "
                "are scored: send the message alone"
            )


def _threshold(params: dict[str, Any] | None, default: float) -> float:
    given = (params or {}).get("threshold")
    threshold = default if given is None else float(given)
    if not 0 <= threshold <= 1:
        raise _bad_request(f"threshold={given} must lie between 0 and 1")
    return threshold


def _bad_request(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


def _is_true_alarm(record: logging.LogRecord) -> bool:
    """Return whether to log a record: all but MLflow's warning that it ignores columns.

    It is a false alarm for a list or an array of texts, and true only for a data frame.
    """
    ignored = record.getMessage().endswith("These inputs will be ignored.")
    return not ignored or isinstance(_given_to_mlflow(None), pd.DataFrame)
