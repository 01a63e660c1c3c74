"""The trials of a sweep, each a training without the test part that is logged to a nested run."""

import contextlib
import logging
import math
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
from spam_mlflow.error_messages import user_message
from spam_mlflow.errors import UserError
from spam_mlflow.scorer import keras_backend
from spam_mlflow.sweep import study as studies
from spam_mlflow.sweep.search_space import SearchSpace, applied
from spam_mlflow.sweep.study import Progress
from spam_mlflow.tracking import run_logging, run_metrics, run_names, runs
from spam_mlflow.training.experiment import Experiment

if TYPE_CHECKING:
    import optuna
    from optuna.trial import Trial

logger = logging.getLogger(__name__)

_PRUNED_BY = "val_accuracy"  # of each epoch; unlike the loss, it is comparable between all trials


_Pending = dict["Future[Outcome]", tuple[int, str, Mapping[str, Value]]]
"""Trials that other processes run: their numbers, runs and values."""


@dataclass(frozen=True)
class SweepContext:
    """What all trials of a sweep share; it is also sent to the processes of parallel trials.

    Attributes:
        cfg: The composed configuration.
        settings: The validated settings of the sweep.
        objective: Name of the metric to maximize.
        study: Name of the study.
        file: SQLite file of the study.
        messages: All messages that were read.
        split: Their parts, without the test part.
    """

    cfg: DictConfig
    settings: SweepSettings
    objective: str
    study: str
    file: Path
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


def run_all(sweep: SweepContext, space: SearchSpace, study: "optuna.Study", parent: str) -> None:
    """Run trials until their number is reached or the time is up.

    Trials that a killed process left behind come first, with their earlier values and runs.

    Args:
        sweep: What all trials share.
        space: The parameters to draw.
        study: The open study.
        parent: ID of the run that the trials' runs are nested in.
    """
    ended = len(Progress(study.get_trials(deepcopy=False)).ended)
    with progress.step(f"Sweep {sweep.study}", sweep.settings.trials - ended) as shown:
        _run_all(sweep, space, study, parent, shown)


def _run_all(
    sweep: SweepContext,
    space: SearchSpace,
    study: "optuna.Study",
    parent: str,
    shown: progress.Step,
) -> None:
    client = MlflowClient()
    experiment = client.get_run(parent).info.experiment_id

    def prepared() -> "Iterator[tuple[Trial, dict[str, Value], str]]":
        for trial in _next_trials(study, sweep.settings):
            values = space.suggest(trial)
            shown.detail = f"trial {trial.number}: {run_names.short_values(values)}"
            yield trial, values, _child_run(client, trial, values, experiment, parent)

    if sweep.settings.jobs == 1:
        for trial, values, run_id in prepared():
            outcome = run_trial(sweep, trial._trial_id, values, run_id)
            _conclude(client, study, trial.number, run_id, outcome, values)
            shown.advance()
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(sweep.settings.jobs, spawn) as pool:
        pending: _Pending = {}
        for trial, values, run_id in prepared():
            future = pool.submit(run_trial, sweep, trial._trial_id, values, run_id)
            pending[future] = trial.number, run_id, values
            if len(pending) == sweep.settings.jobs:
                shown.advance(_conclude_some(client, study, pending))
        while pending:
            shown.advance(_conclude_some(client, study, pending))


def _next_trials(study: "optuna.Study", settings: SweepSettings) -> "Iterator[Trial]":
    """Yield interrupted trials, then new ones, while number and time allow."""
    deadline = time.monotonic() + (settings.timeout or math.inf)
    for trial in studies.interrupted(study):
        if time.monotonic() > deadline:
            return
        yield trial
    while time.monotonic() < deadline:
        begun = [t for t in study.get_trials(deepcopy=False) if t.state.name != "WAITING"]
        if len(begun) >= settings.trials:
            return
        yield study.ask()


def _child_run(
    client: MlflowClient,
    trial: "Trial",
    values: Mapping[str, Value],
    experiment: str,
    parent: str,
) -> str:
    """Return the ID of the trial's run, which is created if it does not exist yet."""
    # The run is searched in MLflow: a process may be killed before it can store it in the trial.
    tags = {"mlflow.parentRunId": parent, "trial": str(trial.number)}
    ours = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    known = client.search_runs([experiment], ours)
    # The fluent interface would take the project's own run under `mlflow run`.
    name = f"trial {trial.number}: {run_names.short_values(values)}"
    run = known[0] if known else client.create_run(experiment, tags=tags, run_name=name)
    run_id = str(run.info.run_id)
    if known:
        client.update_run(run_id, status="RUNNING")
    trial.set_user_attr(studies.RUN_ID, run_id)
    run_logging.log_parameters_of(client, run_id, values)
    return run_id


def run_trial(
    sweep: SweepContext, trial_id: int, values: Mapping[str, Value], run_id: str
) -> Outcome:
    """Run a trial; its errors become part of the outcome.

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
    study = optuna.load_study(
        study_name=sweep.study,
        storage=studies.storage(sweep.file),
        pruner=studies.pruner(sweep.settings.prune),
    )
    try:
        return _train(sweep, Trial(study, trial_id), values, run_id)
    except optuna.TrialPruned:
        return Outcome("PRUNED")
    except Exception as error:
        return Outcome("FAIL", error=user_message(error) or repr(error))
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


def _conclude(
    client: MlflowClient,
    study: "optuna.Study",
    number: int,
    run_id: str,
    outcome: Outcome,
    values: Mapping[str, Value],
) -> None:
    """Close the trial's run and then the trial; if killed in between, it is only run again."""
    from optuna.trial import TrialState

    client.set_tag(run_id, "trial.state", outcome.state.lower())
    if outcome.error is not None:
        run_logging.log_error_of(client, run_id, outcome.error)
    client.set_terminated(run_id, "FAILED" if outcome.state == "FAIL" else "FINISHED")
    study.tell(number, outcome.value, TrialState[outcome.state])
    best = _best_value(study)
    run_logging.log_trial(number, outcome.value, best)
    state = outcome.state.lower()
    value = f" {outcome.value:.4f}" if outcome.value is not None else ""
    so_far = "" if best is None else f" (best {best:.4f})"
    why = f": {outcome.error}" if outcome.error else ""
    parameters = run_names.short_values(values)
    logger.info("Trial %s: %s%s%s, %s%s", number, state, value, so_far, parameters, why)


def _conclude_some(client: MlflowClient, study: "optuna.Study", pending: _Pending) -> int:
    """Wait until a trial has ended, close those that have, and return their number.

    They are removed from `pending`.
    """
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        number, run_id, values = pending.pop(future)
        _conclude(client, study, number, run_id, future.result(), values)
    return len(done)


def _best_value(study: "optuna.Study") -> float | None:
    with contextlib.suppress(UserError):
        return Progress(study.get_trials(deepcopy=False)).best.value
    return None
