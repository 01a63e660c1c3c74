"""The model that MLflow loads and serves, as MLflow's models-from-code: nothing is pickled.

A logged model imports this module in a file of its own, which `registry.model_logging` writes.
"""

import inspect
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from . import payloads, scorers, scoring_requests
from .errors import UserError
from .labels import predicted_labels
from .payloads import DOUBT, TEXT, Params
from .queues import Queues

__all__ = ["TEXT", "SpamModel"]

_MLFLOW = f"{os.sep}mlflow{os.sep}"  # in the path of every file of MLflow
_PASSED = (__file__, logging.__file__)  # files whose frames lie between this module and MLflow


class SpamModel(PythonModel):
    """A pyfunc model from a column `text` to `label`, `spam_probability` and `ham_probability`.

    Attributes:
        queues: Whose turn it is to score; filled by `load_context`.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer and score one text, so that the first request is as fast as the next.

        Args:
            context: MLflow's, with the folder of the scorer's files among its artifacts.
        """
        files = Path(context.artifacts[scorers.CLASSIFIER])
        self._scorer = scorers.load(files)
        self._scorer.spam_probability(["warm up"])
        self.queues = Queues()
        logging.getLogger("mlflow.models.utils").addFilter(_is_true_alarm)
        scoring_requests.install(self, files.parents[1])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
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
            A data frame with the caller's index. Where a text is unlike those that the model was
            trained on, there is a column `low_confidence` with the reason, "" for other texts.

        Raises:
            MlflowException: (HTTP 400) For anything but strings, for texts of more than 200,000
                characters, for unknown parameters, for a threshold outside 0 to 1, and for
                `explain` if the model is not linear.
        """
        try:
            texts, index = payloads.read(_given_to_mlflow("data", model_input))
            asked = Params.read(_given_to_mlflow("params", params))
            with self.queues.queue(sum(map(len, texts))):
                columns = self.columns(texts, asked)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(columns, index=index)

    def columns(self, texts: Sequence[str], asked: Params) -> dict[str, list[Any]]:
        """Return the answer's columns, each with one value per text.

        Raises:
            UserError: If explanations are asked of a model that is not linear.
        """
        spam, doubts = self._scorer.scores_and_doubts(texts)
        threshold = self._scorer.threshold if asked.threshold is None else asked.threshold
        answer: dict[str, list[Any]] = {
            "label": predicted_labels(spam, threshold).tolist(),
            "spam_probability": spam.tolist(),
            "ham_probability": (1 - spam).tolist(),
        }
        if any(doubts):
            answer[DOUBT] = [doubt or "" for doubt in doubts]
        if asked.explain:
            answer["explanation"] = self._scorer.explanations(texts)
        return answer

    def word_contributions(self, text: str) -> dict[str, list[dict[str, Any]]]:
        """Return what each word of a text adds to its logit, for the page of a serving app.

        Args:
            text: A message of at most 200,000 characters.

        Returns:
            Under `words` dictionaries with `start` and `end`, in characters of the text, and
            `contribution`; under `others` those with `feature` and `contribution` of what is in no
            word. All contributions together are the logit, log(spam / ham probability).

        Raises:
            MlflowException: (HTTP 400) If the model is not linear.
        """
        try:
            with self.queues.queue(len(text)):
                found = self._scorer.word_contributions([text])[0]
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        words = zip(found.spans, found.words.tolist(), strict=True)
        return {
            "words": [{"start": a, "end": b, "contribution": moved} for (a, b), moved in words],
            "others": [{"feature": n, "contribution": moved} for n, moved in found.others.items()],
        }


def _given_to_mlflow(argument: str, default: Any) -> Any:
    """Return what the caller gave to MLflow's `predict`.

    MLflow turns every input into a data frame with the signature's columns. A list of strings
    loses its values by this, since it has no column `text`, and a column of texts becomes a single
    cell, just like a record whose text is a list. It also drops parameters that the signature does
    not have. Only the caller's own objects tell.

    Args:
        argument: Name of an argument of MLflow's `predict`, "data" or "params".
        default: What to return if the caller is not MLflow.
    """
    caller = inspect.currentframe()
    while caller and (_MLFLOW in caller.f_code.co_filename or caller.f_code.co_filename in _PASSED):
        if caller.f_code.co_name == "predict" and isinstance(
            caller.f_locals.get("self"), PyFuncModel
        ):
            return caller.f_locals.get(argument, default)
        caller = caller.f_back
    return default


def _is_true_alarm(record: logging.LogRecord) -> bool:
    """Return whether to log a record: all but MLflow's warning that it ignores columns.

    It is a false alarm for a list or an array of texts, and true only for a data frame.
    """
    ignored = record.getMessage().endswith("These inputs will be ignored.")
    return not ignored or isinstance(_given_to_mlflow("data", None), pd.DataFrame)
