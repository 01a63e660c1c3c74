"""Dividing texts into batches, so that time and memory for one of them are bounded."""

from collections.abc import Iterator, Sequence

TEXTS = 4096
"""Texts that a batch has at most."""

CHARACTERS = 1_000_000
"""Characters that a batch has at most, unless a single text has more."""


def batches(
    texts: Sequence[str], n_texts: int = TEXTS, n_characters: int = CHARACTERS
) -> Iterator[Sequence[str]]:
    """Yield `texts` in batches; if there are none, one empty batch.

    Args:
        texts: Any strings.
        n_texts: Texts that a batch has at most.
        n_characters: Characters that a batch has at most, unless a single text has more.
    """
    start, characters = 0, 0
    for end, text in enumerate(texts):
        characters += len(text)
        if end > start and (end - start == n_texts or characters > n_characters):
            yield texts[start:end]
            start, characters = end, len(text)
    yield texts[start:]
