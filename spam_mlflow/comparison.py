"""Comparing runs by what they predicted for the same messages."""

import functools
import hashlib
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from spam_mlflow import significance, slices
from spam_mlflow.errors import UserError
from spam_mlflow.reports import PREDICTIONS_FILE

_COLUMNS = ("text", "label", "source", "spam_probability", "predicted")
_AT_MOST = 5000  # runs that are looked at
_ID_SHOWN = 8  # characters
_NAME_SHOWN = 60
_SLICE_AT_LEAST = 20  # messages
FIGURES = {
    "F1": significance.f1,
    "MCC": significance.mcc,
    "precision": significance.precision,
    "recall": significance.recall,
    "ham FPR": significance.ham_fpr,
}
"""What is given with intervals, by its shown name."""


def find_runs(client: MlflowClient, experiment: str, filter_string: str) -> list[Run]:
    """Return the experiment's runs that match the filter, in MLflow's search syntax.

    Raises UserError where the experiment does not exist or the filter is malformed.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        existing = ", ".join(sorted(entry.name for entry in client.search_experiments()))
        raise UserError(f"experiment_name={experiment!r} does not exist; existing: {existing}")
    try:
        return list(client.search_runs([found.experiment_id], filter_string, max_results=_AT_MOST))
    except MlflowException as error:
        raise UserError(f"filter={filter_string!r}: {str(error).splitlines()[0]}") from error


def ranked(runs: Sequence[Run], metric: str) -> list[Run]:
    """Return the runs by `metric`, the largest first; those without it, or with NaN, last."""

    def key(run: Run) -> float:
        value = run.data.metrics.get(metric, np.nan)
        return np.inf if np.isnan(value) else -value

    return sorted(runs, key=key)


def rows(runs: Sequence[Run], columns: Sequence[str]) -> list[list[str]]:
    """Return a table's rows: id, start, status, name, and the figures that each run has."""
    return [
        [
            run.info.run_id[:_ID_SHOWN],
            datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
            run.info.status.lower(),
            textwrap.shorten(str(run.info.run_name or ""), _NAME_SHOWN, placeholder=" …"),
            *(_shown(run.data.metrics.get(column)) for column in columns),
        ]
        for run in runs
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def choose(runs: Sequence[Run], wanted: str) -> Run:
    """Return the run whose id begins with `wanted`, or whose name it is.

    Raises UserError where there is none, or more than one.
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
    """What a run predicted.

    name: short and unlike the others'.
    table: columns text, label, source, group, spam_probability, predicted; a row per message.
    """

    name: str
    run: Run
    table: pd.DataFrame

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over messages and labels in order: the same for the same holdout."""
        digest = hashlib.sha256()
        for row in zip(self.table["label"], self.table["text"], strict=True):
            digest.update("\x1f".join(row).encode() + b"\x1e")
        return digest.hexdigest()

    @functools.cached_property
    def intervals(self) -> list[tuple[float, float, float]]:
        """Each of `FIGURES` with the bounds of its 95 % interval."""
        (counts,) = significance.resampled(self.groups, self.spam, self.called)
        return [significance.interval(figure, counts) for figure in FIGURES.values()]

    @property
    def spam(self) -> np.ndarray:
        """Whether each message is spam, shape (rows,), bool."""
        return (self.table["label"] == "spam").to_numpy(dtype=bool)

    @property
    def called(self) -> np.ndarray:
        """Whether the run calls each message spam, shape (rows,), bool."""
        return (self.table["predicted"] == "spam").to_numpy(dtype=bool)

    @property
    def groups(self) -> np.ndarray:
        """The group of near-copies that each message belongs to, shape (rows,)."""
        return self.table["group"].to_numpy()


def load(run: Run, name: str, folder: Path) -> Scored:
    """Return what `run` predicted, downloaded into `folder`.

    Raises UserError where it has logged no predictions, saying why that may be.
    """
    run_id = run.info.run_id
    try:
        file = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=PREDICTIONS_FILE, dst_path=str(folder / run_id)
        )
        table = pd.read_csv(file, keep_default_na=False)
    except (MlflowException, OSError, ValueError) as error:
        raise UserError(
            f"{name} is {run.info.status.lower()} and has no {PREDICTIONS_FILE}; for a logged "
            "model, `python -m spam_mlflow evaluate` makes one"
        ) from error
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise UserError(f"{name}: its {PREDICTIONS_FILE} lacks {', '.join(missing)}")
    if "group" not in table or (table["group"] == "").any():
        table["group"] = np.arange(len(table))  # nothing is known of near-copies
    table["text"] = table["text"].astype(str)
    return Scored(name, run, table)


def names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run that tells it from the others, the run's own where it does."""
    own = [str(run.info.run_name or run.info.run_id[:_ID_SHOWN]) for run in runs]
    return [
        name if own.count(name) == 1 else f"{name} ({run.info.run_id[:_ID_SHOWN]})"
        for name, run in zip(own, runs, strict=True)
    ]


def by_holdout(scored: Sequence[Scored]) -> list[list[Scored]]:
    """Return the runs sorted into those that were scored on the same messages."""
    found: dict[str, list[Scored]] = {}
    for entry in scored:
        found.setdefault(entry.digest, []).append(entry)
    return list(found.values())


def shown_intervals(scored: Scored) -> list[str]:
    """Return each of `FIGURES` with the bounds of its 95 % interval, as a table shows it."""
    return [
        "not defined" if np.isnan(value) else f"{value:.4f} ({low:.4f} to {high:.4f})"
        for value, low, high in scored.intervals
    ]


@dataclass(frozen=True)
class Difference:
    """A figure of one run minus that of another, with the bounds of its 95 % interval."""

    ours: str
    theirs: str
    figure: str
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.low > 0:
            return "larger"
        return "smaller" if self.high < 0 else "not told apart"


def refusal(ours: Scored, theirs: Scored) -> str:
    """Return why two runs of different holdouts are not compared."""
    return (
        f"{ours.name} and {theirs.name} were scored on different messages (digests "
        f"{ours.digest[:12]} and {theirs.digest[:12]}), so their figures cannot be compared; "
        "evaluate both on the same data"
    )


def difference(ours: Scored, theirs: Scored, figure: str) -> Difference:
    """Return how far two runs' figures differ by a paired bootstrap over groups.

    Raises UserError where they were not scored on the same messages.
    """
    if ours.digest != theirs.digest:
        raise UserError(refusal(ours, theirs))
    bounds = significance.paired_difference(
        FIGURES[figure], ours.groups, ours.spam, ours.called, theirs.called
    )
    return Difference(ours.name, theirs.name, figure, *bounds)


def differences(same: Sequence[Scored]) -> list[Difference]:
    """Return F1 and ham false-positive rate of every run minus those of every earlier one."""
    return [
        difference(later, earlier, figure)
        for earlier, later in itertools.combinations(same, 2)
        for figure in ("F1", "ham FPR")
    ]


def disagreements(same: Sequence[Scored]) -> pd.DataFrame:
    """Return the messages that the runs label differently, the widest gap first.

    Columns: text, label, and each run's spam probability by its name.
    """
    first = same[0].table
    calls = np.stack([entry.called for entry in same])
    scores = {entry.name: entry.table["spam_probability"].to_numpy() for entry in same}
    table = first[["text", "label"]].assign(**scores)
    gap = np.ptp(np.stack(list(scores.values())), axis=0)
    differ = calls.any(axis=0) & ~calls.all(axis=0)
    order = np.flatnonzero(differ)[np.argsort(-gap[differ], kind="stable")]
    return table.iloc[order].reset_index(drop=True)


def by_slice(same: Sequence[Scored]) -> list[tuple[str, int, dict[str, float]]]:
    """Return each kind of message: its name, how many there are, and each run's accuracy on it."""
    found = []
    for name, inside in slices.of(same[0].table):
        if inside.sum() >= _SLICE_AT_LEAST:
            right = {s.name: float((s.called == s.spam)[inside].mean()) for s in same}
            found.append((name, int(inside.sum()), right))
    return found
