"""Score a logged or registered model on any data set."""

import logging
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput
from omegaconf import DictConfig

from spam_mlflow.config.compose import flatten
from spam_mlflow.config.schema import EvaluateSettings
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation import artifacts, metrics
from spam_mlflow.registry import loading, model_logging
from spam_mlflow.tracking import lineage, run_logging, run_names, runs
from spam_mlflow.tracking.run_folder import ERRORS_FILE, run_folder
from spam_mlflow.training.experiment import load_messages

logger = logging.getLogger(__name__)


def run(settings: EvaluateSettings, cfg: DictConfig) -> float | None:
    """Score a model on messages, and log metrics, plots and predictions to a run.

    Returns:
        The F1, or None if it is not defined.

    Raises:
        UserError: If the model or the messages cannot be read.
    """
    runs.connect()
    with runs.run(settings.storage) as active, run_folder(settings.output_dir) as folder:
        run_logging.log_parameters(flatten(cfg))
        lineage.log_code_version()
        run_names.name_run(settings.model_uri)  # so that a run that fails now has a name, too
        model = loading.load_model(settings.model_uri)
        messages = load_messages(settings, folder)
        run_logging.log_rejected(messages, folder)
        title = f"{settings.model_uri} on {messages.name}"
        run_names.name_run(title, instead_of=settings.model_uri)
        frame = _part(settings, messages)
        scores = model.spam_probability(list(frame["text"]))
        report = metrics.report(frame, scores, model.thresholds, "test")
        artifacts.write_config(cfg, folder)
        _write(report, title, folder)
        run_logging.log_folder(folder)
        run_logging.show_table(ERRORS_FILE)
        _log_metrics(report.metrics, model.model_id, active.info.run_id, settings.part)
        table = artifacts.metrics_table(report.metrics, "test")
        run_logging.describe_run(table)
        logger.info("%s", table)
        logger.info("Run %s: %s messages scored", active.info.run_id, f"{len(frame):,}")
    return report.metrics.get("test_f1")


def _part(settings: EvaluateSettings, messages: Messages) -> pd.DataFrame:
    """Return the messages to score, and log where they come from."""
    if settings.part == "all":
        mlflow.set_tags(lineage.data_tags(messages))
        lineage.log_dataset(messages.frame, messages.name, "all")
        return messages.frame
    split: Split = settings.split.split(messages)
    lineage.log_data(messages, split)
    return split.part(settings.part)


def _write(report: metrics.Report, title: str, folder: Path) -> None:
    artifacts.write_predictions(report, folder)
    artifacts.write_errors(metrics.misclassified(report), folder)
    artifacts.write_plots(report, [], title, folder)


def _log_metrics(values: Mapping[str, float], model_id: str, run_id: str, part: str) -> None:
    """Log the metrics with their dataset, and with the model if this tracking store has it."""
    client = MlflowClient()
    known = model_logging.logged_model(client, model_id) is not None
    if known:
        client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
    dataset = lineage.inputs(client, run_id)[part]
    run_logging.log_metrics_of(
        client, run_id, values, model_id=model_id if known else None, dataset=dataset
    )
