"""Whether a text is like those that a model was trained on, by its words and its script."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection

_WORD = re.compile(r"[^\W\d_]{2,}")
_FEWEST_WORDS = 3  # of a text whose share of unknown words says something
_UNKNOWN_SHARE = 0.5  # of English messages, 2 to 5 % reach it; of Indonesian ones, 92 %
_TRAINED_SHARE = 0.01  # of the known words, from which on a script counts as trained on

PERHAPS_UNKNOWN = 0.3
"""Share of unknown tokens, numbers and signs included, below which no text need be looked at."""


def scripts(words: Collection[str]) -> frozenset[str]:
    """Return the scripts that a model knows, such as "LATIN".

    Args:
        words: The words of its vocabulary.
    """
    found = Counter(_script(word[0]) for word in words if word[:1].isalpha())
    return frozenset(s for s, count in found.items() if count >= _TRAINED_SHARE * found.total())


def shares(text: str) -> dict[str, float]:
    """Return the scripts of a text's letters with their shares of 0.1 % or more, largest first."""
    found = Counter(_script(c) for c in text if c.isalpha())
    return {s: n / found.total() for s, n in found.most_common() if n >= 0.001 * found.total()}


def doubt(text: str, known: Collection[str], trained_scripts: frozenset[str]) -> str | None:
    """Return why a score of a text means little, None where it is like what was trained on.

    Args:
        text: A normalized text.
        known: Words of the model's vocabulary.
        trained_scripts: As `scripts` returns them.
    """
    letters = [c for c in text if c.isalpha()]
    foreign = Counter(script for c in letters if (script := _script(c)) not in trained_scripts)
    if foreign.total() * 2 > len(letters) > 1:
        script = foreign.most_common(1)[0][0].capitalize()
        return f"the model was not trained on {script} script"
    words = _WORD.findall(text.casefold())
    unknown = sum(word not in known for word in words)
    if len(words) >= _FEWEST_WORDS and unknown >= _UNKNOWN_SHARE * len(words):
        return f"{unknown} of {len(words)} words are unknown to the model"
    return None


def _script(letter: str) -> str:
    """Return the script of a letter, which is the first word of its name in Unicode."""
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "unknown").split(" ")[0]
