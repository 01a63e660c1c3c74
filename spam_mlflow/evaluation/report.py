"""A comparison of runs as one self-contained HTML file, and its plots as PNG."""

import base64
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from spam_mlflow.evaluation import comparison, plots, run_data
from spam_mlflow.evaluation.bootstrap import BOOTSTRAPS
from spam_mlflow.evaluation.comparison import Difference, Scored
from spam_mlflow.tracking.run_folder import PLOTS_FOLDER

REPORT_FILE = "report.html"
_DISAGREEMENTS = 50  # that are shown
# Parameters that say nothing about the model, such as the paths of a run.
_HIDDEN = ("data_dir", "data.files.", "output_dir", "storage.", "rows.", "overrides", "register")

_TWICE = ("epochs", "model", "data")  # parameters of `mlflow run` that are there in full as well


def write(
    runs: Sequence[Run], scored: Sequence[Scored], problems: Mapping[str, str], folder: Path
) -> list[Difference]:
    """Write `report.html` and its plots.

    Args:
        runs: All runs that the user chose.
        scored: Those that have predictions.
        problems: Why the other runs have none, by their ids.
        folder: Folder for the files.

    Returns:
        The differences between the runs that the report shows.
    """
    from jinja2 import Environment

    template = resources.files("spam_mlflow.evaluation").joinpath("report.html").read_text("utf-8")
    holdouts = comparison.by_holdout(scored)
    differences = [comparison.differences(same) for same in holdouts]
    parts = [
        _part(same, found, number, folder)
        for number, (same, found) in enumerate(zip(holdouts, differences, strict=True), start=1)
    ]
    text = (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(template)
        .render(
            title=title(scored),
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            bootstraps=BOOTSTRAPS,
            runs=[_run(run, problems.get(run.info.run_id, "")) for run in runs],
            changed=_changed(scored),
            refusals=refusals(holdouts),
            holdouts=parts,
        )
    )
    (folder / REPORT_FILE).write_text(text, encoding="utf-8")
    return list(itertools.chain(*differences))


def title(scored: Sequence[Scored]) -> str:
    """Return the title of the report: the runs' names, or their number if they are many."""
    few = len(scored) <= 2
    return f"Comparison of {' and '.join(s.name for s in scored) if few else f'{len(scored)} runs'}"


def refusals(holdouts: Sequence[Sequence[Scored]]) -> list[str]:
    """Return why runs are not compared: each pair of holdouts, each model that knows its own.

    Args:
        holdouts: The runs, grouped by holdout, as `comparison.by_holdout` returns them.
    """
    mismatches = [
        comparison.mismatch_message(others[0], same[0])
        for same, others in itertools.combinations(holdouts, 2)
    ]
    known = [entry for entry in itertools.chain(*holdouts) if entry.trained_on]
    return mismatches + [comparison.trained_message(entry) for entry in known]


def _run(run: Run, problem: str) -> dict[str, str]:
    """Return a row of the table of runs."""
    seconds = run.data.metrics.get("fit_seconds")
    return {
        "id": run.info.run_id[:8],
        "name": str(run.info.run_name),
        "status": run.info.status.lower(),
        "data": run_data.description(run),
        "seconds": "-" if seconds is None else f"{seconds:.1f}",
        "problem": problem,
    }


def _changed(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """Return the table of the parameters that differ between the runs, None if there are none."""
    keys = sorted({key for entry in scored for key in entry.run.data.params})
    rows = [
        (key, [entry.run.data.params.get(key, "-") for entry in scored])
        for key in keys
        if not key.startswith(_HIDDEN) and "_target_" not in key and key not in _TWICE
    ]
    differing = [(key, values) for key, values in rows if len(set(values)) > 1]
    return {"names": [s.name for s in scored], "rows": differing} if differing else None


def _part(
    same: Sequence[Scored], differences: Sequence[Difference], number: int, folder: Path
) -> dict[str, Any]:
    """Return what the report shows of the runs with one holdout."""
    first = same[0]
    disagreed = comparison.disagreements(same)
    shown = disagreed.head(_DISAGREEMENTS)
    names = [entry.name for entry in same]
    return {
        "messages": f"{len(first.table):,}",
        "spam": f"{first.spam.sum():,}",
        "data": first.data,
        "names": names,
        "metrics": list(comparison.METRICS),
        "intervals": [(entry.name, comparison.formatted_intervals(entry)) for entry in same],
        "differences": differences,
        "plots": _plots(same, number, folder),
        "slices": comparison.by_slice(same),
        "disagreed": len(disagreed),
        "disagreements": [
            {"text": text, "label": label, "scores": scores}
            for text, label, scores in zip(
                shown["text"], shown["label"], shown[names].to_numpy(), strict=True
            )
        ],
    }


def _plots(same: Sequence[Scored], number: int, folder: Path) -> list[tuple[str, str]]:
    """Write the overlaid curves into `folder` and return their names and PNG bytes as base64."""
    spam = same[0].spam.astype(int)
    if not spam.any() or spam.all():
        return []
    scores = {entry.name: entry.table["spam_probability"].to_numpy() for entry in same}
    target = folder / PLOTS_FOLDER
    target.mkdir(exist_ok=True)
    drawn = {
        "precision and recall": plots.precision_recall_overlay(spam, scores),
        "calibration": plots.calibration_overlay(spam, scores),
    }
    encoded = []
    for name, figure in drawn.items():
        file = target / f"{name.replace(' ', '_')}_{number}.png"
        figure.savefig(file)
        encoded.append((name, base64.b64encode(file.read_bytes()).decode()))
    return encoded
