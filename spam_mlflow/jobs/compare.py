"""List runs, and report on chosen ones."""

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig

from spam_mlflow import progress
from spam_mlflow.config.compose import compose
from spam_mlflow.config.schema import CompareSettings
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import comparison, report, run_data, tables
from spam_mlflow.evaluation.comparison import Difference, Scored
from spam_mlflow.registry import loading
from spam_mlflow.scorer.scorers import Scorer
from spam_mlflow.storage import s3
from spam_mlflow.tracking import links, run_logging, run_metrics, run_names, runs
from spam_mlflow.tracking.run_folder import REPORT_FILE, run_folder

logger = logging.getLogger(__name__)


def run(settings: CompareSettings, cfg: DictConfig) -> None:
    """Print the table of runs, or a report on those that the settings name.

    Raises:
        UserError: If a run does not exist, or if none of the runs has predictions to compare.
    """
    runs.connect()
    s3.configure_mlflow(settings.storage)
    client = MlflowClient()
    experiment = settings.experiment_name or runs.experiment_name(client)
    found = comparison.find_runs(client, experiment, settings.filter)
    if not settings.runs:
        _print_table(found, settings)
        return
    chosen = [comparison.choose(found, wanted) for wanted in settings.runs]
    with run_folder(settings.output_dir) as folder:
        scored, problems = _load(chosen)
        with progress.step("Writing the report"):
            differences = report.write(chosen, scored, problems, folder, _scorer)
        if settings.json:
            print(tables.as_json(_as_data(scored, problems, differences)))
        else:
            _print_report(scored, differences)
        if settings.log:
            _log(scored, experiment, folder)
        if settings.output_dir is not None:
            logger.info("Report: %s", folder / REPORT_FILE)


def _print_table(found: Sequence[Run], settings: CompareSettings) -> None:
    columns = list(dict.fromkeys([*settings.columns, settings.sort]))  # each once
    _add_details(found, columns)
    _require_metrics(found, settings)
    shown = comparison.ranked(found, settings.sort)[: settings.limit]
    groups = run_data.by_data(shown, found)
    if settings.json:
        runs_shown = [
            {"data": data, **comparison.as_record(entry, columns)}
            for data, same in groups.items()
            for entry in same
        ]
        print(tables.as_json({"sort": settings.sort, "found": len(found), "runs": runs_shown}))
        return
    header = comparison.table_header(columns)
    for data, same in groups.items():
        rows = comparison.table_rows(same, columns)
        print(f"{data}\n\n{tables.terminal(header, rows, sys.stdout)}\n")
    order = ", the lowest first" if comparison.lower_is_better(settings.sort) else ""
    apart = "; metrics in different tables are of different messages, and cannot be compared"
    print(
        f"{len(shown)} of {len(found)} runs, by {settings.sort}{order}"
        f"{apart if len(groups) > 1 else ''}"
    )


def _add_details(found: Sequence[Run], names: Sequence[str]) -> None:
    """Add the metrics that only the runs' tables have to them, where one is asked for."""
    wanted = {name for name in names if run_metrics.is_detail(name)}
    lacking = [run for run in found if not wanted <= set(run.data.metrics)] if wanted else []
    with tempfile.TemporaryDirectory() as scratch:
        for run in progress.track(lacking, "Downloading tables of metrics", len(lacking)):
            run.data.metrics.update(run_metrics.read(run, Path(scratch, run.info.run_id)))


def _require_metrics(found: Sequence[Run], settings: CompareSettings) -> None:
    """Refuse metrics that no run has, unless they are those that are shown by default."""
    defaults = compose("compare", [])
    if settings.sort != defaults.sort:
        comparison.require_metrics(found, "sort", [settings.sort])
    columns = [name for name in settings.columns if name not in defaults.columns]
    comparison.require_metrics(found, "columns", columns)


def _load(chosen: Sequence[Run]) -> tuple[list[Scored], dict[str, str]]:
    """Return the runs' predictions, and by its ID why a run has none."""
    scored, problems = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        named = zip(chosen, comparison.unique_names(chosen), strict=True)
        for entry, name in progress.track(named, "Downloading predictions", len(chosen)):
            try:
                scored.append(comparison.load(entry, name, Path(scratch)))
            except UserError as error:
                problems[entry.info.run_id] = str(error)
                logger.warning("Left out: %s", error)
    if not scored:
        raise UserError("none of the runs can be compared; choose others from the table")
    return scored, problems


def _scorer(entry: Run) -> Scorer | None:
    """Return the scorer of the model that a run logged or scored, None where it cannot be read."""
    tags, logged = entry.data.tags, f"runs:/{entry.info.run_id}/model"
    try:
        with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
            model = loading.download(tags.get(run_logging.MODEL_TAG, logged), Path(scratch))
            return loading.linear_scorer(model)
    except UserError as error:
        logger.info("The report colors no words: %s", error)
        return None


def _print_report(scored: Sequence[Scored], differences: Sequence[Difference]) -> None:
    holdouts = comparison.by_holdout(scored)
    for same in holdouts:
        print(f"{len(same[0].table):,} messages: {same[0].data}\n")
        rows = [
            [entry.name, metric, *comparison.formatted_interval(interval)]
            for entry in same
            for metric, interval in zip(comparison.METRICS, entry.intervals, strict=True)
        ]
        of_runs = ("run", "metric", "value", "95 % interval")
        print(tables.terminal(of_runs, rows, sys.stdout), end="\n\n")
    if differences:
        rows = [
            [
                f"{d.ours}\nminus {d.theirs}",
                d.metric,
                f"{d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f})\n{d.verdict}",
            ]
            for d in differences
        ]
        header = ("runs", "metric", "difference, 95 % interval")
        print(tables.terminal(header, rows, sys.stdout))
    for refusal in report.refusals(holdouts):
        print(f"\nRefused: {refusal}")


def _as_data(
    scored: Sequence[Scored], problems: dict[str, str], differences: Sequence[Difference]
) -> dict[str, Any]:
    """Return what `_print_report` prints, and the runs that were left out with the reasons."""
    holdouts = comparison.by_holdout(scored)
    return {
        "holdouts": [
            {
                "data": same[0].data,
                "messages": len(same[0].table),
                "runs": [
                    {
                        "run_id": entry.run.info.run_id,
                        "name": entry.name,
                        "trained_on": entry.trained_on,
                        "metrics": {
                            metric: dict(zip(("value", "low", "high"), interval, strict=True))
                            for metric, interval in zip(
                                comparison.METRICS, entry.intervals, strict=True
                            )
                        },
                    }
                    for entry in same
                ],
            }
            for same in holdouts
        ],
        "differences": [{**asdict(d), "verdict": d.verdict} for d in differences],
        "refused": report.refusals(holdouts),
        "left_out": problems,
    }


def _log(scored: Sequence[Scored], experiment: str, folder: Path) -> None:
    """Log the report to a run of its own, which is tagged with the compared runs."""
    ids = [entry.run.info.run_id for entry in scored]
    with runs.run(experiment=experiment) as active:
        run_names.name_run(report.title(scored))
        mlflow.set_tags({"kind": "comparison", "compared": ", ".join(ids)})
        run_logging.log_folder(folder)
        logger.info("View: %s", links.run_page(active.info.run_id))
        logger.info(
            "Run %s: the report is its artifact %s",
            active.info.run_id,
            REPORT_FILE,
        )
