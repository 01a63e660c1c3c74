"""Composing a Hydra configuration, with errors that fit on one line."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from spam_mlflow.config import commands, environment, reference
from spam_mlflow.config.masking import masked_value
from spam_mlflow.config.names import RENAMED_KEYS, unknown_key
from spam_mlflow.config.overrides import prepared
from spam_mlflow.config.paths import CONF, choices, conf_folders
from spam_mlflow.errors import UserError


def compose(name: str, overrides: Sequence[str], partial: bool = False) -> DictConfig:
    """Return the configuration `conf/<name>.yaml` with Hydra `overrides` applied.

    Interpolations are resolved, except for those that read environment variables: what they stand
    for is for `instantiate.validate` alone, and neither logged nor shown.

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
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    given = prepared(name, overrides)
    own = [folder for folder in conf_folders() if folder != CONF]
    if own:
        given.append(f"hydra.searchpath=['file://{own[0]}']")
    environment.register_resolvers()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose(name, overrides=given, return_hydra_config=True)
            former = _former_keys(cfg)
            if former:  # of a preset; what is given on the command line comes after them
                before = [*prepared(name, former.values()), *given]
                cfg = hydra_compose(name, overrides=before, return_hydra_config=True)
                _remove(cfg, former)
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...}, in conf/main.yaml
        _remove(cfg, ["hydra"])
        if not partial:
            _require_values(cfg)
        environment.resolve(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(name, error)) from error
    return cfg


def _former_keys(cfg: DictConfig) -> dict[str, str]:
    """Return the keys that presets name as they were called once, with overrides that set them."""
    found = {}
    for key in RENAMED_KEYS:
        section, _, last = key.rpartition(".")
        values = OmegaConf.select(cfg, section) if section else cfg
        if OmegaConf.is_dict(values) and last in values:
            found[key] = commands.override(key, values[last])
    return found


def _remove(cfg: DictConfig, keys: Iterable[str]) -> None:
    """Remove keys that the commands do not have."""
    with open_dict(cfg):
        for key in keys:
            section, _, last = key.rpartition(".")
            del (OmegaConf.select(cfg, section) if section else cfg)[last]


def flatten(cfg: DictConfig) -> dict[str, Any]:
    """Return every leaf by its dotted key, as MLflow parameters want it; log-in data is masked.

    `data.storage` is left out: it is `storage`, passed on to a data source.
    """
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if prefix == "data.storage":
            return
        if isinstance(node, Mapping) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = masked_value(node)

    walk("", OmegaConf.to_container(cfg))
    return flat


def to_yaml(cfg: DictConfig) -> str:
    """Return the configuration as YAML; log-in data is masked."""
    return OmegaConf.to_yaml(OmegaConf.create(masked_value(OmegaConf.to_container(cfg))))


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
