"""The trials of a sweep, each a training without the test part that is logged to a nested run."""

import contextlib
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from spam_mlflow import progress
from spam_mlflow.config.instantiate import instantiate, settings
from spam_mlflow.config.schema import SweepSettings, TrainSettings, Value
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.splitters import Split
from spam_mlflow.error_messages import reason
from spam_mlflow.errors import UserError
from spam_mlflow.scorer import keras_backend
from spam_mlflow.sweep import study as studies
from spam_mlflow.sweep import trial_runs
from spam_mlflow.sweep.search_space import SearchSpace, applied
from spam_mlflow.sweep.shared_study import SharedStudy
from spam_mlflow.sweep.study import Outcome, Progress, Study
from spam_mlflow.sweep.study_database import StudyDatabase, StudyDatabaseError, explained
from spam_mlflow.tracking import run_logging, run_metrics, run_names, runs
from spam_mlflow.training.experiment import Experiment

if TYPE_CHECKING:
    from optuna.trial import Trial

logger = logging.getLogger(__name__)

_PAUSE = 2.0  # seconds between two looks at trials that have to end first
_PRUNED_BY = "val_accuracy"  # of each epoch; unlike the loss, it is comparable between all trials


@dataclass(frozen=True)
class SweepContext:
    """What all trials of a sweep share; it is also sent to the processes of parallel trials.

    Attributes:
        cfg: The composed configuration.
        settings: The validated settings of the sweep.
        objective: Name of the metric to maximize.
        study: Name of the study.
        database: Where the study is kept.
        messages: All messages that were read.
        split: Their parts, without the test part.
    """

    cfg: DictConfig
    settings: SweepSettings
    objective: str
    study: str
    database: StudyDatabase
    messages: Messages
    split: Split

    def experiment(self, values: Mapping[str, Value]) -> Experiment:
        """Return the training with the values of a trial.

        Args:
            values: Values by key, such as "train.epochs".
        """
        sections = OmegaConf.to_container(applied(self.cfg, values))
        assert isinstance(sections, dict)
        architecture = instantiate(sections["model"], "model")
        train = settings(TrainSettings, sections["train"], "train.")
        return Experiment(architecture, train, self.settings.seed, self.messages, self.split)


def run_all(
    sweep: SweepContext, space: SearchSpace, study: Study | SharedStudy, parent: str
) -> None:
    """Run trials until their number is reached or the time is up.

    Trials that a killed process left behind come first, with their earlier values.

    Args:
        sweep: What all trials share.
        space: The parameters to draw.
        study: The open study.
        parent: ID of the run that the trials' runs are nested in.
    """
    before = len(study.progress.ended)
    missing = max(sweep.settings.trials - before, 0)
    with progress.step(f"Sweep {sweep.study}", missing or None) as shown:
        loop = _Loop(sweep, space, study, MlflowClient(), parent, shown, before)
        if sweep.settings.jobs == 1:
            loop.run_here()
        else:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(sweep.settings.jobs, spawn) as pool:
                loop.run_in(pool)


@dataclass(frozen=True)
class _Begun:
    """A trial that has begun, with its values by key and the ID of its run."""

    trial: "Trial"
    values: Mapping[str, Value]
    run_id: str


_Pending = dict["Future[Outcome]", _Begun]
"""Trials that other processes run."""


@dataclass(frozen=True)
class _Loop:
    """The loop over trials.

    Its attributes are the arguments of `run_all`, how its progress is shown, and how many trials
    had ended before.
    """

    sweep: SweepContext
    space: SearchSpace
    study: Study | SharedStudy
    client: MlflowClient
    parent: str
    shown: progress.Step
    before: int

    def run_here(self) -> None:
        """Run one trial after the other in this process."""
        for begun in self._begun():
            if begun is None:
                time.sleep(_PAUSE)
            else:
                trial_id = begun.trial._trial_id
                self._conclude(begun, run_trial(self.sweep, trial_id, begun.values, begun.run_id))

    def run_in(self, pool: ProcessPoolExecutor) -> None:
        """Run as many trials at the same time as the pool has processes."""
        pending: _Pending = {}
        for begun in self._begun():
            if begun is not None:
                arguments = self.sweep, begun.trial._trial_id, begun.values, begun.run_id
                pending[pool.submit(run_trial, *arguments)] = begun
            if begun is None or len(pending) == self.sweep.settings.jobs:
                self._conclude_some(pending, None if begun else _PAUSE)
        while pending:
            self._conclude_some(pending, None)

    def _begun(self) -> Iterator[_Begun | None]:
        """Yield trials with their values and runs; None where another one has to end first."""
        from optuna.exceptions import UpdateFinishedTrialError

        experiment = self.client.get_run(self.parent).info.experiment_id
        settings = self.sweep.settings
        for trial in self.study.next_trials(settings.trials, settings.timeout):
            if trial is None:
                self.shown.done = len(self.study.progress.ended) - self.before
                self.shown.detail = "waiting for other trials"
                yield None
                continue
            try:
                begun = self._open(trial, experiment)
            except UpdateFinishedTrialError:
                self._drop(trial)
            else:
                yield begun

    def _open(self, trial: "Trial", experiment: str) -> _Begun:
        """Draw a trial's values, and open its run."""
        values, number = self._values(trial), trial.number
        self.shown.detail = f"trial {number}: {run_names.short_values(values)}"
        run_id = trial_runs.open_run(self.client, self.parent, experiment, number, values)
        trial.set_user_attr(studies.RUN_ID, run_id)
        return _Begun(trial, values, run_id)

    def _values(self, trial: "Trial") -> dict[str, Value]:
        try:
            return self.space.suggest(trial)
        except ValueError as error:
            raise UserError(
                f"study={self.sweep.study!r} was begun with another search space ({error}); give "
                "another study"
            ) from error

    def _drop(self, trial: "Trial") -> None:
        """Give up a trial that counts as lost, since this process has given no sign of life."""
        self.study.drop(trial)
        trial_runs.close_lost(self.client, self.parent, trial.number)
        logger.warning("Trial %s counted as lost meanwhile, so it is left to others", trial.number)

    def _conclude_some(self, pending: _Pending, timeout: float | None) -> None:
        """Wait until a trial has ended, and close those that have, which leave `pending`.

        Args:
            pending: Trials that run.
            timeout: Seconds to wait at most; None for no limit.
        """
        if not pending:
            time.sleep(_PAUSE)
        for future in wait(pending, timeout, FIRST_COMPLETED).done:
            self._conclude(pending.pop(future), future.result())

    def _conclude(self, begun: _Begun, outcome: Outcome) -> None:
        """Close a trial's run and then the trial; if killed in between, it is only run again."""
        trial, number = begun.trial, begun.trial.number
        held = self.study.holds(trial)
        if held:
            trial_runs.close(self.client, begun.run_id, outcome)
            held = self.study.tell(trial, outcome)
        if not held:
            self._drop(trial)
            return
        so_far = self.study.progress
        best = _best_value(so_far)
        run_logging.log_trial(self.client, self.parent, number, outcome.value, best)
        self.shown.done = len(so_far.ended) - self.before
        logger.info("%s", _summary(begun, outcome, best))


def _summary(begun: _Begun, outcome: Outcome, best: float | None) -> str:
    """Return in one line how a trial has ended."""
    value = f" {outcome.value:.4f}" if outcome.value is not None else ""
    so_far = "" if best is None else f" (best {best:.4f})"
    why = f": {outcome.error}" if outcome.error else ""
    parameters = run_names.short_values(begun.values)
    state = outcome.state.lower()
    return f"Trial {begun.trial.number}: {state}{value}{so_far}, {parameters}{why}"


def _best_value(so_far: Progress) -> float | None:
    with contextlib.suppress(UserError):
        return so_far.best.value
    return None


def run_trial(
    sweep: SweepContext, trial_id: int, values: Mapping[str, Value], run_id: str
) -> Outcome:
    """Run a trial; its errors become part of the outcome, other than those of the study's database.

    Args:
        sweep: What all trials share.
        trial_id: ID of the trial in Optuna's storage.
        values: The trial's values by key.
        run_id: ID of the trial's run.
    """
    import optuna
    from optuna.trial import Trial

    runs.connect()
    # A trial that is run again reports the same epochs again, which Optuna would warn of.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with explained(sweep.database), sweep.database.storage() as storage:
            pruner = studies.pruner(sweep.settings.prune)
            study = optuna.load_study(study_name=sweep.study, storage=storage, pruner=pruner)
            return _train(sweep, Trial(study, trial_id), values, run_id)
    except optuna.TrialPruned:
        return Outcome("PRUNED")
    except StudyDatabaseError:
        raise  # this says nothing of the trial, which is run again
    except Exception as error:
        return Outcome("FAIL", error=reason(error))
    finally:
        keras_backend.clear_session()


def _train(
    sweep: SweepContext, trial: "Trial", values: Mapping[str, Value], run_id: str
) -> Outcome:
    import optuna

    client = MlflowClient()

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        run_logging.log_metrics_of(client, run_id, metrics, epoch + 1)
        trial.report(metrics[_PRUNED_BY], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    with tempfile.TemporaryDirectory() as folder:
        experiment = sweep.experiment(values)
        fitted = experiment.fit(Path(folder), on_epoch, quiet=True)
    metrics = experiment.validation(fitted).metrics | {"fit_seconds": fitted.seconds}
    # The objective may be of a single source.
    objective = {name: value for name, value in metrics.items() if name == sweep.objective}
    logged = run_metrics.charted(metrics) | objective
    run_logging.log_metrics_of(client, run_id, logged, len(fitted.epochs))
    if sweep.objective not in metrics:
        raise UserError(f"search.objective={sweep.objective!r} is none of {', '.join(metrics)}")
    return Outcome("COMPLETE", metrics[sweep.objective])
