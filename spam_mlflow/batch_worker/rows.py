"""Rows of an input: which can be scored, and why the others cannot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST = 200_000
"""Characters of a text that is scored, as in a request to the scoring server."""

_SHOWN = 200  # characters of a text that a reject repeats


class Reject(NamedTuple):
    """A row that cannot be scored, or a whole file.

    Attributes:
        file: Name of the file.
        row: Number of the row, from 1: of its line, or its place in a Parquet file; None for all.
        reason: Why.
        text: Beginning of its text, or of its line.
    """

    file: str
    row: int | None
    reason: str
    text: str | None


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows.

    Attributes:
        numbers: Number of each row, from 1.
        texts: What stands in the text column; of a broken line, the line.
        others: The columns `id` and those that are carried through.
        problems: Why rows cannot be scored, by their position here.
    """

    numbers: Sequence[int]
    texts: Sequence[Any]
    others: "pa.Table"
    problems: dict[int, str]

    def usable(self) -> list[int]:
        """Return the positions of the rows that can be scored, and find out what is wrong."""
        for position, text in enumerate(self.texts):
            if position not in self.problems and (problem := _problem(text)):
                self.problems[position] = problem
        if not self.problems:
            return list(range(len(self.texts)))
        return [i for i in range(len(self.texts)) if i not in self.problems]

    def rejects(self, file: str) -> Iterator[Reject]:
        """Yield the rows that cannot be scored.

        Args:
            file: Name of the file.
        """
        for position, problem in sorted(self.problems.items()):
            yield Reject(file, self.numbers[position], problem, _shown(self.texts[position]))


def _problem(text: Any) -> str:
    """Return why a text cannot be scored, "" if it can."""
    if text.__class__ is str:
        if len(text) > LONGEST:
            return f"the text has {len(text):,} characters; at most {LONGEST:,} are scored"
        if not text.isascii() and not _is_unicode(text):
            return "the text is not valid Unicode"
        return ""
    if text is None:
        return "the text is null"
    if isinstance(text, bytes):
        return "the text is not in UTF-8"
    return f"the text is no string but {type(text).__name__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: Any) -> str | None:
    """Return the beginning of a text in a form that can be written."""
    if text is None:
        return None
    if isinstance(text, bytes):
        return text[:_SHOWN].decode(errors="replace")
    return str(text)[:_SHOWN].encode(errors="replace").decode()
