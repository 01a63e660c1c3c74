"""A comparison of runs as one HTML file that needs no other, and its figures as PNG."""

import base64
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from spam_mlflow import comparison, figures
from spam_mlflow.comparison import Difference, Scored
from spam_mlflow.significance import BOOTSTRAPS

REPORT_FILE = "report.html"
_DISAGREEMENTS = 50  # that are shown
# Where a run finds things tells nothing of the model.
_UNSHOWN = ("data_dir", "data.files.", "output_dir", "storage.", "rows.", "overrides", "register")


def write(
    runs: Sequence[Run], scored: Sequence[Scored], problems: Mapping[str, str], folder: Path
) -> list[Difference]:
    """Write report.html and its figures into `folder` and return the differences it states.

    problems: why a run, by its id, could not be scored.
    """
    from jinja2 import Environment

    template = resources.files("spam_mlflow").joinpath("comparison_report.html").read_text("utf-8")
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
    """Return what the report is called: by its runs' names where they are few."""
    few = len(scored) <= 2
    return f"Comparison of {' and '.join(s.name for s in scored) if few else f'{len(scored)} runs'}"


def refusals(holdouts: Sequence[Sequence[Scored]]) -> list[str]:
    """Return why runs of different holdouts are not compared with each other."""
    return [
        comparison.refusal(others[0], same[0])
        for same, others in itertools.combinations(holdouts, 2)
    ]


def _run(run: Run, problem: str) -> dict[str, str]:
    seconds = run.data.metrics.get("fit_seconds")
    return {
        "id": run.info.run_id[:8],
        "name": str(run.info.run_name),
        "status": run.info.status.lower(),
        "data": run.data.tags.get("data.name", "unknown"),
        "seconds": "-" if seconds is None else f"{seconds:.1f}",
        "problem": problem,
    }


def _changed(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """Return the parameters that are not the same in all runs."""
    keys = sorted({key for entry in scored for key in entry.run.data.params})
    rows = [
        (key, [entry.run.data.params.get(key, "-") for entry in scored])
        for key in keys
        if not key.startswith(_UNSHOWN) and "_target_" not in key
    ]
    differing = [(key, values) for key, values in rows if len(set(values)) > 1]
    return {"names": [s.name for s in scored], "rows": differing} if differing else None


def _part(
    same: Sequence[Scored], differences: Sequence[Difference], number: int, folder: Path
) -> dict[str, Any]:
    first = same[0]
    disagreed = comparison.disagreements(same)
    shown = disagreed.head(_DISAGREEMENTS)
    names = [entry.name for entry in same]
    return {
        "messages": f"{len(first.table):,}",
        "spam": f"{first.spam.sum():,}",
        "digest": first.digest[:12],
        "names": names,
        "figures": list(comparison.FIGURES),
        "intervals": [(entry.name, comparison.shown_intervals(entry)) for entry in same],
        "differences": differences,
        "pictures": _pictures(same, number, folder),
        "slices": comparison.by_slice(same),
        "disagreed": len(disagreed),
        "disagreements": [
            {"text": text, "label": label, "scores": scores}
            for text, label, scores in zip(
                shown["text"], shown["label"], shown[names].to_numpy(), strict=True
            )
        ],
    }


def _pictures(same: Sequence[Scored], number: int, folder: Path) -> list[tuple[str, str]]:
    """Draw the overlaid curves into `folder` and return them by name, as base64."""
    spam = same[0].spam.astype(int)
    if not spam.any() or spam.all():
        return []
    scores = {entry.name: entry.table["spam_probability"].to_numpy() for entry in same}
    target = folder / "figures"
    target.mkdir(exist_ok=True)
    drawn = {
        "precision and recall": figures.precision_recall_overlay(spam, scores),
        "calibration": figures.calibration_overlay(spam, scores),
    }
    found = []
    for name, figure in drawn.items():
        file = target / f"{name.replace(' ', '_')}_{number}.png"
        figure.savefig(file)
        found.append((name, base64.b64encode(file.read_bytes()).decode()))
    return found
