"""What is never shown: log-in data in addresses, and the values of environment variables."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

# Up to the last "@" of the host's part; a password with ":" before it may even hold a slash.
_LOGIN = re.compile(r"(?<=://)(?:[^\s/'\"]*@|[^\s/:@'\"]*:(?!\d+/)[^\s'\"]*@)")
# Of a text that is nothing but an address, so that a password may hold spaces and quotes, too.
_LOGIN_OF_ALL = re.compile(r"(?<=://)(?:[^/]*@|[^/:@]*:(?!\d+/).*@)", re.DOTALL)
_ADDRESS = re.compile(r"[\w.+-]+://.*", re.DOTALL)
_NAME = r"([?&](?:ssl)?passw(?:or)?d=)"
_PARAMETER = re.compile(rf"{_NAME}[^&\s'\"]*", re.IGNORECASE)
_PARAMETER_OF_ALL = re.compile(rf"{_NAME}[^&]*", re.IGNORECASE)
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
    return _PARAMETER.sub(r"\1***", _LOGIN.sub("***@", text))


def masked_address(text: str) -> str:
    """Return a text as `masked` does, and where it is an address, whatever its password holds."""
    shown = masked(text)
    if not _ADDRESS.fullmatch(shown):
        return shown
    return _PARAMETER_OF_ALL.sub(r"\1***", _LOGIN_OF_ALL.sub("***@", shown))


def masked_value(value: Any) -> Any:
    """Return a configuration value with `masked_address` applied to all text within it."""
    if isinstance(value, str):
        return masked_address(value)
    if isinstance(value, Mapping):
        return {key: masked_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(entry) for entry in value]
    return value


def mask_record(record: logging.LogRecord) -> bool:
    """Mask a record's message, as a filter of a logging handler; every record is kept."""
    record.msg, record.args = masked(record.getMessage()), None
    return True
