"""Optuna studies in a file, which a killed sweep can continue."""

import contextlib
import fcntl
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spam_mlflow.errors import UserError
from spam_mlflow.sweep.study_database import StudyDatabase, StudyDatabaseError, explained

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial

RUN_ID = "run_id"
"""User attribute of a trial: the ID of the MLflow run that it is logged to."""

_PARENT = "parent_run_id"  # user attribute of a study
_STARTUP_TRIALS = 5  # trials that are never pruned and whose values are drawn at random


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: COMPLETE, PRUNED or FAIL.
        value: The objective's value of a complete trial.
        error: Why a trial failed.
    """

    state: str
    value: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Progress:
    """The trials of a study so far.

    Attributes:
        trials: All trials, the oldest first.
    """

    trials: "Sequence[FrozenTrial]"

    @property
    def lost(self) -> set[int]:
        """The numbers of trials that were queued again, since their process was lost."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        with warnings.catch_warnings():
            ignore_experimental()
            history = RetryHeartbeatStaleTrialCallback.retry_history
            return {number for trial in self.trials for number in history(trial)}

    def in_state(self, name: str) -> "list[FrozenTrial]":
        """Return the trials in a state: COMPLETE, PRUNED, FAIL, RUNNING or WAITING.

        A lost trial is in none, since another one stands for it.
        """
        lost = self.lost
        return [t for t in self.trials if t.state.name == name and t.number not in lost]

    @property
    def begun(self) -> int:
        """The number of trials that run or have ended, each counted once."""
        return len(self.ended) + len(self.in_state("RUNNING"))

    @property
    def ended(self) -> "list[FrozenTrial]":
        """The trials that are complete, were pruned or have failed."""
        lost = self.lost
        return [t for t in self.trials if t.state.is_finished() and t.number not in lost]

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


@dataclass(frozen=True)
class Study:
    """A study that no other process works on.

    Attributes:
        optuna: The study itself.
    """

    optuna: "optuna.Study"

    @property
    def progress(self) -> Progress:
        """The trials so far."""
        return Progress(self.optuna.get_trials(deepcopy=False))

    def next_trials(self, number: int, timeout: float | None) -> "Iterator[Trial | None]":
        """Yield trials that a killed process left behind, then new ones.

        Args:
            number: Trials in total.
            timeout: Seconds after which no further trial begins; None for no limit.

        Yields:
            A trial; None if none can be begun before another one has ended.
        """
        deadline = time.monotonic() + (timeout or math.inf)
        for trial in self._interrupted():
            if time.monotonic() > deadline:
                return
            yield trial
        while time.monotonic() < deadline and self.progress.begun < number:
            yield self.optuna.ask()

    def _interrupted(self) -> "list[Trial]":
        """Return the trials that were running when their process was killed."""
        from optuna.trial import Trial

        running = self.progress.in_state("RUNNING")
        return [Trial(self.optuna, trial._trial_id) for trial in running]

    def holds(self, trial: "Trial") -> bool:
        """Return whether a trial is still this process's own."""
        return True

    def drop(self, trial: "Trial") -> None:
        """Forget a trial that is not this process's own any more."""

    def tell(self, trial: "Trial", outcome: Outcome) -> bool:
        """End a trial of `next_trials`, and return whether it was still this process's own."""
        from optuna.trial import TrialState

        self.optuna.tell(trial.number, outcome.value, TrialState[outcome.state])
        return True


@contextlib.contextmanager
def open_study(name: str, database: StudyDatabase, seed: int, prune: bool) -> Iterator[Study]:
    """Open a study in a file, or create it, and lock the file.

    Args:
        name: Name of the study.
        database: The file that keeps its trials.
        seed: Random seed of the sampler.
        prune: Whether to end trials early that are behind the others.

    Yields:
        The study.

    Raises:
        UserError: If another process is working on the file, since its trials could not be
            distinguished from those that a killed process left behind; or if the file cannot be
            opened, or fails while it is in use.
    """
    with _locked(database), explained(database), database.storage() as storage:
        study = create(name, storage, prune)
        # With the same random seed, a continued sweep would draw its first random values again.
        study.sampler = sampler(seed + len(study.get_trials(deepcopy=False)))
        yield Study(study)


@contextlib.contextmanager
def _locked(database: StudyDatabase) -> Iterator[None]:
    file = database.file
    assert file is not None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_name(f"{file.name}.lock").open("w")
    except OSError as error:
        raise StudyDatabaseError(database.refusal(error)) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another sweep is working on {file}; wait for it, give another study_db, or one "
                "on a database server, on which several can work at once"
            ) from error
        yield


def create(name: str, storage: "RDBStorage", prune: bool) -> "optuna.Study":
    """Return the study of a name, which is created if it does not exist."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=pruner(prune),
    )


def pruner(prune: bool) -> "optuna.pruners.BasePruner":
    """Return the pruner of trials.

    Args:
        prune: Whether to end trials early that are behind half of the others at the same epoch;
            otherwise no trial is pruned.
    """
    from optuna import pruners

    return pruners.MedianPruner(_STARTUP_TRIALS, 1) if prune else pruners.NopPruner()


def sampler(seed: int) -> "optuna.samplers.BaseSampler":
    """Return the sampler of the trials' values, which keeps away from those of running trials."""
    import optuna

    # Conditions need `group`.
    with warnings.catch_warnings():
        ignore_experimental()
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True
        )


def ignore_experimental() -> None:
    """Silence Optuna on what it has marked as experimental for years."""
    import optuna

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def parent_run(study: "optuna.Study") -> str | None:
    """Return the ID of the run that the study's trials are nested in, or None if it has none."""
    run_id: str | None = study.user_attrs.get(_PARENT)
    return run_id


def set_parent_run(study: "optuna.Study", run_id: str) -> None:
    """Store the ID of the run that the study's trials are nested in."""
    study.set_user_attr(_PARENT, run_id)
