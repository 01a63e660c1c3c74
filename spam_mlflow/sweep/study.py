"""Optuna studies in a file, which a killed sweep can continue."""

import contextlib
import fcntl
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

RUN_ID = "run_id"
"""User attribute of a trial: the ID of the MLflow run that it is logged to."""

_PARENT = "parent_run_id"  # user attribute of a study
_STARTUP_TRIALS = 5  # trials that are never pruned and whose values are drawn at random


@dataclass(frozen=True)
class Progress:
    """The trials of a study so far.

    Attributes:
        trials: All trials, the oldest first.
    """

    trials: "Sequence[FrozenTrial]"

    def in_state(self, name: str) -> "list[FrozenTrial]":
        """Return the trials in a state: COMPLETE, PRUNED, FAIL, RUNNING or WAITING."""
        return [trial for trial in self.trials if trial.state.name == name]

    @property
    def ended(self) -> "list[FrozenTrial]":
        """The trials that are complete, were pruned or have failed."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    @property
    def best(self) -> "FrozenTrial":
        """The best complete trial, the first of equals.

        Raises:
            UserError: If no trial is complete.
        """
        complete = self.in_state("COMPLETE")
        if not complete:
            raise UserError(
                "no trial was completed; see the tag `error` of the nested runs for the reasons"
            )
        return max(complete, key=lambda trial: (trial.value, -trial.number))


@contextlib.contextmanager
def open_study(name: str, file: Path, seed: int, prune: bool) -> "Iterator[optuna.Study]":
    """Open a study, or create it, and lock its file.

    Args:
        name: Name of the study.
        file: SQLite file that keeps its trials.
        seed: Random seed of the sampler.
        prune: Whether to end trials early that are behind the others.

    Yields:
        The study.

    Raises:
        UserError: If another process is working on the file, since its trials could not be
            distinguished from those that a killed process left behind.
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
    """Return the URL of Optuna's storage in `file`."""
    return f"sqlite:///{file}"


def pruner(prune: bool) -> "optuna.pruners.BasePruner":
    """Return the pruner of trials.

    Args:
        prune: Whether to end trials early that are behind half of the others at the same epoch;
            otherwise no trial is pruned.
    """
    from optuna import pruners

    return pruners.MedianPruner(_STARTUP_TRIALS, 1) if prune else pruners.NopPruner()


def _sampler(seed: int, name: str, file: Path) -> "optuna.samplers.BaseSampler":
    import optuna

    # With the same random seed, a continued sweep would draw its first random values again.
    known = {study.study_name: study.n_trials for study in _summaries(file)}
    drawn = known.get(name, 0)
    # Conditions need `group`, which Optuna has marked as experimental for years.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed + drawn, n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True
        )


def _summaries(file: Path) -> "list[optuna.study.StudySummary]":
    import optuna

    return optuna.get_all_study_summaries(storage(file))


def parent_run(study: "optuna.Study") -> str | None:
    """Return the ID of the run that the study's trials are nested in, or None if it has none."""
    run_id: str | None = study.user_attrs.get(_PARENT)
    return run_id


def set_parent_run(study: "optuna.Study", run_id: str) -> None:
    """Store the ID of the run that the study's trials are nested in."""
    study.set_user_attr(_PARENT, run_id)


def interrupted(study: "optuna.Study") -> "list[Trial]":
    """Return the trials that were running when their process was killed, to run them again."""
    from optuna.trial import Trial, TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [Trial(study, trial._trial_id) for trial in running]
