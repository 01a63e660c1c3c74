"""Kinds of messages on which a model's figures are looked at by themselves."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

_SHORT = 40  # characters
_CAPITAL_SHARE = 0.3  # of at least so many letters
_FEW_LETTERS = 10
_LINK = re.compile(r"https?:|www\.|\.com\b|\.co\.uk\b|\.ly\b", re.IGNORECASE)
_DIGITS_OR_CURRENCY = re.compile(r"\d{3,}|[£$€]")


def of(frame: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each slice's name and which rows are in it, shape (rows,), bool.

    frame: with the columns `text` and `source`.
    """
    for source in sorted(frame["source"].unique()):
        yield f"source {source}", (frame["source"] == source).to_numpy()
    texts = frame["text"]
    yield "short", (texts.str.len() <= _SHORT).to_numpy(dtype=bool)
    yield "link", texts.map(lambda text: bool(_LINK.search(text))).to_numpy(dtype=bool)
    yield (
        "digits or currency",
        texts.map(lambda text: bool(_DIGITS_OR_CURRENCY.search(text))).to_numpy(dtype=bool),
    )
    yield "capitals", texts.map(_is_shouted).to_numpy(dtype=bool)
    yield "not ASCII", texts.map(lambda text: not text.isascii()).to_numpy(dtype=bool)


def _is_shouted(text: str) -> bool:
    letters = sum(map(str.isalpha, text))
    return letters >= _FEW_LETTERS and sum(map(str.isupper, text)) >= _CAPITAL_SHARE * letters
