"""The bundled set of today's messages: codes, notices and fraud, each kind in both classes.

`scripts/make_modern.py` writes it from templates, which are written by hand and share no text with
any data set. A quarter of the templates is held out: it is never trained on as additional data, and
tells how a model does on messages of these kinds.
"""

import functools
import zlib
from collections.abc import Sequence
from importlib import resources
from typing import Literal

import pandas as pd
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG
from spam_mlflow.data.messages import Messages, validated

MODERN = "modern"
"""Its name as a source."""

Extra = tuple[Literal["modern"], ...]
"""Names of bundled sets that are trained on in addition to a data source's own messages."""

_HELD_OUT = 4  # one template in so many


@dataclass(frozen=True, config=CONFIG)
class ModernSource:
    """All of today's messages, in which those of a template share a group."""

    def load(self) -> Messages:
        """Read and validate the messages."""
        return validated(_read().assign(source=MODERN), name=MODERN)


def training(names: Sequence[str]) -> pd.DataFrame:
    """Return the messages of bundled sets that may be trained on in addition to others.

    Args:
        names: Names of the sets.

    Returns:
        The columns of `Messages.frame`.
    """
    rows = _read() if MODERN in names else _read().iloc[:0]
    kept = rows[~_is_held_out(rows)].assign(source=MODERN)
    return kept[["text", "label", "source", "group"]].reset_index(drop=True)


def held_out() -> pd.DataFrame:
    """Return the messages that are never trained on as additional data.

    Returns:
        Columns `text`, `label`, `source`, `group` and `kind`, such as "delivery".
    """
    rows = _read()
    return rows[_is_held_out(rows)].assign(source=MODERN).reset_index(drop=True)


def _is_held_out(rows: pd.DataFrame) -> pd.Series:
    digests = [zlib.crc32(group.encode()) % _HELD_OUT for group in rows["group"]]
    return pd.Series(digests, index=rows.index, dtype=int) == 0


@functools.cache
def _read() -> pd.DataFrame:
    with resources.files("spam_mlflow.data.sources").joinpath("modern.csv").open("rb") as file:
        return pd.read_csv(file, keep_default_na=False, dtype=str)
