"""List runs, and report on chosen ones."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig

from spam_mlflow import comparison, comparison_report, s3, tables, tracking, wiring, workspace
from spam_mlflow.comparison import Difference, Scored
from spam_mlflow.errors import UserError
from spam_mlflow.settings import CompareSettings

logger = logging.getLogger(__name__)

_HEADER = ("run", "started (UTC)", "status", "name")


def run(cfg: DictConfig) -> None:
    """Print the table of runs, or report on those that `cfg` names."""
    settings = wiring.top_level(CompareSettings, cfg)
    tracking.connect()
    s3.configure_mlflow(s3.settings(cfg))
    client = MlflowClient()
    experiment = settings.experiment_name or tracking.experiment_name(client)
    found = comparison.find_runs(client, experiment, settings.filter)
    if not settings.runs:
        _print_table(found, settings)
        return
    chosen = [comparison.choose(found, wanted) for wanted in settings.runs]
    with workspace.folder(cfg.output_dir) as folder:
        scored, problems = _load(chosen)
        differences = comparison_report.write(chosen, scored, problems, folder)
        _print_report(scored, problems, differences)
        if settings.log:
            _log(scored, experiment, folder)
        if cfg.output_dir is not None:
            logger.info("Report: %s", folder / comparison_report.REPORT_FILE)


def _print_table(found: Sequence[Run], settings: CompareSettings) -> None:
    shown = comparison.ranked(found, settings.sort)[: settings.limit]
    rows = comparison.rows(shown, settings.columns)
    print(tables.markdown((*_HEADER, *settings.columns), rows))
    print(f"\n{len(shown)} of {len(found)} runs, by {settings.sort}")


def _load(chosen: Sequence[Run]) -> tuple[list[Scored], dict[str, str]]:
    """Return what the runs predicted, and why some have predicted nothing, by their id."""
    scored, problems = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for entry, name in zip(chosen, comparison.names(chosen), strict=True):
            try:
                scored.append(comparison.load(entry, name, Path(scratch)))
            except UserError as error:
                problems[entry.info.run_id] = str(error)
                logger.warning("Left out: %s", error)
    if not scored:
        raise UserError("none of the runs can be compared; choose others from the table")
    return scored, problems


def _print_report(
    scored: Sequence[Scored], problems: dict[str, str], differences: Sequence[Difference]
) -> None:
    holdouts = comparison.by_holdout(scored)
    for same in holdouts:
        print(f"{len(same[0].table):,} messages, digest {same[0].digest[:12]}\n")
        rows = [[entry.name, *comparison.shown_intervals(entry)] for entry in same]
        print(tables.markdown(("run", *comparison.FIGURES), rows), end="\n\n")
    if differences:
        rows = [
            [
                *(d.ours, d.theirs, d.figure),
                *(f"{d.value:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", d.verdict),
            ]
            for d in differences
        ]
        header = ("run", "minus", "figure", "difference", "95 % interval", "")
        print(tables.markdown(header, rows))
    for refusal in comparison_report.refusals(holdouts):
        print(f"\nRefused: {refusal}")


def _log(scored: Sequence[Scored], experiment: str, folder: Path) -> None:
    """Log the report to a run of its own, tagged with the runs that it compares."""
    ids = [entry.run.info.run_id for entry in scored]
    with tracking.run(experiment=experiment) as active:
        tracking.name_run(comparison_report.title(scored))
        mlflow.set_tags({"kind": "comparison", "compared": ", ".join(ids)})
        tracking.log_folder(folder)
        logger.info(
            "Run %s: the report is its artifact %s",
            active.info.run_id,
            comparison_report.REPORT_FILE,
        )
