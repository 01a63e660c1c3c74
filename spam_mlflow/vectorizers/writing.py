"""How a text is written, whatever it says: capitals, digits, links; and the shapes of its words."""

import functools
import re
import string
import struct
from collections.abc import Sequence

import numpy as np

STYLE = (
    "characters",
    "words",
    "capitals",
    "digits",
    "punctuation",
    "non_ascii",
    "link",
    "currency",
    "long_number",
)
SIGNS = (
    *("capitals", "digits", "letters", "alphanumeric", "non_ascii"),
    *("link", "currency", "long_number"),
)

LINK = re.compile(r"https?:|www\.|\.com\b|\.co\b|\.ly\b|\.net\b|\.org\b", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"\d{5,}")
_DIGIT = re.compile(r"\d")
_PATTERN = str.maketrans(
    string.ascii_uppercase + string.ascii_lowercase + string.digits, "A" * 26 + "a" * 26 + "0" * 10
)
_LONG_RUN = re.compile(r"([Aa])\1+")
_PACK = struct.Struct(f"{len(SIGNS)}I").pack
_SHAPE_LENGTH = 12  # characters of a shape that are told apart
_REMEMBERED_PATTERNS = 1000  # of words; a few dozen make up most texts


def shape(chunk: str) -> str:
    """Return the pattern of a chunk: "Call" and "Mobile" are "Aaa", "£100" is "£000"."""
    pattern = chunk.translate(_PATTERN)
    if not chunk.isascii():
        pattern = _DIGIT.sub("0", pattern)  # the other scripts' digits
    return _shortened(pattern)


@functools.lru_cache(_REMEMBERED_PATTERNS)
def _shortened(pattern: str) -> str:
    return _LONG_RUN.sub(r"\1\1", pattern)[:_SHAPE_LENGTH]


def signs(chunk: str) -> bytes:
    """Return counts of characters by kind, and whether something is there: SIGNS, uint32."""
    kinds = chunk.translate(_PATTERN)
    capitals, digits = kinds.count("A"), kinds.count("0")
    letters = capitals + kinds.count("a")
    if letters == len(chunk):
        return _PACK(capitals, 0, letters, letters, 0, 0, 0, 0)  # most chunks are words
    alphanumeric, foreign = letters + digits, ""
    if not chunk.isascii():
        foreign = "".join([c for c in chunk if not c.isascii()])
        capitals += sum(map(str.isupper, foreign))
        digits += sum(map(str.isdigit, foreign))
        letters += sum(map(str.isalpha, foreign))
        alphanumeric += sum(map(str.isalnum, foreign))
    return _PACK(
        *(capitals, digits, letters, alphanumeric, len(foreign)),
        # A pattern is looked for only where there is what every match of it has.
        (":" in chunk or "." in chunk) and LINK.search(chunk) is not None,
        "$" in chunk or "£" in chunk or "€" in chunk,
        digits > 4 and _LONG_NUMBER.search(chunk) is not None,
    )


def style(texts: Sequence[str], owners: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return how normalised texts are written: figures of STYLE, each about 0 to 1.

    owners: the text of each chunk, sorted; signs: its `signs`. Shape (texts, STYLE), float32.
    """
    sums = np.zeros((len(owners) + 1, len(SIGNS)), dtype=np.int64)
    np.cumsum(signs, axis=0, out=sums[1:])
    bounds = np.searchsorted(owners, np.arange(len(texts) + 1))
    found = sums[bounds[1:]] - sums[bounds[:-1]]
    capitals, digits, letters, alphanumeric, beyond, *present = found.T
    characters = np.array([len(text) for text in texts], dtype=np.int64)
    spaces = np.array([text.count(" ") for text in texts], dtype=np.int64)
    length = characters + 1
    figures = (
        np.log1p(length) / 6,
        np.log1p(spaces + (characters > 0)) / 5,
        capitals / (letters + 1),
        digits / length,
        (characters - alphanumeric - spaces) / length,
        beyond / length,
        *(there > 0 for there in present),
    )
    return np.column_stack(figures).astype(np.float32)
