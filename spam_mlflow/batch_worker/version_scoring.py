"""Scoring texts with a logged version by its own code: the one way of every job that scores.

It is also a program, with which the gate scores texts in a fresh interpreter.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

SPAM_PROBABILITY = "spam_probability"
_LOW_CONFIDENCE = "low_confidence"


def predictions(
    predict: Callable[..., pd.DataFrame], texts: Sequence[str], params: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Return what a version says of texts.

    Args:
        predict: The method of the loaded version, from a data frame with a column `text`.
        texts: Any strings that can be scored.
        params: Parameters of the version, such as `threshold`; None for its own.

    Returns:
        A row for each text, with the columns `label` and `spam_probability` among others.
    """
    # As objects: pandas would make them its own kind of strings first, and the version undo that.
    frame = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)})
    return predict(frame, params=params) if params else predict(frame)


def low_confidence(answer: pd.DataFrame) -> list[str | None]:
    """Return for each row of an answer why its score means little, None where it does not.

    A version names reasons only in answers that need some; versions of before never do.

    Args:
        answer: What `predictions` returned.
    """
    if _LOW_CONFIDENCE not in answer:
        return [None] * len(answer)
    return [reason or None for reason in answer[_LOW_CONFIDENCE].tolist()]


def main(model: str, asked: str, answered: str) -> None:
    """Write the scores of texts.

    Versions from before the scorer was a package hold one of this project's name, which must be the
    first of that name that Python imports.

    Args:
        model: Folder with the model.
        asked: JSON file with the list of texts.
        answered: File for the list of their spam probabilities, as JSON.
    """
    import mlflow

    loaded = mlflow.pyfunc.load_model(model)
    texts = json.loads(Path(asked).read_text(encoding="utf-8"))
    table = predictions(loaded.predict, texts)
    Path(answered).write_text(json.dumps(list(table[SPAM_PROBABILITY])), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
