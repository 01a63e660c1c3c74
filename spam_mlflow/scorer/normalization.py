"""Text normalization, shared by training, splitting and serving."""

import functools
import html
import re
import unicodedata

NORMALIZER_VERSION = "2"
"""Recorded with every model, which must only score texts that are normalized as in its training."""

READ = 20_000
"""Characters of a text that are read, half of them at its start and half at its end.

It bounds the time and the memory of every later step, whatever a text holds. That is twice the
longest comment that YouTube takes.
"""

# Zero-width and bidirectional controls, the byte-order mark, the soft hyphen and the variation
# selectors are invisible, so that a spammer can split words with them. In the YouTube files,
# U+FEFF is also spread unevenly over the classes and would leak the label.
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_MOST_MARKS = 30  # combining marks in a row; the limit of Unicode's stream-safe format (UAX #15)
_HUGE_REFERENCE = re.compile("&#[0-9]{8,};?")  # Python makes no numbers of over 4,300 digits
_SHORT = 1000  # characters of a text that cannot take long, whatever it holds
_DIGITS = re.compile(r"\d+")
_PUNCTUATION_OR_SPACE = re.compile(r"[\W_]+")
_WIDE_GAP = re.compile(r"\s{2,}")
_LETTER = r"[^\W\d_]"
_PERHAPS_SPACED_OUT = re.compile(r"\s\S\s+\S\s")
_SPACED_OUT = re.compile(r"(?<!\S)\S(?:\s+\S(?!\S)){3,}")
JOINERS = ".-_*|/~,"
"""Punctuation that is dropped where it joins single letters."""

_JOINER = f"[{re.escape(JOINERS)}]"
_PUNCTUATED = re.compile(
    rf"(?<!{_LETTER}){_LETTER}(?:({_JOINER}){_LETTER})(?:\1{_LETTER})+(?!{_LETTER})"
)
_PERHAPS_PUNCTUATED = re.compile(rf"({_JOINER}){_LETTER}\1")
_LAST_LATIN = "\u024f"  # accented Latin letters stay: they are a language's, not an obfuscation
_LEET_TABLE = str.maketrans("4@31!05$7", "aaeiiosst")
_PERHAPS_LEET = re.compile(rf"[4@310$57](?:(?={_LETTER})|(?<={_LETTER}.))")
_LEET_WORD = re.compile(
    rf"{_LETTER}[4@310$57]+{_LETTER}|{_LETTER}[4@310$57]{{1,2}}$|^[4@310$57]{{1,2}}{_LETTER}"
)
_HAS_LETTER = re.compile(_LETTER)
_LEET_SHARE = 0.35  # of a text's words, from which it counts as leet; a single "b4" does not
_EDGES = "!?.,;:\"'()"


def decode(text: str) -> str:
    """Return `text` in Unicode's NFKC, with HTML entities decoded, without invisible characters.

    Of a text with more than READ characters, the middle is left out.
    """
    plain = unescaped(what_is_read(text))
    if plain.isascii():
        return plain
    if len(plain) > _SHORT:
        plain = _bounded(plain)
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", plain))


def what_is_read(text: str) -> str:
    """Return at most READ characters: the text, or the start of a longer one, a space and its end.

    A text and what is read of it have the same features.
    """
    return text if len(text) <= READ else f"{text[: READ // 2]} {text[1 - READ // 2 :]}"


def unescaped(text: str) -> str:
    """Return `text` with HTML entities decoded; a number beyond Unicode is U+FFFD, as in HTML."""
    try:
        return html.unescape(text)
    except ValueError:
        return html.unescape(_HUGE_REFERENCE.sub("\ufffd", text))


def _bounded(text: str) -> str:
    """Return `text` without what makes NFKC slow: it is the same for all texts that people write.

    NFKC sorts a run of combining marks in quadratic time, so that only the first of each run stay.
    It makes up to 18 characters of one, so that a text ends where its NFKC would become too long.
    """
    kept, length, marks = [], 0, 0
    for character in text:
        expanded = _expanded(character)
        # Some vowel signs are no marks, but become two of them.
        marks = marks + len(expanded) if unicodedata.combining(expanded[0]) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
            length += len(expanded)
            if length >= READ:
                break
    return "".join(kept)


@functools.lru_cache(4096)
def _expanded(character: str) -> str:
    return unicodedata.normalize("NFKD", character)


@functools.lru_cache(4096)
def _base(character: str) -> str:
    """Return a character without its accents, which is nothing for a combining mark."""
    return "".join([part for part in _expanded(character) if not unicodedata.combining(part)])


def normalize(text: str) -> str:
    """Return `text` decoded, without the usual obfuscations, and with runs of spaces made one.

    The obfuscations are look-alike letters of other scripts, l e t t e r s spaced out,
    l.e.t.t.e.r.s joined by punctuation, and texts written in l337 throughout. Case stays, since
    capitals are evidence; models fold it themselves.
    """
    plain = decode(text)
    if not plain.isascii():
        plain = plain.translate(_look_alikes())
    # The patterns to search for first are the faster ones.
    if _PERHAPS_SPACED_OUT.search(plain):
        plain = _SPACED_OUT.sub(_join_letters, plain)
    if _PERHAPS_PUNCTUATED.search(plain):
        plain = _PUNCTUATED.sub(lambda found: found[0].replace(found[1], ""), plain)
    words = plain.split()
    if _PERHAPS_LEET.search(plain):
        words = _without_leet(words)
    return " ".join(words)


def skeleton(chunk: str) -> str:
    """Return the letters of a chunk, which stay the same under the usual obfuscations.

    Case is folded; accents and punctuation are dropped. Digits and signs of leet become letters
    where the chunk has a letter; all other runs of digits become 0.

    Args:
        chunk: A stretch of normalized text without spaces.
    """
    bare = chunk.casefold().strip(_EDGES)
    if bare.isascii() and bare.isalpha():
        return bare  # the steps below would not change most chunks
    if _HAS_LETTER.search(bare):
        bare = bare.translate(_LEET_TABLE)
    if not bare.isascii():
        bare = "".join(map(_base, bare))  # NFKD of the whole would sort marks in quadratic time
    return _DIGITS.sub("0", _PUNCTUATION_OR_SPACE.sub("", bare))


def duplicate_key(text: str) -> str:
    """Return a key that is equal for texts that differ only in case, digits, space or punctuation.

    A text without a single letter or digit, such as an emoji, is its own key, so that such texts
    are not all taken for duplicates.
    """
    normal = " ".join(decode(text).split()).casefold()
    key = _PUNCTUATION_OR_SPACE.sub(" ", _DIGITS.sub("0", normal)).strip()
    return key or normal


def _join_letters(found: re.Match[str]) -> str:
    """Return a match of single characters as words, which the wider gaps separate."""
    return " ".join("".join(word.split()) for word in _WIDE_GAP.split(found[0]))


def _without_leet(words: list[str]) -> list[str]:
    """Return the words with leet undone, or as they are if the text is not written in leet."""
    leet = sum(len(word) > 1 and _LEET_WORD.search(word) is not None for word in words)
    if leet < 2:
        return words
    candidates = sum(len(word) > 1 and _HAS_LETTER.search(word) is not None for word in words)
    if candidates >= 3 and leet >= _LEET_SHARE * candidates:
        words = [w.translate(_LEET_TABLE) if _HAS_LETTER.search(w) else w for w in words]
    return words


@functools.cache
def _look_alikes() -> dict[int, str]:
    """Return the ASCII letter or digit that each character of another script looks like.

    Source: Unicode's confusables (UTS #39), as packaged in confusable_homoglyphs.

    Returns:
        A table for `str.translate`.
    """
    from confusable_homoglyphs.confusables import confusables_data

    table = {}
    for character, alikes in confusables_data.items():
        plain = [alike["c"] for alike in alikes if alike["c"].isascii() and alike["c"].isalnum()]
        if len(character) == 1 and character > _LAST_LATIN and character.isalnum() and plain:
            table[ord(character)] = plain[0]
    return {code: plain for code, plain in table.items() if len(plain) == 1}
