"""Scores texts with a logged model, as a program of its own that imports nothing of this project.

Versions from before the scorer was a package hold one of this project's name, which must be the
first of that name that Python imports.
"""

import json
import sys
from pathlib import Path

import mlflow
import pandas as pd


def main(model: str, asked: str, answered: str) -> None:
    """Write the scores of texts.

    Args:
        model: Folder with the model.
        asked: JSON file with the list of texts.
        answered: File for the list of their spam probabilities, as JSON.
    """
    loaded = mlflow.pyfunc.load_model(model)
    texts = json.loads(Path(asked).read_text(encoding="utf-8"))
    table = loaded.predict(pd.DataFrame({"text": texts}))
    Path(answered).write_text(json.dumps(list(table["spam_probability"])), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
