"""The bundled synthetic sample, with which everything runs without a network or a data set.

`scripts/make_sample.py` writes it. Its messages come from templates, so that metrics on it say
nothing about real messages.
"""

import dataclasses
from importlib import resources

import pandas as pd
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG
from spam_mlflow.data.messages import Messages, validated
from spam_mlflow.data.sources import modern


@dataclass(frozen=True, config=CONFIG)
class SampleSource:
    """The sample in `sample.csv`, in which the messages of a template share a group.

    Attributes:
        extra: Bundled sets that are trained on as well.
    """

    extra: modern.Extra = ()

    def load(self, fallback: bool = False) -> Messages:
        """Read and validate the sample.

        Args:
            fallback: Whether it is used in place of data that was not available.
        """
        with resources.files("spam_mlflow.data.sources").joinpath("sample.csv").open("rb") as file:
            rows = pd.read_csv(file, keep_default_na=False, dtype=str)
        messages = validated(rows, name="sample", fallback=fallback)
        return dataclasses.replace(messages, extra=modern.training(self.extra))
