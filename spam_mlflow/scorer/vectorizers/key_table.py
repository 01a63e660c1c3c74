"""A table from integer keys to their positions, in which NumPy looks up many keys at once."""

import numpy as np

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: it spreads any keys evenly
_NONE = np.int32(-1)
_ROOM = 5  # slots per key, so that most unknown keys find an empty slot first


class KeyTable:
    """Positions of distinct keys, by hashing with linear probing.

    Args:
        keys: The keys, numbers from 0, shape (keys,), int64.
    """

    def __init__(self, keys: np.ndarray) -> None:
        bits = max(int(len(keys) * _ROOM).bit_length(), 4)
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._keys = np.append(keys, -1)  # what position -1 of an empty slot has
        self._positions = np.full(1 << bits, -1, dtype=np.int32)
        slots, left = self._slots(keys), np.arange(len(keys), dtype=np.int32)
        while len(left):
            free = left[self._positions[slots[left]] < 0]
            self._positions[slots[free]] = free  # of several for one slot, the last stays there
            left = left[self._positions[slots[left]] != left]
            slots[left] = slots[left] + 1 & self._mask

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the position of each key, or -1 if it is unknown.

        Args:
            keys: Numbers from 0, shape (keys,), int64.

        Returns:
            Array of shape (keys,), int32.
        """
        slots = self._slots(keys)
        there = self._positions[slots]
        found = np.where(self._keys[there] == keys, there, _NONE)
        left = np.flatnonzero(found != there)
        while len(left):
            slots[left] = slots[left] + 1 & self._mask
            there = self._positions[slots[left]]
            same = self._keys[there] == keys[left]
            found[left[same]] = there[same]
            left = left[~same & (there >= 0)]
        return found

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        """Return where each key is looked for first, int64."""
        return (keys.astype(np.uint64) * _FACTOR >> self._shift).astype(np.int64)
