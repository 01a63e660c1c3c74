"""From a composed configuration to typed settings, with errors that name the key and the value."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from spam_mlflow.config import schema
from spam_mlflow.config.compose import flatten
from spam_mlflow.config.names import unknown_key
from spam_mlflow.config.paths import choices
from spam_mlflow.errors import UserError

T = TypeVar("T")

_TARGET = "_target_"
_HOMES = {
    "data": "spam_mlflow.data.sources.",
    "split": "spam_mlflow.data.splitters.",
    "model": "spam_mlflow.models.",
    "store": "spam_mlflow.inference_store.",
}
"""Where the classes are that a section's `_target_` may name."""


def validate(command: str, cfg: DictConfig) -> Any:
    """Return the settings of `command`, an object of its type in `schema.JOBS`.

    Sections with a `_target_` become objects of the class that it names.

    Raises:
        UserError: Naming each bad key and its value, and keys that do not exist.
    """
    values: dict[str, Any] = dict(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    problems: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and _TARGET in value:
            try:
                values[key] = instantiate(value, key)
            except UserError as error:
                problems.append(str(error))
    try:
        settings = schema.JOBS[command](**values)
    except ValidationError as error:
        problems += _problems(error, "", command, list(flatten(cfg)))
    if problems:
        raise UserError("; ".join(problems))
    return settings


def instantiate(section: Mapping[Any, Any], name: str) -> Any:
    """Return the object that `_target_` of `section` names, built from the other keys.

    Args:
        section: Plain values; sections within it are built likewise.
        name: Of the section, such as "model" or "data.files".

    Raises:
        UserError: Where `_target_` is no class for this section, and naming each bad key.
    """
    kind = _component(str(section[_TARGET]), name)
    values = {
        key: instantiate(value, f"{name}.{key}")
        if isinstance(value, Mapping) and _TARGET in value
        else value
        for key, value in section.items()
        if key != _TARGET
    }
    return settings(kind, values, f"{name}.")


def settings(kind: type[T], values: Mapping[Any, Any], prefix: str = "") -> T:
    """Return the typed settings `kind` from `values`.

    Raises:
        UserError: Naming each bad key, with `prefix` before it, and its value.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        fields = [f"{prefix}{name}" for name in getattr(kind, "__dataclass_fields__", {})]
        raise UserError("; ".join(_problems(error, prefix, prefix.rstrip("."), fields))) from error


def _component(target: str, name: str) -> type[Any]:
    """Return the class called `target`; nothing outside its section's home is imported."""
    first, _, last = name.partition(".")
    group = last if last in _HOMES else first  # a source of data may have a store: data.store
    module, _, attribute = target.rpartition(".")
    home = _HOMES.get(group, "")
    if home and f"{module}.".startswith(home):
        try:
            kind = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError:
            kind = None
        if isinstance(kind, type) and kind.__module__ == module and is_pydantic_dataclass(kind):
            return kind
    valid = ", ".join(f"{group}={choice}" for choice in choices(group))
    raise UserError(
        f"{name}.{_TARGET}={target!r} is no class of {home.rstrip('.') or 'spam_mlflow'} that can "
        f"be configured; choose one of {valid}"
    )


def _problems(error: ValidationError, prefix: str, command: str, valid: list[str]) -> Iterator[str]:
    """Yield what is wrong with each key."""
    for problem in error.errors():
        key = prefix + ".".join(map(str, problem["loc"]))
        if problem["type"] == "unexpected_keyword_argument":
            known = [name for name in valid if name != key and not name.startswith(f"{key}.")]
            yield unknown_key(command, key, known)
        elif problem["type"] in ("missing", "missing_argument"):
            yield f"{key} must be given"
        elif problem["loc"]:
            yield f"{key}={problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
        else:
            yield problem["msg"].removeprefix("Value error, ")
