"""Why a version scores a message as it does, by its own code."""

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from spam_mlflow.scorer.payloads import TEXT
from spam_mlflow.serving.served_model import ServedVersion

_EARLIER = "was logged before versions could tell what each word contributes"


def explained(version: ServedVersion, text: str) -> dict[str, Any]:
    """Return what a version says of its score of a message, as JSON-ready data.

    Args:
        version: The version.
        text: The message, which the version can score.

    Returns:
        `model` names the version. `words` and `others` are what
        `scorer.pyfunc_model.SpamModel.word_contributions` returns, and `features` the features that
        moved the score most; each is None where the version cannot tell, and `reason` says why.
    """
    named = {"name": version.name, "version": version.number}
    answer: dict[str, Any] = {"model": named, "words": None, "others": None, "reason": None}
    answer["features"] = _features(version, text)
    contributions = getattr(version.model.unwrap_python_model(), "word_contributions", None)
    if contributions is None:
        return answer | {"reason": f"version {version.number} {_EARLIER}"}
    try:
        return answer | contributions(text)
    except MlflowException as error:
        return answer | {"reason": error.message}


def _features(version: ServedVersion, text: str) -> Any:
    """Return the version's explanation, None where it has none."""
    # As objects, and not by way of MLflow, which converts them: a text may hold half of a surrogate
    # pair, which pandas's own strings cannot.
    column = pd.Series([text], name=TEXT, dtype=object)
    model: Any = version.model.unwrap_python_model()
    try:
        rows = model.predict(None, column.to_frame(), {"explain": True})
    except MlflowException:  # only linear models can explain their scores
        return None
    return rows["explanation"].iloc[0] if "explanation" in rows else None
