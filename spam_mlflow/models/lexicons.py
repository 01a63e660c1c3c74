"""The lexicons of the signals, which `lexicons.txt` lists with their sources.

A fitted vectorizer stores the words that it was made with, so that a change of the file changes no
score of a model that is there.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

_FILE = Path(__file__).with_name("lexicons.txt")


@functools.cache
def read() -> Mapping[str, tuple[str, ...]]:
    """Return the words of each lexicon by its name."""
    found: dict[str, tuple[str, ...]] = {}
    joined = _FILE.read_text(encoding="utf-8").replace("\n ", " ")
    for line in joined.splitlines():
        if line and not line.startswith("#"):
            name, _, words = line.partition(":")
            found[name] = tuple(dict.fromkeys(words.split()))
    return found
