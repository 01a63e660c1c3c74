"""Attacks on spam filters: obfuscated texts that people can still read.

Training uses them for augmentation, the benchmarks to measure robustness.
"""

import random
import string
from collections.abc import Callable, Mapping, Sequence

Attack = Callable[[str, random.Random, float], str]
"""From a text, random numbers and a share to the obfuscated text.

The share, 0 to 1, is the fraction of the characters or words that the attack changes.
"""

_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_HOMOGLYPHS = str.maketrans("aceiopsxyABCEHKMOPTX", "асеіорѕхуАВСЕНКМОРТХ")  # noqa: RUF001
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_JOINERS = ".-_*"
_SHORTEST_TYPO = 4  # characters of a word; shorter ones would no longer be readable
_SHORTEST_MISSPELLED = 3
_MOST_EDITS, _EDITED = 3, 0.4  # of a word: number of edits, and per character of it
_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBORS = {
    key: row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
    for row in _KEY_ROWS
    for at, key in enumerate(row)
}


def leet(text: str, rng: random.Random, share: float) -> str:
    """Replace letters by the digits that look like them."""
    return "".join(c.translate(_LEET) if rng.random() < share else c for c in text)


def homoglyphs(text: str, rng: random.Random, share: float) -> str:
    """Replace Latin letters by the Cyrillic ones that look the same."""
    return "".join(c.translate(_HOMOGLYPHS) if rng.random() < share else c for c in text)


def zero_width(text: str, rng: random.Random, share: float) -> str:
    """Insert an invisible character after letters."""
    return "".join(c + rng.choice(_ZERO_WIDTH) if rng.random() < share else c for c in text)


def spacing(text: str, rng: random.Random, share: float) -> str:
    """Insert spaces   b e t w e e n   the letters of words, and three spaces between words."""
    words = [" ".join(w) if rng.random() < share else w for w in text.split()]
    return "   ".join(words)


def run_together(text: str, rng: random.Random, share: float) -> str:
    """Insert spaces b e t w e e n the letters of words, which hides where a word ends."""
    return " ".join(" ".join(w) if rng.random() < share else w for w in text.split())


def punctuation(text: str, rng: random.Random, share: float) -> str:
    """I.n.s.e.r.t punctuation between the letters of words."""
    words = text.split()
    changed = (w.isalpha() and rng.random() < share for w in words)
    return " ".join(
        rng.choice(_JOINERS).join(w) if change else w
        for w, change in zip(words, changed, strict=True)
    )


def upper(text: str, rng: random.Random, share: float) -> str:
    """Write words in capitals."""
    return " ".join(w.upper() if rng.random() < share else w for w in text.split())


def lower(text: str, rng: random.Random, share: float) -> str:
    """Write words without capitals."""
    return " ".join(w.lower() if rng.random() < share else w for w in text.split())


def without_digits(text: str, rng: random.Random, share: float) -> str:
    """Leave out digits, and with them prices, short codes and phone numbers."""
    kept = "".join(c for c in text if not c.isdigit() or rng.random() >= share)
    return " ".join(kept.split()) or text


def plain(text: str, rng: random.Random, share: float) -> str:
    """Leave out digits and punctuation, and write all in lower case."""
    kept = "".join(
        c if c.isalpha() or c.isspace() or rng.random() >= share else " " for c in text.lower()
    )
    return " ".join(kept.split()) or text


def mixed_case(text: str, rng: random.Random, share: float) -> str:
    """Swap the case of letters: at a share of 1, of one in two."""
    return "".join(c.swapcase() if rng.random() < share / 2 else c for c in text)


def typos(text: str, rng: random.Random, share: float) -> str:
    """Swap, drop, double or replace one letter in words of four or more."""
    return " ".join(
        _misspell(w, rng) if len(w) >= _SHORTEST_TYPO and rng.random() < share else w
        for w in text.split()
    )


def _misspell(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) - 1)
    before, here, after = word[:at], word[at], word[at + 1 :]
    return rng.choice(
        (
            before + after[0] + here + after[1:],
            before + after,
            before + here + here + after,
            before + rng.choice(string.ascii_lowercase) + after,
        )
    )


def misspellings(text: str, rng: random.Random, share: float) -> str:
    """Swap, drop, insert or replace up to three letters in words of three or more.

    Numbers and what has digits stay: a changed number is another one, not the same misspelled.
    """
    return " ".join(
        _edited(w, rng) if _can_be_misspelled(w) and rng.random() < share else w
        for w in text.split()
    )


def _can_be_misspelled(word: str) -> bool:
    return len(word) >= _SHORTEST_MISSPELLED and not any(map(str.isdigit, word))


def _edited(word: str, rng: random.Random) -> str:
    most = min(_MOST_EDITS, round(_EDITED * len(word)))
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(word))
        before, here, after = word[:at], word[at], word[at + 1 :]
        letter = rng.choice(string.ascii_lowercase)
        word = rng.choice(
            (
                before + after[:1] + here + after[1:],
                before + after,
                before + letter + here + after,
                before + letter + after,
                before + rng.choice(_NEIGHBORS.get(here.lower(), here)) + after,
            )
        )
    return word


def pad(text: str, rng: random.Random, words: Sequence[str], count: int) -> str:
    """Append randomly chosen words: a good-word attack, where they come from ham messages.

    The attack is that of Lowd and Meek 2005, "Good Word Attacks on Statistical Spam Filters".

    Args:
        text: The message.
        rng: Random numbers.
        words: Words to choose from, with replacement.
        count: Number of words that are appended.

    Returns:
        The message, followed by the words.
    """
    return " ".join([text, *rng.choices(words, k=count)])


ATTACKS: Mapping[str, Attack] = {
    "leet": leet,
    "homoglyphs": homoglyphs,
    "zero width": zero_width,
    "spacing": spacing,
    "run together": run_together,
    "punctuation": punctuation,
    "upper case": upper,
    "lower case": lower,
    "mixed case": mixed_case,
    "typos": typos,
}
"""Every attack on the spelling by its name in the reports."""
