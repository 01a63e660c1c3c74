"""Slices: kinds of messages on which metrics are reported separately."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from spam_mlflow.scorer.vectorizers.style_features import LINK

_SHORT = 40  # characters
_CAPITAL_SHARE = 0.3  # fraction of the letters
_MIN_LETTERS = 10  # of a text in capitals
_DIGITS_OR_CURRENCY = re.compile(r"\d{3,}|[£$€]")


def masks(frame: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the slices of some messages.

    Args:
        frame: Columns `text` and `source`.

    Yields:
        The name of each slice, and whether each row is in it, shape (rows,), bool.
    """
    for source in sorted(frame["source"].unique()):
        yield f"source {source}", (frame["source"] == source).to_numpy()
    texts = frame["text"]
    yield "short", (texts.str.len() <= _SHORT).to_numpy(dtype=bool)
    yield "link", texts.map(lambda text: bool(LINK.search(text))).to_numpy(dtype=bool)
    yield (
        "digits or currency",
        texts.map(lambda text: bool(_DIGITS_OR_CURRENCY.search(text))).to_numpy(dtype=bool),
    )
    yield "capitals", texts.map(_is_capitals).to_numpy(dtype=bool)
    yield "not ASCII", texts.map(lambda text: not text.isascii()).to_numpy(dtype=bool)


def _is_capitals(text: str) -> bool:
    letters = sum(map(str.isalpha, text))
    return letters >= _MIN_LETTERS and sum(map(str.isupper, text)) >= _CAPITAL_SHARE * letters
