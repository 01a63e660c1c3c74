"""Style features: how a text is written, whatever it says, and the shapes of its words."""

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
"""Names of the style features, in the order of their columns."""

CHUNK_COUNTS = (
    *("capitals", "digits", "letters", "alphanumeric", "non_ascii"),
    *("link", "currency", "long_number"),
)
"""What is counted in a chunk: characters of five kinds, and whether three things occur."""

LINK = re.compile(r"https?:|www\.|\.com\b|\.co\b|\.ly\b|\.net\b|\.org\b", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"\d{5,}")
_DIGIT = re.compile(r"\d")
_PATTERN = str.maketrans(
    string.ascii_uppercase + string.ascii_lowercase + string.digits, "A" * 26 + "a" * 26 + "0" * 10
)
_LONG_RUN = re.compile(r"([Aa])\1+")
_PACK = struct.Struct(f"{len(CHUNK_COUNTS)}I").pack
_SHAPE_LENGTH = 12  # characters; longer shapes are cut
_REMEMBERED_PATTERNS = 1000  # patterns of words; a few dozen make up most texts


def shape(chunk: str) -> str:
    """Return the shape of a chunk: "Call" and "Mobile" have "Aaa", "£100" has "£000"."""
    pattern = chunk.translate(_PATTERN)
    if not chunk.isascii():
        pattern = _DIGIT.sub("0", pattern)  # digits of other scripts
    return _shortened(pattern)


@functools.lru_cache(_REMEMBERED_PATTERNS)
def _shortened(pattern: str) -> str:
    return _LONG_RUN.sub(r"\1\1", pattern)[:_SHAPE_LENGTH]


def chunk_counts(chunk: str) -> bytes:
    """Return the CHUNK_COUNTS of a chunk, packed as uint32."""
    kinds = chunk.translate(_PATTERN)
    capitals, digits = kinds.count("A"), kinds.count("0")
    letters = capitals + kinds.count("a")
    if letters == len(chunk):
        return _PACK(capitals, 0, letters, letters, 0, 0, 0, 0)  # most chunks are words
    alphanumeric, non_ascii = letters + digits, ""
    if not chunk.isascii():
        non_ascii = "".join([c for c in chunk if not c.isascii()])
        capitals += sum(map(str.isupper, non_ascii))
        digits += sum(map(str.isdigit, non_ascii))
        letters += sum(map(str.isalpha, non_ascii))
        alphanumeric += sum(map(str.isalnum, non_ascii))
    return _PACK(
        *(capitals, digits, letters, alphanumeric, len(non_ascii)),
        # The cheap conditions hold for every match, so that the searches can mostly be skipped.
        (":" in chunk or "." in chunk) and LINK.search(chunk) is not None,
        "$" in chunk or "£" in chunk or "€" in chunk,
        digits > 4 and _LONG_NUMBER.search(chunk) is not None,
    )


def style(texts: Sequence[str], owners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the style features of normalized texts.

    Args:
        texts: Normalized texts.
        owners: Position of each chunk's text, sorted, shape (chunks,), int64.
        counts: CHUNK_COUNTS of each chunk, shape (chunks, len(CHUNK_COUNTS)), uint32.

    Returns:
        Array of shape (texts, len(STYLE)), float32; each value lies between 0 and about 1.
    """
    sums = np.zeros((len(owners) + 1, len(CHUNK_COUNTS)), dtype=np.int64)
    np.cumsum(counts, axis=0, out=sums[1:])
    bounds = np.searchsorted(owners, np.arange(len(texts) + 1))
    of_texts = sums[bounds[1:]] - sums[bounds[:-1]]
    capitals, digits, letters, alphanumeric, non_ascii, *present = of_texts.T
    characters = np.array([len(text) for text in texts], dtype=np.int64)
    spaces = np.array([text.count(" ") for text in texts], dtype=np.int64)
    length = characters + 1
    features = (
        np.log1p(length) / 6,
        np.log1p(spaces + (characters > 0)) / 5,
        capitals / (letters + 1),
        digits / length,
        (characters - alphanumeric - spaces) / length,
        non_ascii / length,
        *(there > 0 for there in present),
    )
    return np.column_stack(features).astype(np.float32)
