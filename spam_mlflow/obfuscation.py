"""Ways to disguise a text that a person still reads: to train against, and to measure with.

Every attack takes the text, a generator of random numbers and the share of characters or words that
it touches, 0 to 1.
"""

import random
import string
from collections.abc import Callable, Mapping, Sequence

Attack = Callable[[str, random.Random, float], str]

_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_HOMOGLYPHS = str.maketrans("aceiopsxyABCEHKMOPTX", "асеіорѕхуАВСЕНКМОРТХ")  # noqa: RUF001
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_JOINERS = ".-_*"
_SHORTEST_TYPO = 4  # characters of a word; people do not misspell "the" beyond reading


def leet(text: str, rng: random.Random, share: float) -> str:
    """Write letters as the digits that look like them."""
    return "".join(c.translate(_LEET) if rng.random() < share else c for c in text)


def homoglyphs(text: str, rng: random.Random, share: float) -> str:
    """Write Latin letters as the Cyrillic ones that look the same."""
    return "".join(c.translate(_HOMOGLYPHS) if rng.random() < share else c for c in text)


def zero_width(text: str, rng: random.Random, share: float) -> str:
    """Put an invisible character behind letters."""
    return "".join(c + rng.choice(_ZERO_WIDTH) if rng.random() < share else c for c in text)


def spacing(text: str, rng: random.Random, share: float) -> str:
    """S p a c e   o u t words, with three spaces where a space was."""
    words = [" ".join(w) if rng.random() < share else w for w in text.split()]
    return "   ".join(words)


def run_together(text: str, rng: random.Random, share: float) -> str:
    """S p a c e o u t words so that nothing tells where one ends."""
    return " ".join(" ".join(w) if rng.random() < share else w for w in text.split())


def punctuation(text: str, rng: random.Random, share: float) -> str:
    """P.u.t punctuation between the letters of words."""
    words = text.split()
    touched = (w.isalpha() and rng.random() < share for w in words)
    return " ".join(
        rng.choice(_JOINERS).join(w) if hit else w for w, hit in zip(words, touched, strict=True)
    )


def upper(text: str, rng: random.Random, share: float) -> str:
    """Write words in capitals."""
    return " ".join(w.upper() if rng.random() < share else w for w in text.split())


def lower(text: str, rng: random.Random, share: float) -> str:
    """Write words without capitals."""
    return " ".join(w.lower() if rng.random() < share else w for w in text.split())


def mixed_case(text: str, rng: random.Random, share: float) -> str:
    """MiX tHe cASe of letters."""
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


def pad(text: str, rng: random.Random, words: Sequence[str], count: int) -> str:
    """Append `count` of `words`, such as words of ham, for a filter to be lulled by."""
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
