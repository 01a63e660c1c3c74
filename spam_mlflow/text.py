"""Text normalisation, shared by training, splitting and serving."""

import html
import re
import unicodedata

NORMALISER_VERSION = "1"
"""Recorded with every model, which must only see texts normalised as it learnt them."""

# Zero-width and bidirectional controls, the byte-order mark, soft hyphen and variation selectors:
# they are invisible, so a spammer can split words with them, and in the YouTube files U+FEFF is
# spread unevenly over the classes and would leak the label.
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_DIGITS = re.compile(r"\d+")
_PUNCTUATION_OR_SPACE = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Return `text` with entities decoded, in NFKC, without invisible characters.

    Runs of spaces become one. Case stays, since capitals are evidence; models fold it themselves.
    """
    decoded = unicodedata.normalize("NFKC", html.unescape(text))
    return " ".join(_INVISIBLE.sub("", decoded).split())


def duplicate_key(text: str) -> str:
    """Return a key equal for texts that differ only in case, digits, spacing or punctuation.

    A text without a single letter or digit (an emoji, say) is its own key, so that such texts
    are not all taken for one another.
    """
    normal = normalise(text).casefold()
    key = _PUNCTUATION_OR_SPACE.sub(" ", _DIGITS.sub("0", normal)).strip()
    return key or normal
