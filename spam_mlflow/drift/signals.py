"""What is kept of every message to find drift by: little, quick to compute, and no text."""

import itertools
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

_READ = 2000  # characters of a text that count
_LETTERS = 200  # of a text by which its script is found
_WORD = re.compile(r"[^\W\d_]+")
_TOGETHER = 3  # words whose hash is compared
_BITS = 16  # of such a hash: too few to tell which words they are
NO_CAMPAIGN = -1
"""`campaign` of a message of fewer words."""


@dataclass(frozen=True)
class Signals:
    """What is kept of one message.

    Attributes:
        unknown: Share of its words that no training message has, from 0 to 1.
        script: Of most of its letters, such as "latin"; "none" without letters.
        campaign: Smallest hash of three words in a row, which near-copies mostly share.
    """

    unknown: float
    script: str
    campaign: int

    def to_json(self) -> str:
        """Return the attributes as JSON."""
        found = {"unknown": self.unknown, "script": self.script, "campaign": self.campaign}
        return json.dumps(found)  # which is quicker than by `asdict`, as every request needs it

    @classmethod
    def from_json(cls, text: str) -> "Signals":
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


def words(text: str) -> list[str]:
    """Return the words of a text's beginning, in lower case."""
    return _WORD.findall(text[:_READ].lower())


def signals(text: str, known: Set[int]) -> Signals:
    """Return what is kept of a message.

    Args:
        text: The message.
        known: Hashes of the words of the training messages.
    """
    found = _encoded(text)
    unknown = len(found) - sum(map(known.__contains__, map(zlib.crc32, found)))
    share = unknown / len(found) if found else 0.0
    return Signals(round(share, 4), script(text), _campaign(found))


def _encoded(text: str) -> list[bytes]:
    """Return the words of a text in UTF-8, whose CRC-32 is the same in every process."""
    return [word.encode("utf-8", "replace") for word in words(text)]


def _campaign(found: Sequence[bytes]) -> int:
    threes = zip(*(found[start:] for start in range(_TOGETHER)), strict=False)
    smallest = min(map(zlib.crc32, map(b" ".join, threes)), default=None)
    return NO_CAMPAIGN if smallest is None else smallest >> (32 - _BITS)


def script(text: str) -> str:
    """Return the script of most letters of a text's beginning, such as "latin" or "cyrillic"."""
    start = text[:_READ]
    if start.isascii():
        return "latin" if any(map(str.isalpha, start)) else "none"
    letters = itertools.islice(filter(str.isalpha, start), _LETTERS)
    counts = Counter(unicodedata.name(letter, "none").split()[0].lower() for letter in letters)
    return counts.most_common(1)[0][0] if counts else "none"


def known_words(texts: Iterable[str]) -> frozenset[int]:
    """Return the hashes of all words of some texts."""
    return frozenset(zlib.crc32(word) for text in texts for word in _encoded(text))
