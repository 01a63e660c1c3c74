"""Composing a Hydra configuration, with errors that fit on one line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spam_mlflow.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"

# One override: anything without spaces, with quoted or bracketed stretches that may hold some.
_IN_BRACKETS = r"[^\[\]{}]"
for _ in range(3):  # brackets within brackets, such as a list of mappings with lists
    _IN_BRACKETS = rf"(?:[^\[\]{{}}]|\[{_IN_BRACKETS}*\]|\{{{_IN_BRACKETS}*\}})"
_BRACKETS = rf"\[{_IN_BRACKETS}*\]|\{{{_IN_BRACKETS}*\}}"
_OVERRIDE = rf"""(?:[^\s'"\[\]{{}}]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|{_BRACKETS})+"""
_OVERRIDES = re.compile(rf"\s*(?:{_OVERRIDE}(?:\s+|$))+")


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the resolved configuration `conf/<name>.yaml` with Hydra `overrides` applied.

    Raises UserError for unknown keys, unknown choices (listing the valid ones), malformed
    overrides and required values that are missing.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose(name, overrides=[_with_ids(text) for text in overrides])
        _require_values(cfg)
        OmegaConf.resolve(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error)) from error
    return cfg


def split_overrides(text: str) -> list[str]:
    """Return the overrides in one string, split at spaces outside quotes and brackets.

    Quotes around a value stay, since they mean the same to Hydra; quotes around a whole override
    go. Nothing is run or expanded. "none" stands for no override, since MLflow cannot pass an empty
    default.

    Raises UserError for unbalanced quotes or brackets.
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
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = node

    walk("", OmegaConf.to_container(cfg))
    return flat


def to_yaml(cfg: DictConfig) -> str:
    """Return the resolved configuration as YAML."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def choices(group: str) -> list[str]:
    """Return the valid names of one config group, such as "model"."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def groups(name: str) -> list[str]:
    """Return the config groups that `conf/<name>.yaml` chooses from, in its order."""
    file = DictConfig(OmegaConf.load(CONF / f"{name}.yaml"))
    defaults = file.get("defaults", ())
    return [str(key) for entry in defaults if isinstance(entry, DictConfig) for key in entry]


def _with_ids(override: str) -> str:
    """Return an override of `runs` with its ids quoted: Hydra takes 12e45678 for a number."""
    if not override.startswith("runs="):
        return override
    return re.sub(r"(?<=[\[,\s])([0-9a-f]+)(?=[\],\s])", r"'\1'", override)


def _require_values(cfg: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{', '.join(missing)} must be given, such as {missing[0]}=...")


def _one_line(error: Exception) -> str:
    text = str(error)
    unknown = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if unknown and choices(unknown[1]):
        valid = ", ".join(choices(unknown[1]))
        return f"{unknown[1]}={unknown[2]!r} does not exist; valid: {valid}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
