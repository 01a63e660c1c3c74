"""What is never shown: log-in data in addresses, and the values of environment variables."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

# Up to the last "@" of the host's part; a password with ":" before it may even hold a slash.
_LOGIN = re.compile(r"(?<=://)(?:[^\s/'\"]*@|[^\s/:@'\"]*:(?!\d+/)[^\s'\"]*@)")
_SHORTEST = 4  # characters of a value that is looked for in text: "1" is no secret

_values: dict[str, str] = {}
"""Values that the configuration has read from the environment, with what is shown instead."""


def remember(value: str, shown: str) -> None:
    """Have `masked` show something else wherever a value occurs.

    Args:
        value: Of an environment variable.
        shown: Such as "${oc.env:NAME}".
    """
    for form in (value, repr(value)[1:-1], json.dumps(value)[1:-1]):  # also as messages quote it
        if len(form) >= _SHORTEST:
            _values[form] = shown


def masked(text: str) -> str:
    """Return `text` with user and password of addresses as ***, and without remembered values."""
    for value in sorted(_values, key=len, reverse=True):
        text = text.replace(value, _values[value])
    return _LOGIN.sub("***@", text)


def masked_value(value: Any) -> Any:
    """Return a configuration value with `masked` applied to all text within it."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: masked_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(entry) for entry in value]
    return value


def mask_record(record: logging.LogRecord) -> bool:
    """Mask a record's message, as a filter of a logging handler; every record is kept."""
    record.msg, record.args = masked(record.getMessage()), None
    return True
