"""Data sources: each returns `Messages`, the validated table that all later steps work on."""

from typing import Protocol

from spam_mlflow.data.messages import Messages


class Source(Protocol):
    """A data source; Hydra instantiates it from `conf/data/*.yaml`."""

    def load(self) -> Messages:
        """Read, verify and validate all messages.

        Raises:
            UserError: Where the data cannot be read or is not usable.
        """
        ...
