"""Overrides as users write them, checked, and put into the words that Hydra understands."""

import logging
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union

from spam_mlflow.config import schema
from spam_mlflow.config.names import current, in_full
from spam_mlflow.config.paths import choices, conf_folders
from spam_mlflow.config.reference import OPTIONAL_GROUPS
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

logger = logging.getLogger(__name__)

# One override: anything without spaces, with quoted or bracketed stretches that may hold some.
_IN_BRACKETS = r"[^\[\]{}]"
for _ in range(3):  # brackets within brackets, such as a list of mappings with lists
    _IN_BRACKETS = rf"(?:[^\[\]{{}}]|\[{_IN_BRACKETS}*\]|\{{{_IN_BRACKETS}*\}})"
_BRACKETS = rf"\[{_IN_BRACKETS}*\]|\{{{_IN_BRACKETS}*\}}"
_OVERRIDE = rf"""(?:[^\s'"\[\]{{}}]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|{_BRACKETS})+"""
_OVERRIDES = re.compile(rf"\s*(?:{_OVERRIDE}(?:\s+|$))+")
_ASSIGNMENT = re.compile(r"(?P<sign>[+~]{0,2})(?P<key>[\w./@:]+)=(?P<value>.*)", re.DOTALL)
_SYNTAX = re.compile(r"['\"\\]|\$\{")  # in a text: quotes, escapes and interpolations
_NO_PRESET = {f"{group}=null" for group in OPTIONAL_GROUPS}  # which Hydra does not understand
_HYDRA = re.compile(r"[+~]{0,2}/?(?:[^=]*[@:])?hydra(?![^=./@:])")


def prepared(command: str, overrides: Iterable[str]) -> list[str]:
    """Return overrides for Hydra, the last one for each key.

    Text is taken as it is written, unless Hydra reads it as quoted text, null or an interpolation.
    Former names of keys and choices are replaced, with one line of notice.

    Args:
        command: The command that is configured.
        overrides: Such as "train.epochs=3" or "data_dir=it's here".

    Raises:
        UserError: For choices that a config group does not have, and for Hydra's own settings.
    """
    given = (o for o in _last_of_each(map(_renamed, overrides)) if o not in _NO_PRESET)
    texts = text_keys(command)
    return [_understood(_checked(_with_ids(override)), texts) for override in given]


def split_overrides(text: str) -> list[str]:
    """Return the overrides in one string, split at spaces outside quotes and brackets.

    Quotes around a value stay, since they mean the same to Hydra; quotes around a whole override
    go. Nothing is run or expanded. "none" stands for no override, since MLflow cannot pass an empty
    default.

    Raises:
        UserError: For unbalanced quotes or brackets.
    """
    if text.strip() in ("", "none"):
        return []
    if not _OVERRIDES.fullmatch(text):
        raise UserError(f"overrides={text!r} has unbalanced quotes or brackets")
    pieces = re.findall(_OVERRIDE, text)
    return [p[1:-1] if p[0] in "'\"" and p[0] == p[-1] else p for p in pieces]


def literal(key: str, value: str) -> str:
    """Return the override that sets `key` to exactly the string `value`."""
    # In Hydra's quoted strings a backslash is itself, except in front of a quote.
    quoted = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{quoted}'"


def text_keys(command: str) -> set[str]:
    """Return the keys of a command and its sections, `_target_` sections excluded, that are text.

    Args:
        command: Such as "publish", of which "prefix" and "storage.region" are two.
    """

    def fields(kind: type[Any], prefix: str) -> Iterator[str]:
        for name, field in kind.__dataclass_fields__.items():
            if _is_text(field.type):
                yield f"{prefix}{name}"
            elif name in schema.SECTIONS:
                yield from fields(schema.SECTIONS[name], f"{name}.")

    return set(fields(schema.JOBS[command], ""))


def _is_text(kind: Any) -> bool:
    """Return whether values of a type are written as text: `str`, with bounds or None or not."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _is_text(typing.get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return any(_is_text(part) for part in typing.get_args(kind))
    return kind is str


def _renamed(override: str) -> str:
    """Return the override with a former name of its key or choice replaced, and say so."""
    found = _ASSIGNMENT.fullmatch(override)
    if not found:
        return override
    key, value = current(found["key"], found["value"])
    new = f"{found['sign']}{key}={value}"
    if new != override:
        logger.warning("%s is now called %s", override, new)
    key, value = in_full(key, value)
    return f"{found['sign']}{key}={value}"


def _last_of_each(overrides: Iterable[str]) -> list[str]:
    """Return the overrides, the last one of those that set the same key."""
    kept: dict[str, str] = {}
    for override in overrides:
        found = _ASSIGNMENT.fullmatch(override)
        kept[found["key"] if found else override] = override
    return list(kept.values())


def _with_ids(override: str) -> str:
    """Return an override of `runs` with its ids quoted: Hydra takes 12e45678 for a number."""
    if not override.startswith("runs="):
        return override
    return re.sub(r"(?<=[\[,\s])([0-9a-f]+)(?=[\],\s])", r"'\1'", override)


def _checked(override: str) -> str:
    """Return the override; raise UserError for what would reach files or settings elsewhere."""
    if _HYDRA.match(override):
        raise UserError(
            f"{override}: Hydra's own settings have no effect here; output_dir=... names the "
            "folder for a command's files"
        )
    found = _ASSIGNMENT.fullmatch(override)
    if found:
        _require_choice(found)
    return override


def _require_choice(override: re.Match[str]) -> None:
    """Raise UserError if an override chooses a file that is none of its group's in `conf/`."""
    group = override["key"].partition("@")[0].strip("/")
    if not any((folder / group).is_dir() for folder in conf_folders()):
        if "/" in group:
            raise UserError(f"{group} is not a config group; --help lists the groups")
        return
    valid = choices(group)
    for choice in _chosen(override[0], override["value"]):
        if choice not in valid:
            raise UserError(f"{group}={choice!r} does not exist; valid: {', '.join(valid)}")


def _chosen(override: str, value: str) -> Sequence[Any]:
    """Return the choices of a group's override: one, a list of several, or none but new values."""
    parsed = _parsed(override)
    if parsed is None or parsed.is_sweep_override():
        return [value]
    chosen = parsed.value()
    if isinstance(chosen, dict):
        return []
    return chosen if isinstance(chosen, list) else [chosen]


def _understood(override: str, texts: set[str]) -> str:
    """Return the override with its value quoted where Hydra would misread it."""
    found = _ASSIGNMENT.fullmatch(override)
    if not found:
        return override
    key, value = found["key"], found["value"]
    plain = key in texts and value not in ("null", "???") and not _SYNTAX.search(value)
    parsed = None if plain else _parsed(override)
    if parsed is None or parsed.is_sweep_override():
        return literal(f"{found['sign']}{key}", value)
    if key in texts and not isinstance(parsed.value(), str | None):
        return literal(f"{found['sign']}{key}", value)
    return override


def _parsed(override: str) -> "Override | None":
    """Return what Hydra reads, None where that is nothing at all."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None
