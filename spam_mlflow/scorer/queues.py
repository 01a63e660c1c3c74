"""Whose turn it is to score: threads that compete for the interpreter take twice as long."""

import threading

SMALL = 10_000
"""Characters or bytes of a request that is answered in a few milliseconds."""


class Queues:
    """Two locks to hold while scoring, so that a large request holds up only other large ones.

    Attributes:
        small: The lock of requests of up to SMALL characters or bytes.
        large: The lock of all others.
    """

    def __init__(self) -> None:
        self.small, self.large = threading.Lock(), threading.Lock()

    def queue(self, size: int) -> threading.Lock:
        """Return the lock of a request of `size` characters or bytes."""
        return self.small if size <= SMALL else self.large
