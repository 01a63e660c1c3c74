"""Names of runs: the model, the data and whatever differs from the defaults."""

import re
from collections.abc import Mapping
from typing import Any

import mlflow
from omegaconf import DictConfig

from spam_mlflow.config.compose import compose, flatten

_NAME_LIMIT = 100  # characters
# Paths and storage do not distinguish a run, and its name holds the model's name anyway.
_UNNAMED = (
    *("data.", "data_dir", "output_dir", "safe_csv", "storage."),
    *("register", "chosen_", "model.name", "split._"),
)
_EXTRA = "data.extra"  # what else is trained on distinguishes runs, wherever their data lie
_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")


def name_run(name: str, instead_of: str | None = None) -> None:
    """Name the active run, unless the user has named it.

    MLflow's own random names, such as "gifted-crow-12", are replaced.

    Args:
        name: The new name.
        instead_of: An earlier name that this function gave and that may be replaced.
    """
    active = mlflow.active_run()
    given = mlflow.get_run(active.info.run_id).info.run_name if active else None
    if given in (None, instead_of) or _RANDOM_NAME.fullmatch(str(given)):
        mlflow.set_tag("mlflow.runName", name)


def differences(cfg: DictConfig) -> str:
    """Return how a configuration differs from its defaults, as the end of a run's name.

    Args:
        cfg: The composed configuration of `main`. It is compared with its preset if it has one,
            else with the defaults of its model and of its data.

    Returns:
        Text such as ", epochs=3", or an empty string if nothing differs.
    """
    overrides = [f"model={cfg.model.name}", f"data={cfg.chosen_data}"]
    if cfg.preset is not None:
        overrides = [f"experiment={cfg.preset}", f"data={cfg.chosen_data}"]
    if "path" in cfg.data:
        overrides.append("data.path=any")  # it has no default
    defaults = flatten(compose("main", overrides))
    changed = {
        key: value
        for key, value in flatten(cfg).items()
        if key in defaults
        and value != defaults[key]
        and (key == _EXTRA or not key.startswith(_UNNAMED))
    }
    return f", {cut(short_values(changed))}" if changed else ""


def short_values(values: Mapping[str, Any]) -> str:
    """Return configuration values with short keys, as in a run's name.

    Args:
        values: Values by key, such as "train.epochs".
    """
    short = {key: _short(value) for key, value in values.items()}
    return ", ".join(dict.fromkeys(f"{k.rpartition('.')[2]}={v}" for k, v in short.items()))


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def cut(text: str) -> str:
    """Return the end of a run's name, cut to its length."""
    return text if len(text) <= _NAME_LIMIT else f"{text[:_NAME_LIMIT]}…"
