"""Composing a Hydra configuration, with errors that fit on one line."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spam_mlflow.config import reference
from spam_mlflow.config.names import RENAMED_CHOICES, RENAMED_KEYS, unknown_key
from spam_mlflow.config.paths import CONF, choices, conf_folders
from spam_mlflow.errors import UserError

logger = logging.getLogger(__name__)

# One override: anything without spaces, with quoted or bracketed stretches that may hold some.
_IN_BRACKETS = r"[^\[\]{}]"
for _ in range(3):  # brackets within brackets, such as a list of mappings with lists
    _IN_BRACKETS = rf"(?:[^\[\]{{}}]|\[{_IN_BRACKETS}*\]|\{{{_IN_BRACKETS}*\}})"
_BRACKETS = rf"\[{_IN_BRACKETS}*\]|\{{{_IN_BRACKETS}*\}}"
_OVERRIDE = rf"""(?:[^\s'"\[\]{{}}]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|{_BRACKETS})+"""
_OVERRIDES = re.compile(rf"\s*(?:{_OVERRIDE}(?:\s+|$))+")
_ASSIGNMENT = re.compile(r"(?P<sign>[+~]{0,2})(?P<key>[\w./@]+)=(?P<value>.*)", re.DOTALL)


def compose(name: str, overrides: Sequence[str], partial: bool = False) -> DictConfig:
    """Return the resolved configuration `conf/<name>.yaml` with Hydra `overrides` applied.

    Args:
        name: Of the command's configuration.
        overrides: Such as "train.epochs=3"; of several for one key, the last counts. Former names
            of keys and choices are taken with one line of notice.
        partial: Accept that required values are missing, for showing the configuration.

    Raises:
        UserError: For unknown keys (naming similar ones), unknown choices (listing the valid
            ones), malformed overrides and required values that are missing.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    given = [_with_ids(text) for text in _last_of_each(_renamed(text) for text in overrides)]
    own = [folder for folder in conf_folders() if folder != CONF]
    if own:
        given.append(f"hydra.searchpath=['file://{own[0]}']")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose(name, overrides=given)
        if not partial:
            _require_values(cfg)
        OmegaConf.resolve(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(name, error)) from error
    return cfg


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


def flatten(cfg: DictConfig) -> dict[str, Any]:
    """Return every leaf by its dotted key, as MLflow parameters want it."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, Mapping) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = node

    walk("", OmegaConf.to_container(cfg))
    return flat


def to_yaml(cfg: DictConfig) -> str:
    """Return the resolved configuration as YAML."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def _renamed(override: str) -> str:
    """Return the override with a former name of its key or choice replaced, and say so."""
    found = _ASSIGNMENT.fullmatch(override)
    if not found:
        return override
    key, value = found["key"], found["value"]
    key = RENAMED_KEYS.get(key, key)
    value = RENAMED_CHOICES.get((key, value), value)
    new = f"{found['sign']}{key}={value}"
    if new != override:
        logger.warning("%s is now called %s", override, new)
    return new


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


def _require_values(cfg: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{', '.join(missing)} must be given, such as {missing[0]}=...")


def _one_line(name: str, error: Exception) -> str:
    text = str(error)
    choice = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if choice and choices(choice[1]):
        valid = ", ".join(choices(choice[1]))
        return f"{choice[1]}={choice[2]!r} does not exist; valid: {valid}"
    key = re.search(r"Could not override '([^']+)'|full_key: (\S+)", text)
    if key:
        known = [entry.name for entry in reference.all_keys(name)]
        return unknown_key(name, key[1] or key[2], known)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
