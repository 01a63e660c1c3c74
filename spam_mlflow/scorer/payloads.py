"""Texts and parameters of a request, in any of the forms that Python and JSON give them."""

import numbers
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .errors import UserError

TEXT = "text"
"""Name of the input column."""

DOUBT = "low_confidence"
"""Column of an answer: why the score of a text means little."""

LONGEST = 200_000
"""Characters that a text may have."""

_SHOWN = 80  # characters of a bad value that an error repeats
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _SHOWN


@dataclass(frozen=True)
class Params:
    """The optional parameters of a request.

    Attributes:
        threshold: Spam probability from which a text is labeled spam; None for the model's own.
        explain: Whether to name the features that moved the score.
    """

    threshold: float | None = None
    explain: bool = False

    @classmethod
    def read(cls, given: Any) -> "Params":
        """Return the parameters of a mapping, or the defaults if `given` is None.

        Raises:
            UserError: For unknown parameters and for bad values.
        """
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise UserError(f"params={shown(given)} must be an object with names and values")
        names = tuple(cls.__dataclass_fields__)
        for name in given:
            if name not in names:
                raise UserError(
                    f"{shown(name)} is no parameter; the parameters are {' and '.join(names)}"
                )
        return cls(_threshold(given.get("threshold")), _explain(given.get("explain")))


def _threshold(given: Any) -> float | None:
    if given is None:
        return None
    is_number = isinstance(given, numbers.Real) and not isinstance(given, bool)
    if not is_number or not 0 <= float(given) <= 1:
        raise UserError(f"threshold={shown(given)} must be a number from 0 to 1")
    return float(given)


def _explain(given: Any) -> bool:
    if given is not None and not isinstance(given, bool | np.bool_):
        raise UserError(f"explain={shown(given)} must be true or false")
    return bool(given)


def read(data: Any) -> tuple[list[str], pd.Index | None]:
    """Return the texts of any input that MLflow accepts, and their index if they have one.

    Args:
        data: A data frame or a dictionary with a column `text`, a list of records, a series, a
            list or an array of strings, or a single string.

    Raises:
        UserError: For any other input, and for texts that `require_texts` refuses.
    """
    if isinstance(data, pd.DataFrame | Mapping):
        data = _column(data)
    elif isinstance(data, list) and any(issubclass(kind, Mapping) for kind in set(map(type, data))):
        data = [_column(record) for record in data]
    if isinstance(data, pd.Series):
        return require_texts(data.tolist()), data.index
    if isinstance(data, str):
        return require_texts([data]), None
    values = data.tolist() if isinstance(data, np.ndarray) and data.ndim == 1 else data
    if not isinstance(values, list):
        raise UserError(
            f"texts must be a column {TEXT!r} or a list of strings, not {type(data).__name__} "
            f"{shown(data)}"
        )
    return require_texts(values), None


def _column(data: Any) -> Any:
    """Return the column `text` of a data frame or of a dictionary, or a record's value of it."""
    if not isinstance(data, pd.DataFrame | Mapping):
        raise UserError(f"there must be one column {TEXT!r}; got {shown(data)}")
    require_text_column(data)
    return data[TEXT]


def require_text_column(names: Iterable[Any]) -> None:
    """Check that just one of a table's columns is called `text`.

    Raises:
        UserError: If that is not so.
    """
    columns = list(names)
    if columns.count(TEXT) != 1:
        raise UserError(f"there must be one column {TEXT!r}; got {shown(columns)}")


def require_texts(values: list[Any]) -> list[str]:
    """Return `values` if all of them are strings that can be scored.

    Raises:
        UserError: For the first row that is no string, or has more than LONGEST characters.
    """
    for row, value in enumerate(values):
        if not isinstance(value, str):
            missing = pd.api.types.is_scalar(value) and pd.isna(value)
            kind = "null" if missing else type(value).__name__
            raise UserError(f"{TEXT!r} must be a string, but row {row} is {kind}: {shown(value)}")
        if len(value) > LONGEST:
            raise UserError(
                f"{TEXT!r} in row {row} is {len(value):,} characters long; at most {LONGEST:,} "
                "are scored: send the message alone"
            )
    return values


def shown(value: Any) -> str:
    """Return the start of a bad value, for an error that must not repeat a whole request."""
    return _REPR.repr(value)[:_SHOWN]
