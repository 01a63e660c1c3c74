"""Data sources: each yields `Messages`, the validated table that everything later works on."""

from typing import Protocol

from spam_mlflow.data.messages import LABELS, Messages

__all__ = ["LABELS", "Messages", "Source"]


class Source(Protocol):
    """Where messages come from; built by Hydra from `conf/data/*.yaml`."""

    def load(self) -> Messages:
        """Read, verify and validate all messages; raises UserError where that cannot be done."""
        ...
