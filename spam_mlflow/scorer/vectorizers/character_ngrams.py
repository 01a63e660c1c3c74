"""Character n-grams as integers, which NumPy finds in a whole batch of texts at once.

Ten bits hold one character, so that an n-gram of up to six characters is one int64 and can be read
back. Ten bits are enough for Latin script and the symbols that messages in it use; all other
characters share one code and are read back as U+FFFD.
"""

from collections.abc import Iterator, Sequence

import numpy as np

LONGEST = 6  # characters; seven would not fit into 63 bits
_BITS = 10
_SPACE = ord(" ")
_LATIN = 0x370  # code points below are their own code
_SYMBOLS = "‘’“”„…–—•™€₹₽₩†‡‰‹›←↑→↓■□▬►▼◄●★☆☎☑☛☞☹☺♀♂♠♣♥♦♪♫✓✔✖✨✿❤➡➤"  # noqa: RUF001
_OTHER = 2**_BITS - 1
_CODES = np.full(0x10000, _OTHER, dtype=np.int64)
_CODES[:_LATIN] = np.arange(_LATIN)
_CODES[[ord(symbol) for symbol in _SYMBOLS]] = _LATIN + np.arange(len(_SYMBOLS))
_CHARACTERS = {_LATIN + i: symbol for i, symbol in enumerate(_SYMBOLS)} | {_OTHER: "\ufffd"}


def find_in_texts(
    texts: Sequence[str], shortest: int, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return all n-grams of `texts` as `find` does.

    Args:
        texts: Any strings.
        shortest: Characters of the shortest n-gram, at least 1.
        longest: Characters of the longest n-gram, at most LONGEST.
    """
    return find(*_codes(texts), shortest, longest)


def find(
    codes: np.ndarray, owners: np.ndarray, shortest: int, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return all n-grams of texts, repeats included, in no order.

    An n-gram has a space only at its ends.

    Args:
        codes: Those of all texts' characters, with a 0 after each text, shape (characters,), int64.
        owners: Position of each character's text, shape (characters,), int64.
        shortest: Characters of the shortest n-gram, at least 1.
        longest: Characters of the longest n-gram, at most LONGEST.

    Returns:
        For each n-gram the position of its text, and the n-gram as an integer; both int64, shape
        (n-grams,).
    """
    found = list(_ngrams(codes, shortest, longest))
    ats, keys = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return owners[ats], keys


def places(
    codes: np.ndarray, shortest: int, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all n-grams of a text as `find` does, and where they are.

    Args:
        codes: As for `find`; likewise the others.
        shortest: Characters of the shortest n-gram.
        longest: Characters of the longest n-gram.

    Returns:
        For each n-gram its first character, its number of characters, and the n-gram as an integer;
        all int64, shape (n-grams,).
    """
    found = list(_ngrams(codes, shortest, longest))
    ats, keys = (np.concatenate(parts) for parts in zip(*found, strict=True))
    lengths = np.repeat(np.arange(shortest, longest + 1), [len(at) for at, _ in found])
    return ats, lengths, keys


def _ngrams(
    codes: np.ndarray, shortest: int, longest: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each length, where n-grams begin and the n-grams as integers."""
    inside, spaces = codes != 0, codes == _SPACE
    keys, valid = codes, inside
    for length in range(1, longest + 1):
        if length > 1:
            # A space that was the last character is now an inner one, unless it is also the first.
            inner = spaces[length - 2 : -1] if length > 2 else np.zeros_like(spaces[1:])
            keys = (keys[:-1] << _BITS) | codes[length - 1 :]
            valid = valid[:-1] & inside[length - 1 :] & ~inner
        if length >= shortest:
            at = np.flatnonzero(valid)
            yield at, keys[at]


def pack(ngrams: Sequence[str]) -> np.ndarray:
    """Return n-grams as integers.

    Args:
        ngrams: Strings of 1 to LONGEST characters.

    Returns:
        Array of shape (n-grams,), int64.
    """
    keys = np.zeros(len(ngrams), dtype=np.int64)
    lengths = np.array([len(ngram) for ngram in ngrams], dtype=np.int64)
    codes, _ = _codes(ngrams)
    starts = np.cumsum(lengths + 1) - lengths - 1
    for position in range(int(lengths.max(initial=0))):
        longer = lengths > position
        keys[longer] = (keys[longer] << _BITS) | codes[starts[longer] + position]
    return keys


def unpack(keys: np.ndarray) -> list[str]:
    """Return the n-grams that `pack` made integers of."""
    shifts = range(_BITS * (LONGEST - 1), -1, -_BITS)
    columns = ((keys >> shift) & _OTHER for shift in shifts)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return ["".join(_CHARACTERS.get(c) or chr(c) for c in row if c) for row in rows]


def codes(text: str) -> np.ndarray:
    """Return the code of each character of a text, shape (characters,), int64."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return _CODES[np.minimum(points, 0xFFFF)]


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return every character's code and the position of its text; a 0 ends each text."""
    # A NUL character within a text ends n-grams, too, which loses nothing else.
    owners = np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])
    return codes("\0".join([*texts, ""])), owners
