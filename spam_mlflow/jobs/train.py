"""Train, evaluate, log and register a classifier: the command `main`."""

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from spam_mlflow.config.compose import flatten
from spam_mlflow.config.schema import MainSettings
from spam_mlflow.data.messages import Messages
from spam_mlflow.evaluation import artifacts
from spam_mlflow.registry import model_logging, pending_run
from spam_mlflow.registry.pending_run import PendingRun
from spam_mlflow.tracking import lineage, links, run_logging, run_names, runs
from spam_mlflow.tracking.run_folder import run_folder
from spam_mlflow.training.experiment import Experiment, load_messages, split_messages, trained_split
from spam_mlflow.training.fit import EpochListener, Fit

logger = logging.getLogger(__name__)

_SHOWN = ("test_f1", "test_mcc", "test_ham_fpr", "test_recall_at_fpr_0_2pct")


def run(settings: MainSettings, cfg: DictConfig) -> float:
    """Train and evaluate a classifier, and log it unless tracking is turned off.

    Returns:
        The F1 on the test part.

    Raises:
        UserError: If the data cannot be read, the training fails, or a store fails.
    """
    if not settings.track:
        return _without_tracking(settings, cfg)
    runs.connect()
    with runs.run(settings.storage, monitored=True) as active:
        flat = flatten(cfg)
        run_logging.log_parameters(flat | _as_entry_point(settings, flat["data_dir"]))
        differences = run_names.differences(cfg)
        early_name = f"{settings.model.name}{differences}"
        run_names.name_run(early_name)  # so that a run that fails now has a name, too
        lineage.log_code_version()
        with run_folder(settings.output_dir) as folder:
            # This is logged first, so that a store that takes no artifacts fails before training.
            run_logging.log_file(artifacts.write_config(cfg, folder))
            messages = load_messages(settings, folder)
            run_logging.log_rejected(messages, folder)
            experiment = _experiment(settings, messages)
            title = experiment.title + differences
            run_names.name_run(title, instead_of=early_name)
            metrics = _tracked(experiment, settings, title, active.info.run_id, folder)
            return metrics["test_f1"]


def _as_entry_point(settings: MainSettings, data_dir: str | None) -> dict[str, str]:
    """Return the parameters that `mlflow run` logs, so that runs are alike however they began.

    The folder is as it was given: what the environment holds is not logged.
    """
    return {
        "epochs": str(settings.train.epochs),
        "model": settings.chosen_model,
        "data": settings.chosen_data,
        "data_dir": data_dir or "none",
        "overrides": "none",
    }


def _experiment(settings: MainSettings, messages: Messages) -> Experiment:
    split = trained_split(settings.model, split_messages(settings, messages))
    if len(messages.extra) and not len(split.extra):
        logger.info(
            "data.extra: no effect on model=%s with split=%s; these messages are not trained on",
            settings.model.name,
            split.name,
        )
    return Experiment(
        settings.model, settings.train, settings.seed, messages, split, settings.preset
    )


def _tracked(
    experiment: Experiment, settings: MainSettings, title: str, run_id: str, folder: Path
) -> dict[str, float]:
    """Train, log everything to the active run, and return the metrics by name."""
    messages, split = experiment.messages, experiment.split
    lineage.log_data(messages, split)
    run_logging.log_preset(settings.preset)
    epoch_log = run_logging.EpochLog()
    uri = f"runs:/{run_id}/model"
    fitted, metrics = _train(experiment, settings, title, folder, epoch_log, uri)
    unregistered = _why_unregistered(settings, messages, fitted)
    pending = PendingRun(
        run_id=run_id,
        metrics=metrics,
        per_epoch=tuple(name for name in metrics if name in fitted.epochs[-1]),
        epochs=len(fitted.epochs),
        unlogged=tuple(epoch_log.unlogged),
        version_tags=None if unregistered else lineage.data_tags(messages, split),
        code_package=model_logging.scorer_package(),
        tags=fitted.tags,
    )
    pending.write(folder)
    version = pending_run.log(pending, folder, fitted.classifier, fitted.linear_weights)
    registered = f", registered as models:/{runs.REGISTERED_MODEL}/{version}" if version else ""
    if settings.register and unregistered:
        registered = f", logged as {uri}; not registered, since {unregistered}"
    logger.info("View: %s", links.run_page(run_id))
    logger.info("Run %s: %s%s", run_id, _shown(metrics), registered)
    return metrics


def _why_unregistered(settings: MainSettings, messages: Messages, fitted: Fit) -> str:
    """Return why no version is to be registered, "" where one is."""
    if not settings.register:
        return "register=false"
    if messages.fallback:
        return "it is of the sample"
    if fitted.doubt and settings.register != "always":
        return "labels and texts may not belong together (register=always registers it)"
    return ""


def _without_tracking(settings: MainSettings, cfg: DictConfig) -> float:
    """Train and write the files without MLflow, and return the test F1."""
    with run_folder(settings.output_dir) as folder:
        artifacts.write_config(cfg, folder)
        experiment = _experiment(settings, load_messages(settings, folder))
        _, metrics = _train(
            experiment, settings, experiment.title, folder, lambda epoch, values: None
        )
    logger.info("Not tracked: %s", _shown(metrics))
    return metrics["test_f1"]


def _train(
    experiment: Experiment,
    settings: MainSettings,
    title: str,
    folder: Path,
    on_epoch: EpochListener,
    model_uri: str | None = None,
) -> tuple[Fit, dict[str, float]]:
    """Fit, score each part once, write the files, and return the fit and the metrics by name."""
    fitted = experiment.fit(folder, on_epoch)
    if fitted.choice.why:
        logger.warning("The threshold is %s", fitted.choice)
    if fitted.doubt:
        logger.warning("%s; check the data, or train longer", fitted.doubt)
    if fitted.better_alone:
        logger.warning(
            "%s; try a model of each source, such as sources=[NAME]", fitted.better_alone
        )
    validation, test = experiment.validation(fitted), experiment.test(fitted)
    speed = {
        "fit_seconds": fitted.seconds,
        "train_messages_per_second": fitted.messages_per_second,
    }
    metrics = validation.metrics | test.metrics | fitted.choice.metrics | speed
    experiment.write(fitted, test, metrics, title, folder, settings.safe_csv, model_uri)
    return fitted, metrics


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in _SHOWN)
