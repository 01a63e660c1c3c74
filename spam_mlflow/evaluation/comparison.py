"""Comparing runs by their predictions for the same messages."""

import difflib
import functools
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from spam_mlflow.data import csv_cells
from spam_mlflow.data.messages import row_digest
from spam_mlflow.error_messages import require_space
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import bootstrap, run_data, slices
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.tracking import project_run, run_folder
from spam_mlflow.tracking.run_folder import PREDICTIONS_FILE

_COLUMNS = ("text", "label", "source", "spam_probability", "predicted")
_MAX_RUNS = 5000  # that are searched
_ID_SHOWN = 8  # characters
_NAME_SHOWN = 60  # characters
_SMALLEST_SLICE = 20  # messages
# Ends of the names of metrics, without their source.
_LOWER_IS_BETTER = ("ham_fpr", "ham_fpr_low", "ham_fpr_high", "ece", "brier", "loss", "_seconds")
METRICS = {
    "F1": bootstrap.f1,
    "MCC": bootstrap.mcc,
    "precision": bootstrap.precision,
    "recall": bootstrap.recall,
    "ham FPR": bootstrap.ham_fpr,
}
"""Metrics that are shown with intervals, by their name in reports."""


def find_runs(client: MlflowClient, experiment: str, filter_string: str) -> list[Run]:
    """Return the runs of an experiment that match a filter, without those that hold nothing.

    Args:
        client: Client of the tracking store.
        experiment: Name of the experiment.
        filter_string: Filter in MLflow's search syntax, "" for all runs.

    Raises:
        UserError: Where the experiment does not exist or the filter is malformed.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        existing = ", ".join(sorted(entry.name for entry in client.search_experiments()))
        raise UserError(f"experiment_name={experiment!r} does not exist; existing: {existing}")
    try:
        runs = client.search_runs([found.experiment_id], filter_string, max_results=_MAX_RUNS)
        return [run for run in runs if not project_run.is_marked(run)]
    except MlflowException as error:
        raise UserError(f"filter={filter_string!r}: {str(error).splitlines()[0]}") from error


def require_metrics(runs: Sequence[Run], key: str, names: Sequence[str]) -> None:
    """Raise UserError if a metric is one that no run has.

    Args:
        runs: The runs.
        key: The setting that names the metrics.
        names: The metrics.
    """
    known = sorted({name for run in runs for name in run.data.metrics})
    for name in names if known else ():
        if name in known:
            continue
        similar = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(similar)}? " if similar else ""
        # Those of single sources and of the machine would hide the others.
        valid = [n for n in known if "__" not in n and not n.startswith("system/")] or known
        raise UserError(
            f"{key}={name!r} is a metric of no run; {hint}metrics of these runs: {', '.join(valid)}"
        )


def lower_is_better(metric: str) -> bool:
    """Return whether the best run has the smallest value of a metric, such as "test_ham_fpr"."""
    return metric.partition("__")[0].endswith(_LOWER_IS_BETTER)


def ranked(runs: Sequence[Run], metric: str) -> list[Run]:
    """Return the runs sorted by `metric`, the best first; runs without it, or with NaN, last."""
    sign = 1 if lower_is_better(metric) else -1

    def key(run: Run) -> float:
        value = run.data.metrics.get(metric, np.nan)
        return np.inf if np.isnan(value) else sign * value

    return sorted(runs, key=key)


def table_header(columns: Sequence[str]) -> list[str]:
    """Return the header of `table_rows`, names of metrics broken where they may be."""
    return ["run", *(_broken(name) for name in columns)]


def _broken(name: str) -> str:
    """Return a metric's name with line breaks, as narrow as its values where it can be."""
    return "\n".join(textwrap.wrap(name.replace("_", "_ "), 9)).replace("_ ", "_")


def table_rows(runs: Sequence[Run], columns: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table: what each run is, in some lines, and its metrics.

    Args:
        runs: The runs, in order.
        columns: Names of the metrics.
    """
    return [
        [
            f"{run.info.run_id[:_ID_SHOWN]} {_started(run)}{_unfinished(run)}\n"
            + textwrap.shorten(str(run.info.run_name or ""), _NAME_SHOWN, placeholder=" …"),
            *(_formatted(run.data.metrics.get(column)) for column in columns),
        ]
        for run in runs
    ]


def as_record(run: Run, columns: Sequence[str]) -> dict[str, Any]:
    """Return a run of the table as data.

    Args:
        run: The run.
        columns: Names of the metrics.
    """
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "started": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(),
        "status": run.info.status.lower(),
        "metrics": {column: run.data.metrics.get(column) for column in columns},
    }


def _started(run: Run) -> str:
    return datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _unfinished(run: Run) -> str:
    status = run.info.status.lower()
    return "" if status == "finished" else f" {status}"


def _formatted(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def choose(runs: Sequence[Run], wanted: str) -> Run:
    """Return the one run that the user names.

    Args:
        runs: The runs to choose from.
        wanted: First characters of its id, or its name.

    Raises:
        UserError: Where no run or more than one run fits.
    """
    found = [run for run in runs if run.info.run_id.startswith(wanted)] or [
        run for run in runs if run.info.run_name == wanted
    ]
    if len(found) != 1:
        many = ", ".join(run.info.run_id[:_ID_SHOWN] for run in found)
        problem = f"fits several runs ({many})" if found else "fits no run of the experiment"
        raise UserError(f"runs: {wanted!r} {problem}; give an id from the table")
    return found[0]


@dataclass(frozen=True)
class Scored:
    """A run and its predictions.

    Attributes:
        name: Short name of the run, unique among the runs that are compared.
        run: The run.
        table: Columns `text`, `label`, `source`, `group`, `spam_probability` and `predicted`; one
            row per message.
    """

    name: str
    run: Run
    table: pd.DataFrame

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 (hex) over label and text of every message, in order."""
        return row_digest(self.table, ("label", "text"))

    @functools.cached_property
    def intervals(self) -> list[tuple[float, float, float]]:
        """Each of `METRICS` with the lower and upper bound of its 95 % interval."""
        (counts,) = bootstrap.resampled(self.groups, self.spam, self.predicted)
        return [bootstrap.interval(metric, counts) for metric in METRICS.values()]

    @property
    def data(self) -> str:
        """The data that the run was scored on, in a few words."""
        return run_data.description(self.run)

    @property
    def trained_on(self) -> int:
        """How many of the messages the model was trained on, as far as known."""
        return run_data.trained_on(self.run)

    @property
    def spam(self) -> np.ndarray:
        """Whether each message is spam, shape (rows,), bool."""
        return is_spam(self.table["label"])

    @property
    def predicted(self) -> np.ndarray:
        """Whether the run predicts each message as spam, shape (rows,), bool."""
        return is_spam(self.table["predicted"])

    @property
    def scores(self) -> np.ndarray:
        """The run's spam probability of each message, shape (rows,), float64."""
        return self.table["spam_probability"].to_numpy(dtype=float)

    @property
    def groups(self) -> np.ndarray:
        """Group of near-duplicates of each message, shape (rows,)."""
        return self.table["group"].to_numpy()


def load(run: Run, name: str, folder: Path) -> Scored:
    """Download and read the predictions of a run.

    Args:
        run: The run.
        name: Its name in the report.
        folder: Folder for the download.

    Raises:
        UserError: Where the run has logged no predictions, or not all columns of them, or where
            this machine's disk is full.
    """
    run_id = run.info.run_id
    try:
        file = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=PREDICTIONS_FILE, dst_path=str(folder / run_id)
        )
        table = csv_cells.read(file, safe=run_folder.has_safe_csv(run))
    except (MlflowException, OSError, ValueError) as error:
        require_space(error, f"{PREDICTIONS_FILE} of {name}")
        raise UserError(
            f"{name} is {run.info.status.lower()} and has no {PREDICTIONS_FILE}; if it has logged "
            f"a model, evaluate model_uri=runs:/{run_id}/model and compare that run"
        ) from error
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise UserError(f"{name}: its {PREDICTIONS_FILE} lacks {', '.join(missing)}")
    if "group" not in table or (table["group"] == "").any():
        table["group"] = np.arange(len(table))  # near-duplicates are unknown
    table["text"] = table["text"].astype(str)
    return Scored(name, run, table)


def unique_names(runs: Sequence[Run]) -> list[str]:
    """Return a unique name for each run: its own, with its id where other runs have the same."""
    own = [str(run.info.run_name or run.info.run_id[:_ID_SHOWN]) for run in runs]
    return [
        name if own.count(name) == 1 else f"{name} ({run.info.run_id[:_ID_SHOWN]})"
        for name, run in zip(own, runs, strict=True)
    ]


def by_holdout(scored: Sequence[Scored]) -> list[list[Scored]]:
    """Return the runs in groups that were scored on the same messages."""
    holdouts: dict[str, list[Scored]] = {}
    for entry in scored:
        holdouts.setdefault(entry.digest, []).append(entry)
    return list(holdouts.values())


def formatted_interval(interval: tuple[float, float, float]) -> tuple[str, str]:
    """Return a metric, and the bounds of its 95 % interval, as cells of a table."""
    value, low, high = interval
    if np.isnan(value):
        return "not defined", "-"
    return f"{value:.4f}", f"{low:.4f} to {high:.4f}"


@dataclass(frozen=True)
class Difference:
    """The difference between two runs' values of a metric, with its 95 % interval.

    Attributes:
        ours: Name of the first run.
        theirs: Name of the second run.
        metric: Name of the metric, a key of `METRICS`.
        value: Metric of the first run minus that of the second.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
    """

    ours: str
    theirs: str
    metric: str
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says of `value`: larger, smaller, or no significant difference."""
        if self.low > 0:
            return "larger"
        return "smaller" if self.high < 0 else "no significant difference"

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


def mismatch_message(ours: Scored, theirs: Scored) -> str:
    """Return the message that two runs with different holdouts are not compared."""
    return (
        f"{ours.name} and {theirs.name} were scored on different messages ({ours.data}, messages "
        f"{ours.digest[:12]}; {theirs.data}, messages {theirs.digest[:12]}), so their metrics "
        "cannot be compared; evaluate both on the same data"
    )


def trained_message(scored: Scored) -> str:
    """Return the message that a run is not compared since its model knows the messages."""
    return (
        f"the model of {scored.name} was trained on {scored.trained_on:,} of the "
        f"{len(scored.table):,} messages, so its metrics are too good to be compared; evaluate it "
        "with part=unseen, or on other data"
    )


def difference(ours: Scored, theirs: Scored, metric: str) -> Difference:
    """Return the difference between two runs' values of a metric, by a paired bootstrap.

    Args:
        ours: The first run.
        theirs: The second run, whose metric is subtracted.
        metric: Name of the metric, a key of `METRICS`.

    Raises:
        UserError: Where the runs were not scored on the same messages.
    """
    if ours.digest != theirs.digest:
        raise UserError(mismatch_message(ours, theirs))
    bounds = bootstrap.paired_difference(
        METRICS[metric], ours.groups, ours.spam, ours.predicted, theirs.predicted
    )
    return Difference(ours.name, theirs.name, metric, *bounds)


def differences(same: Sequence[Scored]) -> list[Difference]:
    """Return the differences in F1 and ham false-positive rate between all pairs of runs.

    Args:
        same: Runs with the same holdout; of each pair, the earlier one is subtracted. Runs whose
            models were trained on some of the messages are left out.
    """
    fair = [entry for entry in same if not entry.trained_on]
    return [
        difference(later, earlier, metric)
        for earlier, later in itertools.combinations(fair, 2)
        for metric in ("F1", "ham FPR")
    ]


def disagreements(predicted: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return the messages that models label differently, the largest gap in scores first.

    Args:
        predicted: Whether each model predicts each message as spam, each of shape (rows,), bool.
        scores: The models' spam probabilities of the same messages, each of shape (rows,).

    Returns:
        Positions of the messages, shape (messages,), int64.
    """
    labels, gap = np.stack(predicted), np.ptp(np.stack(scores), axis=0)
    differ = labels.any(axis=0) & ~labels.all(axis=0)
    return np.flatnonzero(differ)[np.argsort(-gap[differ], kind="stable")]


def by_slice(same: Sequence[Scored]) -> list[tuple[str, int, dict[str, float]]]:
    """Return the runs' accuracy on each slice that is large enough.

    Args:
        same: Runs with the same holdout.

    Returns:
        For each slice: its name, its number of messages, and each run's accuracy by the run's name.
    """
    return slice_accuracy(same[0].table, {s.name: s.predicted for s in same})


def slice_accuracy(
    frame: pd.DataFrame, predictions: Mapping[str, np.ndarray]
) -> list[tuple[str, int, dict[str, float]]]:
    """Return models' accuracy on each slice that is large enough, as `by_slice` does.

    Args:
        frame: The messages, with columns `text`, `label` and `source`.
        predictions: Whether each model predicts each message as spam, by its name; each has shape
            (rows,), bool.
    """
    spam = is_spam(frame["label"])
    return [
        (
            name,
            int(inside.sum()),
            {model: float((found == spam)[inside].mean()) for model, found in predictions.items()},
        )
        for name, inside in slices.masks(frame)
        if inside.sum() >= _SMALLEST_SLICE
    ]
