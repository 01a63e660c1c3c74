"""Search spaces, and studies of them that survive being killed."""

import contextlib
import fcntl
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from spam_mlflow import wiring
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

Value = bool | int | float | str
RUN_ID = "run_id"
"""User attribute of a trial: the MLflow run it is logged to."""

_PARENT = "parent_run_id"  # user attribute of a study
_STARTUP_TRIALS = 5  # that are never pruned, and that the sampler draws at random


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Parameter:
    """One dimension of a search space.

    name: a key of the configuration, such as "train.epochs".
    low, high, step, log: bounds of an int or a float, both included.
    choices: of a categorical; lists are written as text, such as "[2,5]".
    when: values that earlier parameters must have; the parameter is left alone otherwise.
    """

    name: str
    type: Literal["int", "float", "categorical"]
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: Mapping[str, Value] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UserError where the bounds do not fit the type."""
        ranged = self.low is not None and self.high is not None and self.low <= self.high
        if self.type == "categorical" and not self.choices:
            raise UserError(f"search.parameters: {self.name} needs choices")
        if self.type != "categorical" and not ranged:
            raise UserError(
                f"search.parameters: {self.name} needs low <= high, not {self.low} and {self.high}"
            )
        if self.log and (self.step is not None or not self.low):
            raise UserError(f"search.parameters: {self.name} with log needs low > 0 and no step")

    def suggest(self, trial: "Trial") -> Value:
        """Return the trial's value, drawn where it has none yet."""
        if self.type == "categorical":
            chosen = trial.suggest_categorical(self.name, list(self.choices))
            assert chosen is not None  # no choice is
            return chosen
        assert self.low is not None
        assert self.high is not None
        if self.type == "int":
            bounds = int(self.low), int(self.high)
            return trial.suggest_int(self.name, *bounds, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Space:
    """A search space: parameters in the order they are drawn, and the figure they are drawn for."""

    objective: Annotated[str, Field(pattern="^val_")]
    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, cfg: DictConfig) -> "Space":
        """Return the space of `cfg.search`; raises UserError for keys that `cfg` has not."""
        values = OmegaConf.to_container(cfg.search)
        assert isinstance(values, dict)
        space = wiring.settings(cls, values, "search.")
        for parameter in space.parameters:
            for name in (parameter.name, *parameter.when):
                if not name.startswith(("train.", "model.")) or OmegaConf.select(cfg, name) is None:
                    raise UserError(
                        f"search.parameters: {name!r} is not a key of this model or of train; "
                        f"search and model={cfg.model.name} must fit"
                    )
        return space

    def suggest(self, trial: "Trial") -> dict[str, Value]:
        """Return the trial's values by key."""
        values: dict[str, Value] = {}
        for parameter in self.parameters:
            if all(values.get(name) == value for name, value in parameter.when.items()):
                values[parameter.name] = parameter.suggest(trial)
        return values

    def current(self, cfg: DictConfig) -> dict[str, Value]:
        """Return the values that `cfg` has, as far as they lie in the space."""
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


def _plain(value: Any) -> Value:
    """Return a list as the text that a choice is written as, all else as it is."""
    if OmegaConf.is_list(value):
        return f"[{','.join(map(str, value))}]"
    plain: Value = value
    return plain


def applied(cfg: DictConfig, values: Mapping[str, Value]) -> DictConfig:
    """Return `cfg` with `values` in it."""
    changed = cfg.copy()
    for name, value in values.items():
        OmegaConf.update(changed, name, _parsed(value))
    return changed


def _parsed(value: Value) -> Any:
    if isinstance(value, str) and value.startswith("["):
        return OmegaConf.create(value)
    return value


def overlay(cfg: DictConfig, values: Mapping[str, Value], name: str, comment: str) -> str:
    """Return a file for `conf/experiment`, which makes `values` a preset called `name`."""
    tree = OmegaConf.create({"preset": name})
    for key, value in values.items():
        OmegaConf.update(tree, key, _parsed(value))
    return (
        f"# @package _global_\n# {comment}\n"
        f"defaults:\n  - override /model: {cfg.model.name}\n{OmegaConf.to_yaml(tree)}"
    )


@dataclass(frozen=True)
class Progress:
    """What is known of a study's trials, the oldest first."""

    trials: "Sequence[FrozenTrial]"

    def in_state(self, name: str) -> "list[FrozenTrial]":
        """Return the trials in one state: COMPLETE, PRUNED, FAIL, RUNNING or WAITING."""
        return [trial for trial in self.trials if trial.state.name == name]

    @property
    def ended(self) -> "list[FrozenTrial]":
        """Trials that came to an end, good or bad."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    @property
    def best(self) -> "FrozenTrial":
        """The best complete trial, the first of equals; raises UserError where none is complete."""
        complete = self.in_state("COMPLETE")
        if not complete:
            raise UserError(
                "no trial was completed; see the tag `error` of the nested runs for the reasons"
            )
        return max(complete, key=lambda trial: (trial.value, -trial.number))


@contextlib.contextmanager
def opened(name: str, file: Path, seed: int, prune: bool) -> "Iterator[optuna.Study]":
    """Yield the study `name` kept in `file`, created where it does not exist.

    Raises UserError where another process is working on that file: trials of a process that was
    killed could not be told from its own.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another sweep is working on {file}; wait for it, or give another study_db"
            ) from error
        yield optuna.create_study(
            storage=storage(file),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=_sampler(seed, name, file),
            pruner=pruner(prune),
        )


def storage(file: Path) -> str:
    """Return where Optuna keeps its trials."""
    return f"sqlite:///{file}"


def pruner(prune: bool) -> "optuna.pruners.BasePruner":
    """Return what ends trials early that are behind half of the others at the same epoch."""
    from optuna import pruners

    return pruners.MedianPruner(_STARTUP_TRIALS, 1) if prune else pruners.NopPruner()


def _sampler(seed: int, name: str, file: Path) -> "optuna.samplers.BaseSampler":
    import optuna

    # Without the shift, a sweep that goes on would draw its first random values again.
    known = {study.study_name: study.n_trials for study in _summaries(file)}
    drawn = known.get(name, 0)
    # Conditions need `group`, which has been called experimental for years.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed + drawn, n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True
        )


def _summaries(file: Path) -> "list[optuna.study.StudySummary]":
    import optuna

    return optuna.get_all_study_summaries(storage(file))


def parent_run(study: "optuna.Study") -> str | None:
    """Return the run that the study's trials are nested in, None before the first."""
    run_id: str | None = study.user_attrs.get(_PARENT)
    return run_id


def set_parent_run(study: "optuna.Study", run_id: str) -> None:
    """Remember the run that the study's trials are nested in."""
    study.set_user_attr(_PARENT, run_id)


def interrupted(study: "optuna.Study") -> "list[Trial]":
    """Return the trials that were running when their process was killed, to be run again."""
    from optuna.trial import Trial, TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [Trial(study, trial._trial_id) for trial in running]
