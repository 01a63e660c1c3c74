"""Which values of a file's label column mean ham and which spam."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from spam_mlflow.config.commands import override
from spam_mlflow.errors import UserError

Label = bool | int | float | str

_MAX_UNMAPPED = 0.01  # share of the rows that may have labels which are not mapped
_MAX_UNMAPPED_OF_RARER = 0.1  # the same, of the rows of the rarer class
_LISTED = 10  # labels in an error message
_HAM_WORDS = {"ham", "legit", "legitimate", "normal", "not spam", "non-spam", "nonspam", "safe"}
_HAM_WORDS |= {"benign", "ok", "no", "false", "0", "0.0", "-1"}
_SPAM_WORDS = {"spam", "smishing", "phishing", "scam", "fraud", "junk", "promo", "advertisement"}
_SPAM_WORDS |= {"malicious", "yes", "true", "1", "1.0"}
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
        classes = self._classes
        ignored = set(map(_key, self.ignored))
        keys = {value: _key(value) for value in counts.index}
        unmapped = counts[[k not in classes and k not in ignored for k in keys.values()]]
        rows = {
            name: int(counts[[classes.get(key) == name for key in keys.values()]].sum())
            for name in ("ham", "spam")
        }
        few = min(
            _MAX_UNMAPPED * counts.sum(),
            _MAX_UNMAPPED_OF_RARER * min(rows.values()),
        )
        if unmapped.sum() > few:
            raise UserError(
                f"data.label_column={column!r}: {unmapped.sum():,} of {counts.sum():,} rows have "
                f"labels that are neither in data.ham_labels nor in data.spam_labels. The column "
                f"holds {_listed(counts)}. {self._remedy(list(unmapped.index))}"
            )

    def _remedy(self, unmapped: Sequence[str]) -> str:
        """Return the overrides that map the labels, or say why there are none."""
        if len(unmapped) > _LISTED:
            return "Is it the column with the labels?"
        ham = _distinct([*self.ham, *(v for v in unmapped if _key(v) in _HAM_WORDS)])
        spam = _distinct([*self.spam, *(v for v in unmapped if _key(v) in _SPAM_WORDS)])
        rest = [v for v in unmapped if not {_key(v)} & (_HAM_WORDS | _SPAM_WORDS)]
        given = override("data.ham_labels", ham), override("data.spam_labels", spam)
        quoted = " ".join(f'"{text}"' if set(text) & set("' ") else text for text in given)
        if not rest:
            return f"Give {quoted}"
        names = override("data.ignored_labels", _distinct([*self.ignored, *rest]))
        return (
            f"Give {quoted} with {', '.join(map(repr, rest))} added to one of them, or leave the "
            f"rows out with {names}"
        )


def _key(value: Label) -> str:
    """Return what is compared of a label."""
    text = str(value).strip().casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:g}" if math.isfinite(number) else text


def _distinct(values: Iterable[Label]) -> list[Label]:
    """Return the values without those that are compared as equal to an earlier one."""
    found: dict[str, Label] = {}
    for value in values:
        found.setdefault(_key(value), value)
    return list(found.values())


def _listed(counts: pd.Series) -> str:
    """Return the most frequent labels with their counts."""
    shown = [f"{value!r:.60} ({count:,})" for value, count in counts.head(_LISTED).items()]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more:,} others" if more > 0 else "")
