"""Character n-grams as integers: found by NumPy, a whole batch of texts at once.

Ten bits hold one character, so that an n-gram of up to six is one int64, and can be read back.
They are enough for Latin script and the signs that messages in it use; all other characters share
one code and are read back as U+FFFD.
"""

from collections.abc import Sequence

import numpy as np

LONGEST = 6  # characters; seven would not fit into 63 bits
_BITS = 10
_SPACE = ord(" ")
_LATIN = 0x370  # code points below are their own code
_SIGNS = "‘’“”„…–—•™€₹₽₩†‡‰‹›←↑→↓■□▬►▼◄●★☆☎☑☛☞☹☺♀♂♠♣♥♦♪♫✓✔✖✨✿❤➡➤"  # noqa: RUF001
_OTHER = 2**_BITS - 1
_CODES = np.full(0x10000, _OTHER, dtype=np.int64)
_CODES[:_LATIN] = np.arange(_LATIN)
_CODES[[ord(sign) for sign in _SIGNS]] = _LATIN + np.arange(len(_SIGNS))
_CHARACTERS = {_LATIN + i: sign for i, sign in enumerate(_SIGNS)} | {_OTHER: "\ufffd"}


def find(texts: Sequence[str], shortest: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all n-grams of `texts`, in no order, as owners and keys; int64, equal shapes.

    owners: position in `texts` of the text that holds the n-gram.
    keys: the n-grams as integers; a space stands only at their ends.
    """
    codes, owners = _codes(texts)
    inside, spaces = codes != 0, codes == _SPACE
    keys, valid = codes, inside
    found = []
    for length in range(1, longest + 1):
        if length > 1:
            # A space that was last becomes an inner one, except where it is also the first.
            inner = spaces[length - 2 : -1] if length > 2 else np.zeros_like(spaces[1:])
            keys = (keys[:-1] << _BITS) | codes[length - 1 :]
            valid = valid[:-1] & inside[length - 1 :] & ~inner
        if length >= shortest:
            at = np.flatnonzero(valid)
            found.append((owners[at], keys[at]))
    return np.concatenate([o for o, _ in found]), np.concatenate([k for _, k in found])


def pack(ngrams: Sequence[str]) -> np.ndarray:
    """Return the key of each n-gram, each of 1 to LONGEST characters; int64."""
    keys = np.zeros(len(ngrams), dtype=np.int64)
    lengths = np.array([len(ngram) for ngram in ngrams], dtype=np.int64)
    codes, _ = _codes(ngrams)
    starts = np.cumsum(lengths + 1) - lengths - 1
    for position in range(int(lengths.max(initial=0))):
        longer = lengths > position
        keys[longer] = (keys[longer] << _BITS) | codes[starts[longer] + position]
    return keys


def unpack(keys: np.ndarray) -> list[str]:
    """Return the n-gram of each key."""
    shifts = range(_BITS * (LONGEST - 1), -1, -_BITS)
    columns = ((keys >> shift) & _OTHER for shift in shifts)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return ["".join(_CHARACTERS.get(c) or chr(c) for c in row if c) for row in rows]


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return every character's code and the position of its text; a 0 ends each text."""
    # NUL characters of the texts themselves would end them, too; nothing else is lost by it.
    joined = "\0".join([*texts, ""]).encode("utf-32-le", "surrogatepass")
    codes = _CODES[np.minimum(np.frombuffer(joined, dtype="<u4"), 0xFFFF)]
    owners = np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])
    return codes, owners
