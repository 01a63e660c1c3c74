"""Artifacts of a run: configuration, split, plots and tables, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from spam_mlflow.config.compose import to_yaml
from spam_mlflow.data import csv_cells
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation import plots
from spam_mlflow.evaluation.metrics import Report
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer.labels import predicted_labels
from spam_mlflow.scorer.normalization import duplicate_key
from spam_mlflow.tracking.run_folder import (
    CONFIG_FILE,
    ERRORS_FILE,
    LARGE_SPLIT_FILE,
    PLOTS_FOLDER,
    PREDICTIONS_FILE,
    SPLIT_FILE,
)

_LARGE = 20_000  # rows from which a table is compressed


def write_config(cfg: DictConfig, folder: Path) -> Path:
    """Write the resolved configuration as `config.yaml` into `folder` and return that file."""
    file = folder / CONFIG_FILE
    file.write_text(to_yaml(cfg), encoding="utf-8")
    return file


def split_table(split: Split) -> pd.DataFrame:
    """Return part, group, label, source and key of every message, without its text."""
    table = split.frame[["part", "group", "label", "source"]]
    return table.assign(key=split.frame["text"].map(duplicate_key))


def write_split(split: Split, folder: Path, safe: bool = False) -> None:
    """Write `split_table` as `split.csv` into `folder`, or as `split.csv.gz` where it is large.

    Args:
        split: The split.
        folder: The run's folder.
        safe: As for `csv_cells.write`.
    """
    name = SPLIT_FILE if len(split.frame) < _LARGE else LARGE_SPLIT_FILE
    csv_cells.write(split_table(split), folder / name, safe)


def write_errors(misclassified: pd.DataFrame, folder: Path) -> None:
    """Write `errors.json` into `folder`: the misclassified messages as a table for MLflow's UI."""
    misclassified.to_json(folder / ERRORS_FILE, orient="split", index=False)


def write_predictions(
    report: Report,
    folder: Path,
    safe: bool = False,
    doubts: Sequence[str | None] | None = None,
) -> None:
    """Write `predictions.csv` into `folder`: each message's label, score and predicted label.

    Args:
        report: The report of the messages.
        folder: The run's folder.
        safe: As for `csv_cells.write`.
        doubts: Why the score of each message means little, for a column `low_confidence`; None for
            no such column.
    """
    columns = [name for name in ("text", "label", "source", "group") if name in report.frame]
    predicted = predicted_labels(report.scores, report.threshold)
    table = report.frame[columns].assign(spam_probability=report.scores, predicted=predicted)
    if doubts is not None:
        table["low_confidence"] = [doubt or "" for doubt in doubts]
    csv_cells.write(table, folder / PREDICTIONS_FILE, safe)


def write_plots(
    report: Report, epochs: Sequence[Mapping[str, float]], title: str, folder: Path
) -> None:
    """Write the plots of a run as PNG files.

    Args:
        report: The report of the test part.
        epochs: Metrics of each epoch by name; without any, there are no learning curves.
        title: Title of every plot.
        folder: The run's folder; the plots go into its subfolder `figures`.
    """
    target = folder / PLOTS_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    drawn = plots.all_plots(report.spam, report.scores, report.threshold, epochs, title)
    for name, figure in drawn.items():
        figure.savefig(target / f"{name}.png")


def metrics_table(metrics: Mapping[str, float], prefix: str) -> str:
    """Return metrics as a Markdown table: a row for each, overall and by source.

    Args:
        metrics: Metrics by their full name, such as "test_f1__uci_sms".
        prefix: Part of the data, such as "test"; the metrics of other parts are left out.
    """
    return markdown(*metrics_cells(metrics, prefix))


def metrics_cells(
    metrics: Mapping[str, float], prefix: str
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return header and rows of `metrics_table`."""
    names = [n.removeprefix(f"{prefix}_") for n in metrics if n.startswith(f"{prefix}_")]
    rows: dict[str, dict[str, float]] = {}
    for name in names:
        metric, _, source = name.partition("__")
        rows.setdefault(metric, {})[source or "all"] = metrics[f"{prefix}_{name}"]
    table = pd.DataFrame.from_dict(rows, orient="index")
    cells = [
        (str(metric), *(f"{value:.4f}" if pd.notna(value) else "n/a" for value in values))
        for metric, values in table.iterrows()
    ]
    return ["metric", *table.columns], cells
