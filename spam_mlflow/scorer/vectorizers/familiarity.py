"""Whether a text is like those that a model was trained on, by its words and its script."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection

_WORD = re.compile(r"[^\W\d_]{2,}")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_FEWEST_WORDS = 3  # of a text that may be doubted although one of its words is known
_UNKNOWN_SHARE = 0.5  # of English messages, 1 to 3 % reach it; of Indonesian ones, 98 %
_TRAINED_SHARE = 0.01  # of the known words, from which on a script counts as trained on

PERHAPS_UNKNOWN = 0.45
"""Share of unknown tokens, as `ColumnReader` counts them, below which no text need be looked at."""


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


def doubt(
    text: str, known: Collection[str], trained_scripts: frozenset[str], judge_words: bool = True
) -> str | None:
    """Return why a score of a text means little, None where it is like what was trained on.

    Args:
        text: A text as the model reads it.
        known: Tokens of the model's vocabulary, as `tokens` returns them.
        trained_scripts: As `scripts` returns them.
        judge_words: Whether single unknown words tell anything: not where the vocabulary lacks many
            words that were trained on.
    """
    letters = [c for c in text if c.isalpha()]
    foreign = Counter(script for c in letters if (script := _script(c)) not in trained_scripts)
    if foreign.total() * 2 > len(letters) > 1:
        script = foreign.most_common(1)[0][0].capitalize()
        return f"the model was not trained on {script} script"
    found = words(text)
    unknown = sum(word not in known for word in found)
    least = _UNKNOWN_SHARE if len(found) >= _FEWEST_WORDS else 1
    if judge_words and found and unknown >= least * len(found):
        verb = "is" if len(found) == 1 else "are"
        return f"{unknown} of {_counted(len(found))} {verb} unknown to the model"
    if not any(token in known for token in tokens(text)):
        return "nothing in the text is known to the model"
    return None


def is_word(token: str) -> bool:
    """Return whether a token is a word of letters, no number or sign."""
    return _WORD.fullmatch(token) is not None


def words(text: str) -> list[str]:
    """Return the words of a text that count: letters alone, two or more, casefolded."""
    return _WORD.findall(text.casefold())


def tokens(text: str) -> list[str]:
    """Return the words, numbers and signs of a text, casefolded."""
    return _TOKEN.findall(text.casefold())


def _counted(count: int) -> str:
    return f"{count} word" if count == 1 else f"{count} words"


def _script(letter: str) -> str:
    """Return the script of a letter, which is the first word of its name in Unicode."""
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "unknown").split(" ")[0]
