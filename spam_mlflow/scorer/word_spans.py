"""The words of a text as it was written, and which of its normalized characters come from which."""

import re
import unicodedata
from typing import NamedTuple

import numpy as np

from .normalization import JOINERS, READ, decode

_WORD = re.compile(r"\S+")


class Words(NamedTuple):
    """The words of a text, which are its stretches without spaces, as far as they are read.

    Attributes:
        spans: Start and end of each word in the text, in characters.
        owners: Word of each character of the normalized text that is no space, shape (characters,),
            int64.
    """

    spans: list[tuple[int, int]]
    owners: np.ndarray


def find(text: str, normal: str) -> Words:
    """Return the words of a text.

    Args:
        text: The text as it was written.
        normal: The same after `normalization.normalize`.
    """
    spans = _spans(text)
    decoded: list[str] = []
    owners: list[int] = []
    for number, (start, end) in enumerate(spans):
        characters = "".join(decode(text[start:end]).split())
        decoded += characters
        owners += [number] * len(characters)
    of_decoded = np.array(owners, dtype=np.int64)
    wanted = list("".join(normal.split()))
    if decoded == wanted:  # as of most texts
        return Words(spans, of_decoded)
    return Words(spans, of_decoded[np.array(_aligned(decoded, wanted), dtype=np.int64)])


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where the words are; of a long text, those at its start and at its end."""
    half = READ // 2
    stretches = [(0, len(text))]
    if len(text) > READ:
        stretches = [(0, half), (len(text) - half + 1, len(text))]
    return [match.span() for bounds in stretches for match in _WORD.finditer(text, *bounds)]


def _aligned(decoded: list[str], normal: list[str]) -> list[int]:
    """Return the position in `decoded` of each normalized character.

    Normalization replaces single characters by single ones, and drops some: the punctuation that
    joined letters, and marks beyond a limit. So a character that could have been dropped, and is
    not the one that is wanted, was.
    """
    places, at, last = [], 0, len(decoded) - 1
    for character in normal:
        while at < last and decoded[at] != character and _may_be_dropped(decoded[at]):
            at += 1
        place = min(at, last)
        places.append(place)
        if decoded[place] == character or not unicodedata.combining(character):
            at += 1
    return places


def _may_be_dropped(character: str) -> bool:
    return character in JOINERS or unicodedata.combining(character) != 0
