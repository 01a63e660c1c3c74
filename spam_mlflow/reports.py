"""What a run leaves behind as files: figures, tables, and the model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from spam_mlflow import config, figures
from spam_mlflow.evaluation import Report
from spam_mlflow.split import Split
from spam_mlflow.text import duplicate_key

CONFIG_FILE = "config.yaml"
ERRORS_FILE = "errors.json"
PREDICTIONS_FILE = "predictions.csv"


def write_config(cfg: DictConfig, folder: Path) -> Path:
    """Write the resolved configuration as `config.yaml` and return that file."""
    file = folder / CONFIG_FILE
    file.write_text(config.to_yaml(cfg), encoding="utf-8")
    return file


def write_split(split: Split, folder: Path) -> None:
    """Write `split.csv`: part, group, label, source and key of every message kept."""
    table = split.frame[["part", "group", "label", "source"]]
    keys = split.frame["text"].map(duplicate_key)
    table.assign(key=keys).to_csv(folder / "split.csv", index=False)


def write_errors(misclassified: pd.DataFrame, folder: Path) -> None:
    """Write `errors.json`, the misclassified messages as a table of MLflow's form."""
    misclassified.to_json(folder / ERRORS_FILE, orient="split", index=False)


def write_predictions(report: Report, folder: Path) -> None:
    """Write `predictions.csv`: every scored message with its label, score and predicted label."""
    columns = [name for name in ("text", "label", "source", "group") if name in report.frame]
    called = np.where(report.scores >= report.threshold, "spam", "ham")
    table = report.frame[columns].assign(spam_probability=report.scores, predicted=called)
    table.to_csv(folder / PREDICTIONS_FILE, index=False)


def write_figures(
    report: Report, epochs: Sequence[Mapping[str, float]], title: str, folder: Path
) -> None:
    """Write every figure of `report` as PNG into `folder`/figures."""
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    drawn = figures.all_figures(report.spam, report.scores, report.threshold, epochs, title)
    for name, figure in drawn.items():
        figure.savefig(target / f"{name}.png")


def metrics_table(metrics: Mapping[str, float], prefix: str) -> str:
    """Return the figures that start with `prefix` as a Markdown table: overall, then by source."""
    names = [n.removeprefix(f"{prefix}_") for n in metrics if n.startswith(f"{prefix}_")]
    rows: dict[str, dict[str, float]] = {}
    for name in names:
        metric, _, source = name.partition("__")
        rows.setdefault(metric, {})[source or "all"] = metrics[f"{prefix}_{name}"]
    table = pd.DataFrame.from_dict(rows, orient="index")
    lines = [
        "| metric | " + " | ".join(table.columns) + " |",
        "|---" * (len(table.columns) + 1) + "|",
    ]
    for row, values in table.iterrows():
        cells = (f"{value:.4f}" if pd.notna(value) else "n/a" for value in values)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
