"""What a configuration reads from its surroundings: environment variables, and a local stack.

The value of an environment variable may be a secret. It is handed to the code that needs it and
goes nowhere else: the configuration keeps the interpolation, such as `${oc.env:NAME}`.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from spam_mlflow.config.masking import remember
from spam_mlflow.errors import UserError

STACK_VARIABLES = Path(".stack", "s3.env")
"""File in which `python -m scripts.stack` writes how to reach its S3 server."""

_ADDRESS = "MLFLOW_S3_ENDPOINT_URL"
_MAY_READ = (
    *("data", "data_dir", "output_dir", "storage"),
    *("endpoint_url", "region", "output", "folder", "study_db"),
)
"""Keys and sections that say where something is; what others hold is recorded with runs."""

_exported = ContextVar("_exported", default=True)

_reads: list[str] = []
"""Environment variables that were read while the last interpolation was resolved."""


def register_resolvers() -> None:
    """Have OmegaConf note which environment variables it reads, and know the local stack."""
    OmegaConf.register_new_resolver("oc.env", _read, replace=True)
    OmegaConf.register_new_resolver("local_s3", _local_s3, replace=True)


def resolve(cfg: DictConfig) -> None:
    """Replace interpolations in `cfg` by their values, except for those that read the environment.

    Raises:
        UserError: If a key reads the environment whose value would be recorded.
    """
    _resolve(cfg, "")


def _resolve(node: Any, prefix: str) -> None:
    """Resolve a DictConfig or ListConfig whose own key is `prefix`."""
    keys: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_missing(node, key):
            continue
        name = f"{prefix}.{key}" if prefix else str(key)
        if OmegaConf.is_interpolation(node, key):
            _reads.clear()
            value = node[key]
            if _reads:
                _require_unrecorded(name)
                _remember_text(node, key)
                continue
            node[key] = value
        if OmegaConf.is_config(node[key]):
            _resolve(node[key], name)


def _require_unrecorded(name: str) -> None:
    if name.partition(".")[0] not in _MAY_READ:
        raise UserError(
            f"{name} reads the environment variable {_reads[0]}, whose value would be recorded; "
            f'have the shell fill it in if it is no secret: {name}="${_reads[0]}"'
        )


def _remember_text(node: Any, key: str | int) -> None:
    """Have text that was made of environment variables, as by `oc.decode`, masked as well."""
    raw: Any = OmegaConf.to_container(node)
    plain: Any = OmegaConf.to_container(node, resolve=True)
    for text in _texts(plain[key]):
        remember(text, str(raw[key]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _read(name: str, *default: str | None) -> str | None:
    """Return an environment variable; the default, if there is one, is no secret."""
    if name in os.environ:
        _reads.append(name)
        remember(os.environ[name], f"${{oc.env:{name}}}")
    value: str | None = oc.env(name, *default)
    return value


def _local_s3(default: str) -> str:
    """Return the address of the local stack's S3 server: as exported, as written, else `default`.

    Args:
        default: The address where there is no stack in the working directory.
    """
    exported = os.environ.get(_ADDRESS) if _exported.get() else None
    return exported or stack_endpoint() or default


@contextlib.contextmanager
def without_exported_address() -> Iterator[None]:
    """Compose as in a shell that has not exported the address of an S3 store.

    This process sets that variable itself, for MLflow.
    """
    before = _exported.set(False)
    try:
        yield
    finally:
        _exported.reset(before)


def stack_endpoint() -> str | None:
    """Return the address of the S3 server of the stack in the working directory, None without."""
    return _written(STACK_VARIABLES).get(_ADDRESS)


def _written(file: Path) -> dict[str, str]:
    """Return the variables that a file of `export NAME=VALUE` lines sets, none if it is missing."""
    try:
        words = shlex.split(file.read_text(encoding="utf-8"), comments=True)
    except (OSError, ValueError):
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)
