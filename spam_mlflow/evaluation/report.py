"""The report of a run, of a comparison or of a gate, as one self-contained HTML file."""

import base64
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from mlflow.entities import Run

from spam_mlflow.evaluation import bootstrap, comparison, explorer, plots, run_data
from spam_mlflow.evaluation.bootstrap import BOOTSTRAPS
from spam_mlflow.evaluation.comparison import METRICS, Difference, Scored
from spam_mlflow.evaluation.explorer import ModelScores
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.scorer.scorers import Scorer
from spam_mlflow.tracking import page_style
from spam_mlflow.tracking.run_folder import PLOTS_FOLDER, REPORT_FILE

_DISAGREEMENTS = 50  # that are shown
# Parameters that say nothing about the model, such as the paths of a run.
_HIDDEN = ("data_dir", "data.files.", "output_dir", "storage.", "rows.", "overrides", "register")
_TWICE = ("epochs", "model", "data")  # parameters of `mlflow run` that are there in full as well

Interval = tuple[float, float, float]
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Heading, header and rows of a table."""


@dataclass(frozen=True)
class Page:
    """What a report shows, from top to bottom.

    Attributes:
        title: The title.
        verdict: What it says, in one or two sentences.
        mood: Whether that is good or bad; "" where it is neither.
        refusals: What was not compared, and why.
        checks: The gate's checks: `name`, `verdict`, `value`, `bound` and `why` of each, in order.
        families: Name of each family of checks, and how it measures.
        runs: Rows of the table of runs.
        holdouts: Metrics of models that were scored on the same messages, as `_part` returns them.
        tables: What else is shown.
        explored: Which models and data the threshold slider and the messages are of.
        unexplored: Which runs they are not of, and why; "" if they are of all.
    """

    title: str
    verdict: str
    mood: Literal["good", "bad", ""] = ""
    refusals: Sequence[str] = ()
    checks: Sequence[Mapping[str, str]] = ()
    families: Sequence[tuple[str, str]] = ()
    runs: Sequence[Mapping[str, str]] = ()
    holdouts: Sequence[Mapping[str, Any]] = ()
    tables: Sequence[Table] = ()
    explored: str = ""
    unexplored: str = ""


def render(page: Page, explored: Mapping[str, Any] | None, folder: Path) -> None:
    """Write `report.html` into `folder`.

    Args:
        page: What it shows.
        explored: Messages and scores for the threshold slider, as `explorer.data` returns them;
            None: there is no slider.
        folder: Folder for the file.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    files = resources.files("spam_mlflow.evaluation")
    script, template = (
        files.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("js", "html")
    )
    text = (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(template)
        .render(
            page=page,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            bootstraps=BOOTSTRAPS,
            style=page_style.css(),
            script=Markup(script),
            # JSON in which no "<" is left, so that it cannot end its element.
            explorer=Markup(explorer.as_script(dict(explored))) if explored else "",
            colored=_colored(explored) if explored else "",
        )
    )
    (folder / REPORT_FILE).write_text(text, encoding="utf-8")


def _colored(explored: Mapping[str, Any]) -> str:
    """Return the model by which words are colored; "" where none are."""
    return str(explored["models"][0]["name"]) if any(explored["words"].values()) else ""


def write(
    runs: Sequence[Run],
    scored: Sequence[Scored],
    problems: Mapping[str, str],
    folder: Path,
    scorer_of: Callable[[Run], Scorer | None] = lambda run: None,
) -> list[Difference]:
    """Write the report of a comparison, and its plots.

    Args:
        runs: All runs that the user chose.
        scored: Those that have predictions.
        problems: Why the other runs have none, by their ids.
        folder: Folder for the files.
        scorer_of: Returns the scorer of a run's model, as for `explorer.data`; called for the run
            whose errors come first.

    Returns:
        The differences between the runs that the report shows.
    """
    holdouts = comparison.by_holdout(scored)
    differences = [comparison.differences(same) for same in holdouts]
    parts = [
        _part(same, found, number, folder)
        for number, (same, found) in enumerate(zip(holdouts, differences, strict=True), start=1)
    ]
    everything = list(itertools.chain(*differences))
    largest = max(holdouts, key=len)
    page = Page(
        title=title(scored),
        verdict=_verdict(everything),
        refusals=refusals(holdouts),
        runs=[_run(run, problems.get(run.info.run_id, "")) for run in runs],
        holdouts=parts,
        tables=_changed(scored),
        explored=explored_name([entry.name for entry in largest], largest[0].data),
        unexplored=_unexplored([s.name for s in scored if s.digest != largest[0].digest]),
    )
    models = [model_scores(entry) for entry in largest]
    explored = explorer.data(largest[0].table, models, scorer_of(largest[0].run))
    render(page, explored, folder)
    return everything


def explored_name(names: Sequence[str], data: str) -> str:
    """Return which models and data the threshold slider is of.

    Args:
        names: Names of the models.
        data: The data in a few words.
    """
    return f"{' and '.join(names) if len(names) <= 2 else f'{len(names)} runs'}: {data}"


def _unexplored(names: Sequence[str]) -> str:
    if not names:
        return ""
    verb = "was" if len(names) == 1 else "were"
    return (
        f"{', '.join(names)} {verb} scored on other messages, which are not here; a comparison of "
        "runs on those messages alone shows them."
    )


def _verdict(differences: Sequence[Difference]) -> str:
    if not differences:
        return "There is no pair of runs whose metrics can be compared."
    found = [d for d in differences if d.significant]
    if not found:
        return "No difference between these runs is significant."
    return " ".join(
        f"{d.metric} of {d.ours} is {d.verdict} than that of {d.theirs}." for d in found
    )


def model_scores(scored: Scored) -> ModelScores:
    """Return a run's scores and its threshold.

    The threshold of runs that have not recorded it is estimated: it is the middle between the
    highest score labeled ham and the lowest labeled spam.
    """
    scores = scored.scores
    recorded = run_data.threshold(scored.run)
    if recorded is not None:
        return ModelScores(scored.name, scores, recorded)
    above, below = scores[scored.predicted], scores[~scored.predicted]
    lowest = float(above.min()) if len(above) else 1.0
    highest = float(below.max()) if len(below) else 0.0
    return ModelScores(scored.name, scores, (lowest + highest) / 2, estimated=True)


def holdout(
    frame: pd.DataFrame, models: Sequence[ModelScores], data: str, differences: Sequence[Difference]
) -> dict[str, Any]:
    """Return what a page shows of models that were scored on the same messages.

    Args:
        frame: The messages, with columns `text`, `label`, `source` and `group`.
        models: The models.
        data: The data in a few words.
        differences: Differences between the models.
    """
    spam = is_spam(frame["label"])
    predictions = [m.scores >= m.threshold for m in models]
    counts = bootstrap.resampled(frame["group"].to_numpy(), spam, *predictions)
    intervals = [
        [bootstrap.interval(metric, of_model) for metric in METRICS.values()] for of_model in counts
    ]
    names = [m.name for m in models]
    return {
        "messages": f"{len(frame):,}",
        "spam": f"{spam.sum():,}",
        "data": data,
        "names": names,
        "dots": _dots(names, intervals),
        "differences": differences,
        "plots": [],
        "slices": comparison.slice_accuracy(frame, dict(zip(names, predictions, strict=True))),
        **_disagreements(frame, predictions, [m.scores for m in models]),
    }


def paired_differences(
    frame: pd.DataFrame, ours: ModelScores, theirs: ModelScores
) -> list[Difference]:
    """Return the differences in F1 and ham false-positive rate between two models.

    Args:
        frame: The messages that both were scored on, with columns `label` and `group`.
        ours: The first model.
        theirs: The second one, whose metrics are subtracted.
    """
    groups, spam = frame["group"].to_numpy(), is_spam(frame["label"])
    first, second = (m.scores >= m.threshold for m in (ours, theirs))
    return [
        Difference(
            ours.name,
            theirs.name,
            name,
            *bootstrap.paired_difference(METRICS[name], groups, spam, first, second),
        )
        for name in ("F1", "ham FPR")
    ]


def write_run(
    frame: pd.DataFrame,
    model: ModelScores,
    data: str,
    tables: Sequence[Table],
    folder: Path,
    scorer: Scorer | None,
    training: pd.DataFrame,
) -> None:
    """Write the report of a training.

    Args:
        frame: The test part.
        model: Its scores.
        data: The data in a few words.
        tables: Figures of data and split.
        folder: The run's folder.
        scorer: As for `explorer.data`.
        training: The messages that the model was trained on.
    """
    part = holdout(frame, [model], data, [])
    f1, ham_fpr = (
        next(rows[0]["text"] for name, _, _, rows in part["dots"] if name == metric)
        for metric in ("F1", "ham FPR")
    )
    verdict = (
        f"F1 {f1}, ham FPR {ham_fpr} on the test part. The gate has not judged this model yet; the "
        "command promote runs it."
    )
    page = Page(
        title=model.name,
        verdict=verdict,
        holdouts=[part],
        tables=tables,
        explored=explored_name([model.name], data),
    )
    render(page, explorer.data(frame, [model], scorer, training), folder)


def _dots(
    names: Sequence[str], intervals: Sequence[Sequence[Interval]]
) -> list[tuple[str, float, float, list[dict[str, Any]]]]:
    """Return for each metric its name, the ends of its axis, and the rows of the dot plot."""
    plotted = []
    for number, metric in enumerate(METRICS):
        found = [of_model[number] for of_model in intervals]
        finite = [value for values in found for value in values if np.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        pad = 0.1 * (high - low) or 0.01
        low, high = max(low - pad, -1.0 if low < 0 else 0.0), min(high + pad, 1.0)
        rows = [_dot(name, values, low, high) for name, values in zip(names, found, strict=True)]
        plotted.append((metric, low, high, rows))
    return plotted


def _dot(name: str, interval: Interval, low: float, high: float) -> dict[str, Any]:
    value, bounds = comparison.formatted_interval(interval)
    text = value if bounds == "-" else f"{value} ({bounds})"
    width = (high - low) or 1.0
    at, left, right = (
        100 * (float(np.nan_to_num(edge, nan=low)) - low) / width for edge in interval
    )
    return {
        "name": name,
        "text": text,
        "at": round(at, 2),
        "left": round(left, 2),
        "width": round(max(right - left, 0), 2),
    }


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


def _changed(scored: Sequence[Scored]) -> list[Table]:
    return changed_parameters([(entry.name, entry.run.data.params) for entry in scored])


def changed_parameters(runs: Sequence[tuple[str, Mapping[str, str]]]) -> list[Table]:
    """Return the table of the parameters that differ between runs, if there are any.

    Args:
        runs: Name and parameters of each run.
    """
    keys = sorted({key for _, parameters in runs for key in parameters})
    rows = [
        (key, *(parameters.get(key, "-") for _, parameters in runs))
        for key in keys
        if not key.startswith(_HIDDEN) and "_target_" not in key and key not in _TWICE
    ]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    header = ("parameter", *(name for name, _ in runs))
    return [("Parameters that differ", header, differing)] if differing else []


def _part(
    same: Sequence[Scored], differences: Sequence[Difference], number: int, folder: Path
) -> dict[str, Any]:
    """Return what the report shows of the runs with one holdout."""
    first = same[0]
    names = [entry.name for entry in same]
    return {
        "messages": f"{len(first.table):,}",
        "spam": f"{first.spam.sum():,}",
        "data": first.data,
        "names": names,
        "dots": _dots(names, [entry.intervals for entry in same]),
        "differences": differences,
        "plots": _plots(same, number, folder),
        "slices": comparison.by_slice(same),
        **_disagreements(
            first.table,
            [entry.predicted for entry in same],
            [entry.scores for entry in same],
        ),
    }


def _disagreements(
    frame: pd.DataFrame, predicted: Sequence[np.ndarray], scores: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return how many messages models label differently, and those that are shown.

    Args:
        frame: The messages, with columns `text` and `label`.
        predicted: As for `comparison.disagreements`.
        scores: Likewise.
    """
    rows = comparison.disagreements(predicted, scores)
    texts, labels = frame["text"].to_numpy(), frame["label"].to_numpy()
    return {
        "disagreed": f"{len(rows):,}",
        "disagreements": [
            {"text": texts[row], "label": labels[row], "scores": [of[row] for of in scores]}
            for row in rows[:_DISAGREEMENTS]
        ],
        "left_out": len(rows) > _DISAGREEMENTS,
    }


def _plots(same: Sequence[Scored], number: int, folder: Path) -> list[tuple[str, str]]:
    """Write the overlaid curves into `folder` and return their names and PNG bytes as base64."""
    spam = same[0].spam.astype(int)
    if not spam.any() or spam.all():
        return []
    scores = {entry.name: entry.scores for entry in same}
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
