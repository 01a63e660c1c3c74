"""Metrics of a run: those that MLflow draws charts of, and the table that has them all.

MLflow's UI draws a chart for every metric. Metrics of single sources, of calibration and of
hindsight are therefore only in the table, and among the parameters of the logged model.
"""

from collections.abc import Mapping
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from spam_mlflow.data import csv_cells
from spam_mlflow.error_messages import require_space
from spam_mlflow.tracking import run_folder
from spam_mlflow.tracking.run_folder import METRICS_FILE
from spam_mlflow.tracking.source_names import metric_name

_PARTS = ("test", "val", "train", "seen")
_DETAILS = ("ece", "brier", "f1_best")  # of a part
_COLUMNS = ["part", "metric", "source", "value"]


def is_detail(name: str) -> bool:
    """Return whether a metric is in the table only, such as "test_f1__uci_sms" or "test_ece"."""
    part, _, metric = name.partition("_")
    return "__" in name or (part in _PARTS and metric in _DETAILS) or name.startswith("held_out_")


def charted(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those metrics that a run is logged with."""
    return {name: value for name, value in metrics.items() if not is_detail(name)}


def details(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the other metrics, by names that MLflow takes."""
    return {metric_name(name): value for name, value in metrics.items() if is_detail(name)}


def write(metrics: Mapping[str, float], folder: Path, safe: bool = False) -> None:
    """Write all metrics as `metrics.csv`: part, metric, source ("" for all sources) and value.

    Args:
        metrics: Metrics by name.
        folder: The run's folder.
        safe: As for `csv_cells.write`.
    """
    rows = []
    for name, value in metrics.items():
        of_all, _, source = name.partition("__")
        part, _, metric = of_all.partition("_")
        of_part = part in _PARTS
        rows.append((part if of_part else "", metric if of_part else of_all, source, value))
    csv_cells.write(pd.DataFrame(rows, columns=_COLUMNS), folder / METRICS_FILE, safe)


def read(run: Run, folder: Path) -> dict[str, float]:
    """Return all metrics of a run by name, also those of the table; earlier runs have none.

    Args:
        run: The run.
        folder: Folder for the download.
    """
    try:
        file = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=METRICS_FILE, dst_path=str(folder)
        )
        table = csv_cells.read(file, run_folder.has_safe_csv(run), dtype=str)
        rows = table[_COLUMNS].fillna("").to_numpy()
        found = {_name(part, metric, source): float(value) for part, metric, source, value in rows}
    except (MlflowException, OSError, KeyError, ValueError) as error:
        require_space(error, f"{METRICS_FILE} of run {run.info.run_id}")
        found = {}
    return {**found, **run.data.metrics}


def _name(part: str, metric: str, source: str) -> str:
    of_all = f"{part}_{metric}" if part else metric
    return metric_name(f"{of_all}__{source}" if source else of_all)
