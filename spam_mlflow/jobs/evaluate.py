"""Score a logged or registered model on any data set."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput
from omegaconf import DictConfig

from spam_mlflow import progress
from spam_mlflow.config.compose import flatten
from spam_mlflow.config.schema import EvaluateSettings
from spam_mlflow.data.messages import Messages
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import artifacts, metrics, model_card, tables
from spam_mlflow.registry import loading, model_logging, training_messages, versions
from spam_mlflow.tracking import lineage, links, run_logging, run_metrics, run_names, runs
from spam_mlflow.tracking.run_folder import ERRORS_FILE, run_folder
from spam_mlflow.training.experiment import load_messages, split_messages

logger = logging.getLogger(__name__)

_WITHOUT_SPLIT = ("all", "unseen")
_PREFIXES = {"train": "train", "validation": "val"}
"""Start of the metrics' names by part; that of all others is "test", or else "seen"."""


@dataclass(frozen=True)
class Selection:
    """The messages to score, and how many of them the model knows.

    Attributes:
        frame: The messages.
        trained_on: Number of those that the model was trained or tuned on; None if that is unknown.
        prefix: Start of the metrics' names. It is only "test" if the model knows none of the
            messages, or if its training used the same leaky split.
    """

    frame: pd.DataFrame
    trained_on: int | None
    prefix: str

    @property
    def counts(self) -> str:
        """How many of the messages the model knows, in a few words; "" if none."""
        return f"{self.trained_on:,} of {len(self.frame):,} trained on" if self.trained_on else ""

    @property
    def warning(self) -> str:
        """What the reader of the metrics has to know; "" if nothing."""
        if self.trained_on is None:
            return (
                "Which messages the model was trained on is unknown: its run has no split.csv here"
            )
        if not self.trained_on:
            return ""
        return (
            f"NOT A HOLDOUT: the model was trained on {self.trained_on:,} of the "
            f"{len(self.frame):,} scored messages, so that its metrics are too good. They are "
            f"logged as {self.prefix}_f1 and so on; part=unseen leaves those messages out"
        )


def run(settings: EvaluateSettings, cfg: DictConfig) -> float | None:
    """Score a model on messages, and log metrics, plots and predictions to a run.

    Returns:
        The F1, or None if it is not defined.

    Raises:
        UserError: If the model or the messages cannot be read.
    """
    runs.connect()
    client = MlflowClient()
    with runs.run(settings.storage) as active, run_folder(settings.output_dir) as folder:
        run_logging.log_parameters(flatten(cfg))
        lineage.log_code_version()
        run_names.name_run(settings.model_uri)  # so that a run that fails now has a name, too
        reference = versions.resolve(client, settings.model_uri)
        with progress.step("Loading the model"):
            model = loading.load_model(reference.uri)
        messages = load_messages(settings, folder, one_class=settings.part in _WITHOUT_SPLIT)
        run_logging.log_rejected(messages, folder)
        mlflow.set_tag(run_logging.PART_TAG, settings.part)
        selected = _select(settings, messages, training_messages.keys(client, model.model_id))
        title = _title(reference, messages, settings.part, selected)
        run_names.name_run(title, instead_of=settings.model_uri)
        with progress.step(f"Scoring {len(selected.frame):,} messages"):
            scores, doubts = model.scores_and_doubts(list(selected.frame["text"]))
        with progress.step("Writing tables and plots"):
            report = metrics.report(selected.frame, scores, model.thresholds, selected.prefix)
            artifacts.write_config(cfg, folder)
            _write(report, doubts, title, folder, settings.safe_csv)
            run_metrics.write(report.metrics, folder, settings.safe_csv)
        with progress.step("Logging to MLflow"):
            run_logging.log_folder(folder)
            run_logging.show_table(ERRORS_FILE)
            charted = run_metrics.charted(report.metrics)
            _log_metrics(charted, model.model_id, active.info.run_id, settings.part)
        _show(report, selected, reference, settings.json)
        doubtful = len(doubts) - doubts.count(None)
        if settings.json:
            values = _as_data(report, selected, reference, active.info.run_id, settings.part)
            values["low_confidence"] = doubtful
            print(tables.as_json(values))
        logger.info("View: %s", links.run_page(active.info.run_id))
        low = f", {doubtful:,} of them with low confidence" if doubtful else ""
        logger.info("Run %s: %s messages scored%s", active.info.run_id, f"{len(scores):,}", low)
    return report.metrics.get(f"{selected.prefix}_f1")


def _select(
    settings: EvaluateSettings, messages: Messages, known: frozenset[str] | None
) -> Selection:
    """Return the messages to score, and log where they come from."""
    leaky, frame = False, messages.frame
    if settings.part in _WITHOUT_SPLIT:
        if settings.part == "unseen":
            frame = _unseen(frame, known)
        mlflow.set_tags(lineage.data_tags(messages))
        lineage.log_dataset(frame, messages.name, settings.part)
    else:
        split = split_messages(settings, messages)
        lineage.log_data(messages, split.without_extra())
        leaky, frame = split.leaky, split.part(settings.part)
    trained_on = None
    if known is not None:
        trained_on = int(training_messages.is_among(frame["text"], known).sum())
    prefix = "seen" if trained_on and not leaky else "test"
    return Selection(frame, trained_on, _PREFIXES.get(settings.part, prefix))


def _unseen(frame: pd.DataFrame, known: frozenset[str] | None) -> pd.DataFrame:
    """Return the messages that the model was not trained on."""
    if known is None:
        raise UserError(
            "part=unseen: which messages the model was trained on is unknown, since its run has no "
            "split.csv in this tracking store; give part=all, or a part of the split"
        )
    kept = frame[~training_messages.is_among(frame["text"], known)].reset_index(drop=True)
    if kept.empty:
        raise UserError("part=unseen: the model was trained on every message; give other data")
    return kept


def _title(
    reference: versions.Reference, messages: Messages, part: str, selected: Selection
) -> str:
    """Return the model and the data in a few words, and whether this is a test at all."""
    of_part = "" if part == "test" else f", {part}"
    counts = f" ({selected.counts})" if selected.counts else ""
    return f"{reference} on {messages.name}{of_part}{counts}"


def _write(
    report: metrics.Report, doubts: Sequence[str | None], title: str, folder: Path, safe_csv: bool
) -> None:
    artifacts.write_predictions(report, folder, safe_csv, doubts)
    artifacts.write_errors(metrics.misclassified(report), folder)
    artifacts.write_plots(report, [], title, folder)


def _as_data(
    report: metrics.Report,
    selected: Selection,
    reference: versions.Reference,
    run_id: str,
    part: str,
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "model": reference.uri,
        "part": part,
        "messages": len(selected.frame),
        "trained_on": selected.trained_on,
        "warning": selected.warning or None,
        "threshold": report.threshold,
        "metrics": report.metrics,
    }


def _show(
    report: metrics.Report, selected: Selection, reference: versions.Reference, as_json: bool
) -> None:
    """Print and describe the metrics, with a warning before them if the model knows the data."""
    known = "unknown" if selected.trained_on is None else str(selected.trained_on)
    mlflow.set_tags(
        {
            run_logging.TRAINED_ON_TAG: known,
            run_logging.THRESHOLD_TAG: repr(report.threshold),
            run_logging.MODEL_TAG: reference.uri,
        }
    )
    table = artifacts.metrics_table(report.metrics, selected.prefix)
    warned = f"**{selected.warning}.**\n\n" if selected.warning else ""
    summary = model_card.summary(report.metrics, selected.prefix, report.threshold)
    run_logging.describe_run(f"{warned}{summary}\n\n{table}")
    if selected.warning:
        logger.warning("%s.", selected.warning)
    if not as_json:
        cells = artifacts.metrics_cells(report.metrics, selected.prefix)
        logger.info("%s", tables.terminal(*cells, sys.stderr))


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
