"""Segmenting words that were run together, such as "freeringtone"."""

import math
import re
from collections.abc import Mapping, Sequence

from .style_features import LINK

LONG_WORD = 20
"""Characters; a longer run without a space is taken for words that were run together."""

_LONGEST_TEXT = 2000  # characters; it bounds the time for a text to 50 ms
_LETTERS_OR_OTHER = re.compile("[A-Za-z]+|[^A-Za-z]+")


def needs_segmentation(text: str, pieces: Sequence[str]) -> bool:
    """Return whether a text is short enough, and one of its pieces long enough, to be segmented.

    Args:
        text: A normalized text.
        pieces: The text's pieces between spaces.
    """
    return len(text) <= _LONGEST_TEXT and max(map(len, pieces), default=0) > LONG_WORD


class WordSegmenter:
    """Finds the most likely words of a run of letters by the words' frequencies.

    Source: Norvig 2009, "Natural Language Corpus Data".

    Args:
        document_frequencies: Number of training texts that hold each word. Pairs of words among
            them have no effect, since no run of letters holds a space.
        texts: Number of training texts.
    """

    def __init__(self, document_frequencies: Mapping[str, int], texts: int) -> None:
        log_texts = math.log(10 * max(texts, 1))
        self._log_probabilities = {
            word: math.log(count) - log_texts for word, count in document_frequencies.items()
        }
        # The longer an unknown word is, the less likely it is.
        self._unknown = [(1 - length) * math.log(10) - log_texts for length in range(LONG_WORD + 1)]

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of a normalized text between spaces, long ones split into words."""
        pieces = text.split()
        if not self._log_probabilities or not needs_segmentation(text, pieces):
            return pieces
        return [
            part
            for piece in pieces
            for part in (self._segmented(piece) if len(piece) > LONG_WORD else (piece,))
        ]

    def _segmented(self, piece: str) -> list[str]:
        """Return the words of a long piece of text; a piece with a link stays whole."""
        if LINK.search(piece):
            return [piece]
        runs = _LETTERS_OR_OTHER.findall(piece)
        return [word for run in runs for word in (self._words(run) if run.isalpha() else [run])]

    def _words(self, letters: str) -> list[str]:
        """Return the most likely words that make up `letters`, by dynamic programming."""
        folded, known, unknown = letters.casefold(), self._log_probabilities, self._unknown
        scores, starts = [0.0], [0]
        for end in range(1, len(folded) + 1):
            best, best_start = -math.inf, 0
            for start in range(max(0, end - LONG_WORD), end):
                score = known.get(folded[start:end])
                score = scores[start] + (unknown[end - start] if score is None else score)
                if score >= best:
                    best, best_start = score, start
            scores.append(best)
            starts.append(best_start)
        words, end = [], len(letters)
        while end:
            words.append(letters[starts[end] : end])
            end = starts[end]
        return words[::-1]
