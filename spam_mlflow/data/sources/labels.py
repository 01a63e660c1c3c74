"""Which values of a file's label column mean ham and which spam."""

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from spam_mlflow.config.commands import override, shell_word
from spam_mlflow.errors import UserError
from spam_mlflow.scorer.labels import LABELS

Label = bool | int | float | str

_MAX_UNMAPPED = 0.01  # share of the rows that may have labels which are not mapped
_MAX_UNMAPPED_OF_RARER = 0.1  # the same, of the rows of the rarer class
_LISTED = 10  # labels in an error message
_HAM_WORDS = {"ham", "legit", "legitimate", "normal", "not spam", "non-spam", "nonspam", "safe"}
_HAM_WORDS |= {"benign", "ok", "no", "false", "0", "-1"}
_SPAM_WORDS = {"spam", "smishing", "phishing", "scam", "fraud", "junk", "promo", "advertisement"}
_SPAM_WORDS |= {"malicious", "yes", "true", "1"}
"""Labels of public data sets, for a proposal: none is mapped unless the user says so."""


@dataclass(frozen=True)
class LabelMap:
    """The labels that mean ham, those that mean spam, and those whose rows are left out.

    Labels are compared without case and surrounding blanks, and as numbers if both are numbers:
    "Ham" is "ham", "TRUE" is true, and "1.0" is 1.

    Attributes:
        ham: Values that mean ham.
        spam: Values that mean spam.
        ignored: Values whose rows are rejected without a complaint.
    """

    ham: Sequence[Label]
    spam: Sequence[Label]
    ignored: Sequence[Label] = ()

    def __post_init__(self) -> None:
        """Raise UserError if a value would have two meanings."""
        meanings = {
            "ham_labels": self.ham,
            "spam_labels": self.spam,
            "ignored_labels": self.ignored,
        }
        seen: dict[str, str] = {}
        for name, values in meanings.items():
            for key in map(_key, values):
                if seen.setdefault(key, name) != name:
                    raise UserError(f"data.{seen[key]} and data.{name} both hold {key}")

    def is_label(self, value: str) -> bool:
        """Return whether a cell holds one of the labels."""
        return _key(value) in self._classes

    def classes(self, values: pd.Series, column: str) -> pd.Series:
        """Return the class of each row.

        Args:
            values: Cells of the label column, of any type; shape (rows,).
            column: Name of the column.

        Returns:
            "ham", "spam", or None if the label is missing. A value that is not mapped is quoted, so
            that it is never taken for a class: "ham" is none if `ham` is [0].

        Raises:
            UserError: If labels are not mapped that many rows have.
        """
        cells = values.map(lambda value: "" if pd.isna(value) else str(value).strip())
        counts = cells[cells != ""].value_counts()
        classes = self._classes
        known = {value: classes.get(_key(value), repr(value)) for value in counts.index}
        self._require_mapped(counts, column)
        return cells.map(known).astype(object).where(cells != "", None)

    @functools.cached_property
    def _classes(self) -> dict[str, str]:
        return {
            **{_key(value): "ham" for value in self.ham},
            **{_key(value): "spam" for value in self.spam},
        }

    def _require_mapped(self, counts: pd.Series, column: str) -> None:
        """Raise UserError if more than a few of the rows have labels that are not mapped.

        Args:
            counts: Number of rows by label.
            column: Name of the column.
        """
        ignored = set(map(_key, self.ignored))
        classes = pd.Series([self._classes.get(_key(v), "") for v in counts.index], counts.index)
        unmapped = counts[[not c and _key(str(v)) not in ignored for v, c in classes.items()]]
        rarer = min(int(counts[classes == name].sum()) for name in LABELS)
        few = min(_MAX_UNMAPPED * counts.sum(), _MAX_UNMAPPED_OF_RARER * rarer)
        if unmapped.sum() > few:
            remedy = self._remedy(list(counts.index), list(unmapped.index))
            raise UserError(
                f"data.label_column={column!r}: {unmapped.sum():,} of {counts.sum():,} rows have "
                "labels that are neither in data.ham_labels nor in data.spam_labels. The column "
                f"holds {_listed(counts)}. {remedy}"
            )

    def _remedy(self, found: Sequence[str], unmapped: Sequence[str]) -> str:
        """Return the overrides that map the labels which a column holds."""
        if len(unmapped) > _LISTED:
            return "Is it the column with the labels?"
        classes = self._classes
        ham = [v for v in found if classes.get(_key(v), _proposed(v)) == "ham"]
        spam = [v for v in found if classes.get(_key(v), _proposed(v)) == "spam"]
        rest = [v for v in unmapped if v not in ham and v not in spam]
        if len(rest) == 2 and not ham and not spam:
            return f"Give {_overrides(rest[:1], rest[1:])}, or the other way round"
        if not rest:
            return f"Give {_overrides(ham, spam)}"
        return (
            f"Give {_overrides(ham, spam)} with {', '.join(map(repr, rest))} added to one of them, "
            f"or leave their rows out with {_override('ignored', [*self.ignored, *rest])}"
        )


def _proposed(value: str) -> str | None:
    """Return what a label that is not mapped probably means, None if that is not known."""
    key = _key(value)
    return "ham" if key in _HAM_WORDS else "spam" if key in _SPAM_WORDS else None


def _overrides(ham: Sequence[Label], spam: Sequence[Label]) -> str:
    return f"{_override('ham', ham)} {_override('spam', spam)}"


def _override(name: str, values: Sequence[Label]) -> str:
    """Return the override that lists labels, quoted for the shell."""
    distinct = {_key(value): value for value in reversed(values)}
    typed = [_typed(value) for value in reversed(distinct.values())]
    return shell_word(override(f"data.{name}_labels", typed))


def _typed(value: Label) -> Label:
    """Return a label as the truth value or the whole number that it is written as."""
    key = _key(value)
    if key in ("true", "false"):
        return key == "true"
    return int(key) if re.fullmatch(r"-?\d{1,15}", key) else value


def _key(value: Label) -> str:
    """Return what is compared of a label."""
    text = str(value).strip().casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:g}" if math.isfinite(number) else text


def _listed(counts: pd.Series) -> str:
    """Return the most frequent labels with their counts."""
    shown = [f"{value!r:.60} ({count:,})" for value, count in counts.head(_LISTED).items()]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more:,} others" if more > 0 else "")
