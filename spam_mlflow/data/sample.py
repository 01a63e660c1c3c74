"""The bundled synthetic sample: lets everything run without the network or a data set.

Written by `scripts/make_sample.py`; its messages come from templates, so figures reached on it
say nothing about real messages.
"""

from importlib import resources

import pandas as pd

from spam_mlflow.data.messages import Messages, validated


class SampleSource:
    """The sample in `spam_mlflow/data/sample.csv`; its column `group` names the template."""

    def load(self, fallback: bool = False) -> Messages:
        """Return the sample; `fallback` marks it as standing in for data that could not be had."""
        with resources.files("spam_mlflow.data").joinpath("sample.csv").open("rb") as file:
            rows = pd.read_csv(file, keep_default_na=False, dtype=str)
        return validated(rows, name="sample", fallback=fallback)
