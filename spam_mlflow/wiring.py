"""From a configuration to the objects it names, with errors that name the key and the value."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig
from pydantic import ValidationError

from spam_mlflow.errors import UserError

T = TypeVar("T")


def build(section: DictConfig) -> Any:
    """Return the object that `_target_` of `section` names, built from the other keys.

    Raises the UserError that a constructor raised, or one that names the section.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(section, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise UserError(f"{section._target_}: {error.__cause__ or error}") from error


def top_level(kind: type[T], cfg: DictConfig) -> T:
    """Return the typed settings `kind` from the keys of `cfg` that are named like its fields.

    Raises UserError as `settings` does.
    """
    names = (field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    return settings(kind, {name: cfg[name] for name in names})


def settings(kind: type[T], values: Mapping[Any, Any], prefix: str = "") -> T:
    """Return the typed settings `kind` from `values`.

    Raises UserError naming each bad key, with `prefix` before it, and its value.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        problems = (
            f"{prefix}{'.'.join(map(str, problem['loc']))}={problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UserError("; ".join(problems)) from error
