"""Search spaces: the parameters that trials draw, and configurations with their values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spam_mlflow.config.compose import compose, flatten
from spam_mlflow.config.schema import SearchParameter, SearchSettings, Value
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a sweep, and the metric that they are chosen for.

    Attributes:
        objective: Name of the metric to maximize.
        parameters: The parameters, in the order in which they are drawn.
    """

    objective: str
    parameters: tuple[SearchParameter, ...]

    @classmethod
    def of(cls, settings: SearchSettings, cfg: DictConfig) -> "SearchSpace":
        """Return the space that `settings` describe.

        Args:
            settings: The validated section `search`.
            cfg: The composed configuration, whose keys the parameters must name.

        Raises:
            UserError: If a parameter is no key of the model or of `train`.
        """
        for parameter in settings.parameters:
            for name in (parameter.name, *parameter.when):
                if not name.startswith(("train.", "model.")) or OmegaConf.select(cfg, name) is None:
                    raise UserError(
                        f"search.parameters: {name!r} is not a key of this model or of train; "
                        f"search and model={cfg.model.name} must fit"
                    )
        return cls(settings.objective, settings.parameters)

    def suggest(self, trial: "Trial") -> dict[str, Value]:
        """Return the trial's values by key, without parameters whose condition is not met."""
        values: dict[str, Value] = {}
        for parameter in self.parameters:
            if all(values.get(name) == value for name, value in parameter.when.items()):
                values[parameter.name] = suggest(parameter, trial)
        return values

    def common(self, cfg: DictConfig) -> dict[str, Any]:
        """Return what all trials of a study must have in common to be compared, as JSON has it.

        That is the objective, the parameters by "search of NAME", and all settings of the model and
        of the training that trials may take from the configuration.

        Args:
            cfg: The composed configuration.
        """
        # With `when`, a parameter may have the configuration's value.
        drawn = {parameter.name for parameter in self.parameters if not parameter.when}
        settings = {
            key: value
            for key, value in flatten(cfg).items()
            if (key == "seed" or key.startswith(("train.", "model."))) and key not in drawn
        }
        searched = {f"search of {entry.name}": asdict(entry) for entry in self.parameters}
        common = {"search.objective": self.objective, **searched, **settings}
        plain: dict[str, Any] = json.loads(json.dumps(common))
        return plain

    def current(self, cfg: DictConfig) -> dict[str, Value]:
        """Return the values of a configuration by key, as far as they lie in the space."""
        values: dict[str, Value] = {}
        for parameter in self.parameters:
            value = _plain(OmegaConf.select(cfg, parameter.name))
            if parameter.type == "categorical":
                inside = value in parameter.choices
            else:
                assert parameter.low is not None
                assert parameter.high is not None
                inside = parameter.low <= float(value) <= parameter.high
            if inside:
                values[parameter.name] = value
        return values


def suggest(parameter: SearchParameter, trial: "Trial") -> Value:
    """Return the trial's value of a parameter, which is drawn if the trial has none yet."""
    name, low, high, log = parameter.name, parameter.low, parameter.high, parameter.log
    if parameter.type == "categorical":
        chosen = trial.suggest_categorical(name, list(parameter.choices))
        assert chosen is not None  # None is no valid choice
        return chosen
    assert low is not None
    assert high is not None
    if parameter.type == "int":
        return trial.suggest_int(name, int(low), int(high), step=int(parameter.step or 1), log=log)
    return trial.suggest_float(name, low, high, step=parameter.step, log=log)


def _plain(value: Any) -> Value:
    """Return a list as text such as "[2,5]", as choices have it, and all else as it is."""
    if OmegaConf.is_list(value):
        return f"[{','.join(map(str, value))}]"
    plain: Value = value
    return plain


def applied(cfg: DictConfig, values: Mapping[str, Value]) -> DictConfig:
    """Return a copy of a configuration with some values changed.

    Args:
        cfg: The composed configuration.
        values: Values by key, such as "train.epochs"; a list may be given as text.
    """
    changed = cfg.copy()
    for name, value in values.items():
        OmegaConf.update(changed, name, _parsed(value))
    return changed


def _parsed(value: Value) -> Any:
    if isinstance(value, str) and value.startswith("["):
        return OmegaConf.create(value)
    return value


def overlay(cfg: DictConfig, values: Mapping[str, Value], name: str, comment: str) -> str:
    """Return the text of a file in `conf/experiment`, which makes a preset of some values.

    Args:
        cfg: The composed configuration, whose model the preset takes, and all keys of `model` and
            `train` that are not at their defaults.
        values: Values by key, such as "train.epochs".
        name: Name of the preset.
        comment: One line on where the values come from.
    """
    defaults = flatten(compose("main", [f"model={cfg.model.name}"]))
    changed = {
        key: value
        for key, value in flatten(cfg).items()
        if key.startswith(("train.", "model.")) and value != defaults.get(key)
    }
    tree = OmegaConf.create({"preset": name})
    for key, value in (changed | dict(values)).items():
        OmegaConf.update(tree, key, _parsed(value))
    return (
        f"# @package _global_\n# {comment}\n"
        f"defaults:\n  - override /model: {cfg.model.name}\n{OmegaConf.to_yaml(tree)}"
    )
