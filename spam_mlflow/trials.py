"""The trials of a sweep: each one a training without the test part, logged to a nested run."""

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
from omegaconf import DictConfig

from spam_mlflow import faults, keras_backend, search, tracking, wiring
from spam_mlflow.data import Messages
from spam_mlflow.errors import UserError
from spam_mlflow.job import Job
from spam_mlflow.search import Progress, Space, Value
from spam_mlflow.settings import RunSettings, SweepSettings, TrainSettings
from spam_mlflow.split import Split

if TYPE_CHECKING:
    import optuna
    from optuna.trial import Trial

logger = logging.getLogger(__name__)

_PRUNED_BY = "val_accuracy"  # after each epoch; unlike the loss, it means the same in every trial


@dataclass(frozen=True)
class Base:
    """What all trials share; it goes to other processes as it is.

    split: without a test part.
    """

    cfg: DictConfig
    settings: SweepSettings
    objective: str
    study: str
    file: Path
    messages: Messages
    split: Split

    def job(self, values: Mapping[str, Value]) -> Job:
        """Return the training with `values`."""
        cfg = search.applied(self.cfg, values)
        run = RunSettings(
            seed=self.settings.seed,
            register=False,
            track=True,
            preset=None,
            sources=self.settings.sources,
        )
        train = wiring.settings(TrainSettings, cfg.train, "train.")
        return Job(wiring.build(cfg.model), train, run, self.messages, self.split)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: COMPLETE with its value, PRUNED, or FAIL with the reason."""

    state: str
    value: float | None = None
    error: str | None = None


def run_all(base: Base, space: Space, study: "optuna.Study", parent: str) -> None:
    """Run trials until there are as many as asked for, or time is up.

    Trials that a killed process left behind come first, with the values and runs they had.
    """
    client = MlflowClient()
    experiment = client.get_run(parent).info.experiment_id

    def prepared() -> "Iterator[tuple[Trial, dict[str, Value], str]]":
        for trial in _next_trials(study, base.settings):
            values = space.suggest(trial)
            yield trial, values, _child_run(client, trial, values, experiment, parent)

    if base.settings.jobs == 1:
        for trial, values, run_id in prepared():
            outcome = attempt(base, trial._trial_id, values, run_id)
            _conclude(client, study, trial.number, run_id, outcome)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(base.settings.jobs, context) as pool:
        pending: dict[Future[Outcome], tuple[int, str]] = {}
        for trial, values, run_id in prepared():
            future = pool.submit(attempt, base, trial._trial_id, values, run_id)
            pending[future] = trial.number, run_id
            if len(pending) == base.settings.jobs:
                _conclude_some(client, study, pending)
        while pending:
            _conclude_some(client, study, pending)


def _next_trials(study: "optuna.Study", settings: SweepSettings) -> "Iterator[Trial]":
    deadline = time.monotonic() + (settings.timeout or math.inf)
    for trial in search.interrupted(study):
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
    """Return the trial's run, created where it has none yet."""
    # Asked of MLflow, not of the trial: a process may be killed before it can note the run there.
    tags = {"mlflow.parentRunId": parent, "trial": str(trial.number)}
    ours = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    known = client.search_runs([experiment], ours)
    # Not by the fluent interface: under `mlflow run`, that would take the project's own run.
    name = f"trial {trial.number}: {tracking.shown(values)}"
    run = known[0] if known else client.create_run(experiment, tags=tags, run_name=name)
    run_id = str(run.info.run_id)
    if known:
        client.update_run(run_id, status="RUNNING")
    trial.set_user_attr(search.RUN_ID, run_id)
    tracking.log_parameters_of(client, run_id, values)
    return run_id


def attempt(base: Base, trial_id: int, values: Mapping[str, Value], run_id: str) -> Outcome:
    """Train with `values`; errors become part of the outcome."""
    import optuna
    from optuna.trial import Trial

    tracking.connect()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial begun again reports epochs again
    study = optuna.load_study(
        study_name=base.study,
        storage=search.storage(base.file),
        pruner=search.pruner(base.settings.prune),
    )
    try:
        return _train(base, Trial(study, trial_id), values, run_id)
    except optuna.TrialPruned:
        return Outcome("PRUNED")
    except Exception as error:
        return Outcome("FAIL", error=faults.explain(error) or repr(error))
    finally:
        keras_backend.forget()


def _train(base: Base, trial: "Trial", values: Mapping[str, Value], run_id: str) -> Outcome:
    import optuna

    client = MlflowClient()

    def on_epoch(epoch: int, figures: Mapping[str, float]) -> None:
        tracking.log_figures_of(client, run_id, figures, epoch + 1)
        trial.report(figures[_PRUNED_BY], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    with tempfile.TemporaryDirectory() as folder:
        job = base.job(values)
        fit = job.fit(Path(folder), on_epoch, quiet=True)
    metrics = job.validation(fit).metrics | {"fit_seconds": fit.seconds}
    tracking.log_figures_of(client, run_id, metrics, len(fit.epochs))
    if base.objective not in metrics:
        raise UserError(f"search.objective={base.objective!r} is none of {', '.join(metrics)}")
    return Outcome("COMPLETE", metrics[base.objective])


def _conclude(
    client: MlflowClient, study: "optuna.Study", number: int, run_id: str, outcome: Outcome
) -> None:
    """Close the trial's run, then the trial: killed in between, it is only run again."""
    from optuna.trial import TrialState

    client.set_tag(run_id, "trial.state", outcome.state.lower())
    if outcome.error is not None:
        tracking.log_error_of(client, run_id, outcome.error)
    client.set_terminated(run_id, "FAILED" if outcome.state == "FAIL" else "FINISHED")
    study.tell(number, outcome.value, TrialState[outcome.state])
    best = _best_value(study)
    tracking.log_trial(number, outcome.value, best)
    value = outcome.error or ("" if outcome.value is None else f"{outcome.value:.4f}")
    so_far = "" if best is None else f" (best {best:.4f})"
    logger.info("Trial %s: %s %s%s", number, outcome.state.lower(), value, so_far)


def _conclude_some(
    client: MlflowClient, study: "optuna.Study", pending: "dict[Future[Outcome], tuple[int, str]]"
) -> None:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        number, run_id = pending.pop(future)
        _conclude(client, study, number, run_id, future.result())


def _best_value(study: "optuna.Study") -> float | None:
    with contextlib.suppress(UserError):
        return Progress(study.get_trials(deepcopy=False)).best.value
    return None
