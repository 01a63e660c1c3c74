"""Train, evaluate, log and register a classifier."""

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow import config, job, reports, results, s3, tracking, workspace
from spam_mlflow.errors import UserError
from spam_mlflow.job import Job
from spam_mlflow.results import Results
from spam_mlflow.training import EpochListener, Fit

logger = logging.getLogger(__name__)

_SHOWN = ("test_f1", "test_mcc", "test_ham_fpr", "test_recall_at_fpr_0_2pct")


def run(cfg: DictConfig) -> float:
    """Run the main job that `cfg` describes and return the test F1."""
    if not cfg.track:
        return _without_tracking(cfg)
    tracking.connect()
    storage = s3.settings(cfg)
    with tracking.run(storage, monitored=True) as active:
        tracking.log_parameters(config.flatten(cfg))
        differences = tracking.differences(cfg)
        early_name = f"{cfg.model.name}{differences}"
        tracking.name_run(early_name)  # what fails now has a name, too
        tracking.log_code_version()
        with workspace.folder(cfg.output_dir) as folder:
            # Logged first: a store that takes no artifacts is found out before anything is trained.
            tracking.log_file(reports.write_config(cfg, folder))
            plan = job.plan(cfg)
            messages = workspace.load_messages(cfg.data, plan.run.sources, folder)
            tracking.log_rejected(messages, folder)
            work = plan.on(messages)
            title = work.title + differences
            tracking.name_run(title, instead_of=early_name)
            return _tracked(work, title, active.info.run_id, folder)["test_f1"]


def _tracked(work: Job, title: str, run_id: str, folder: Path) -> dict[str, float]:
    """Train, log everything to the run, and return the figures."""
    tracking.log_data(work.messages, work.split)
    tracking.log_preset(work.run.preset)
    fit, metrics = _train(work, title, folder, tracking.log_epoch)
    finished = Results(
        run_id=run_id,
        metrics=metrics,
        per_epoch=tuple(name for name in metrics if name in fit.epochs[-1]),
        epochs=len(fit.epochs),
        version_tags=(tracking.data_tags(work.messages, work.split) if work.run.register else None),
    )
    finished.write(folder)
    version = results.log(finished, folder, fit.classifier, fit.linear_weights)
    registered = f", registered as models:/{tracking.REGISTERED_MODEL}/{version}"
    logger.info("Run %s: %s%s", run_id, _shown(metrics), registered if version else "")
    return metrics


def _without_tracking(cfg: DictConfig) -> float:
    """Train and write the files, and tell MLflow nothing."""
    plan = job.plan(cfg)
    if plan.run.register:
        raise UserError("register=true needs track=true: only a logged model can be registered")
    with workspace.folder(cfg.output_dir) as folder:
        reports.write_config(cfg, folder)
        work = plan.on(workspace.load_messages(cfg.data, plan.run.sources, folder))
        _, metrics = _train(work, work.title, folder, lambda epoch, figures: None)
    logger.info("Not tracked: %s", _shown(metrics))
    return metrics["test_f1"]


def _train(
    work: Job, title: str, folder: Path, on_epoch: EpochListener
) -> tuple[Fit, dict[str, float]]:
    """Fit, score each part once, and write the files."""
    fit = work.fit(folder, on_epoch)
    validation, test = work.validation(fit), work.test(fit)
    speed = {
        "fit_seconds": fit.seconds,
        "train_messages_per_second": fit.messages_per_second,
    }
    metrics = validation.metrics | test.metrics | speed
    work.write(fit, test, metrics, title, folder)
    return fit, metrics


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in _SHOWN)
