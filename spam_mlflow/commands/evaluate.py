"""Score a logged or registered model on any data set."""

import logging
from collections.abc import Mapping

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput
from omegaconf import DictConfig

from spam_mlflow import config, evaluation, registry, reports, s3, tracking, wiring, workspace
from spam_mlflow.data import Messages
from spam_mlflow.errors import UserError
from spam_mlflow.split import PARTS, Split

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float | None:
    """Run the evaluation that `cfg` describes and return the F1, None where it is not defined."""
    tracking.connect()
    with tracking.run(s3.settings(cfg)) as active, workspace.folder(cfg.output_dir) as folder:
        tracking.log_parameters(config.flatten(cfg))
        tracking.log_code_version()
        if cfg.part not in (*PARTS, "all"):
            raise UserError(f"part={cfg.part!r} does not exist; valid: {', '.join(PARTS)}, all")
        model = registry.load_model(cfg.model_uri)
        messages = workspace.load_messages(cfg.data, None, folder)
        tracking.log_rejected(messages, folder)
        title = f"{cfg.model_uri} on {messages.name}"
        tracking.name_run(title)
        frame = _frame(cfg, messages)

        scores = model.spam_probability(list(frame["text"]))
        report = evaluation.report(frame, scores, model.thresholds, "test")
        reports.write_config(cfg, folder)
        reports.write_predictions(report, folder)
        reports.write_errors(evaluation.misclassified(report), folder)
        reports.write_figures(report, [], title, folder)
        tracking.log_folder(folder)
        tracking.show_table(reports.ERRORS_FILE)
        _log_figures(report.metrics, model.model_id, active.info.run_id, cfg.part)
        table = reports.metrics_table(report.metrics, "test")
        tracking.describe_run(table)
        logger.info("%s", table)
        logger.info("Run %s: %s messages scored", active.info.run_id, f"{len(frame):,}")
    return report.metrics.get("test_f1")


def _frame(cfg: DictConfig, messages: Messages) -> pd.DataFrame:
    """Return the messages to score and log where they come from."""
    if cfg.part == "all":
        mlflow.set_tags(tracking.data_tags(messages))
        tracking.log_dataset(messages.frame, messages.name, "all")
        return messages.frame
    split: Split = wiring.build(cfg.split).split(messages)
    tracking.log_data(messages, split)
    return split.part(cfg.part)


def _log_figures(metrics: Mapping[str, float], model_id: str, run_id: str, part: str) -> None:
    """Log the figures with the messages they were taken on, and with the model where it is here."""
    client = MlflowClient()
    known = registry.logged_model(client, model_id) is not None
    if known:
        client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
    dataset = tracking.inputs(client, run_id)[part]
    tracking.log_figures_of(
        client, run_id, metrics, model_id=model_id if known else None, dataset=dataset
    )
