"""Compare what a version scores with what it was trained for."""

import calendar
import logging
import sys
import time

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric
from omegaconf import DictConfig

from spam_mlflow.config.compose import flatten
from spam_mlflow.config.schema import DriftSettings
from spam_mlflow.drift import comparison, references, report, windows
from spam_mlflow.drift.comparison import Finding
from spam_mlflow.drift.reference import FILE, Reference
from spam_mlflow.drift.references import DRIFT_TAG
from spam_mlflow.drift.windows import Windows
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import tables
from spam_mlflow.inference_store import store as stores
from spam_mlflow.inference_store.records import DAY_SECONDS, timestamp
from spam_mlflow.registry import versions
from spam_mlflow.storage import s3
from spam_mlflow.tracking import links, run_logging, run_names, runs
from spam_mlflow.tracking.run_folder import run_folder

logger = logging.getLogger(__name__)

ALARM = 3
"""Exit status."""


def run(settings: DriftSettings, cfg: DictConfig) -> None:
    """Compare, log a report and metrics by day to a run, and say what was found.

    Raises:
        UserError: If the version has no reference, or the store cannot be read.
        SystemExit: With ALARM.
    """
    runs.connect()
    s3.configure_mlflow(settings.storage)
    client = MlflowClient()
    reference = versions.resolve(client, settings.model_uri)
    known = _reference(client, reference)
    now = time.time()
    # The window ends now, and so begins on the day before its own number of days.
    count = max(settings.history, settings.window + 1)
    days = [timestamp(now - n * DAY_SECONDS)[:10] for n in range(count)]
    since = timestamp(now - settings.window * DAY_SECONDS)
    store = stores.opened(settings.store)
    try:
        found = windows.read(store, str(reference.version), days, since)
    finally:
        store.close()
    findings = comparison.findings(found.window, known)
    said = report.verdict(findings, len(found.window.logits))
    with runs.run(settings.storage) as active, run_folder(settings.output_dir) as folder:
        run_logging.log_parameters(flatten(cfg))
        title = f"Drift of version {reference.version}, {days[0]}"
        run_names.name_run(title)
        _log(client, active.info.run_id, found, known)
        period = f"{_minute(since)} to {_minute(timestamp(now))} UTC"
        run_logging.log_file(report.write(title, found, known, findings, period, folder))
        mlflow.set_tag(DRIFT_TAG, said)
        if findings:
            logger.info("%s", _table(findings))
        logger.info("View: %s", links.run_page(active.info.run_id))
        logger.info(
            "Run %s: %s; its report is its artifact %s", active.info.run_id, said, report.FILE
        )
    tagged = f"{said} ({days[0]})"
    client.set_model_version_tag(
        str(reference.name), str(reference.version), DRIFT_TAG, tagged[: runs.TAG_LIMIT]
    )
    if any(finding.alarm for finding in findings):
        raise SystemExit(ALARM)


def _reference(client: MlflowClient, reference: versions.Reference) -> Reference:
    """Return what the version's messages are compared with.

    Raises:
        UserError: If there is nothing.
    """
    if reference.version is None:
        raise UserError(f"model_uri={reference.uri} must name a registered version")
    version = client.get_model_version(str(reference.name), reference.version)
    found = references.of_run(client, version.run_id)
    if found is None:
        raise UserError(
            f"version {reference.version} has no reference to compare with: its run has no "
            f"{FILE}; train it again"
        )
    return found


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def _log(client: MlflowClient, run_id: str, found: Windows, known: Reference) -> None:
    """Log the metrics of each day, with the day's own time."""
    logged = []
    for step, (day, sample) in enumerate(found.by_day.items()):
        at = calendar.timegm(time.strptime(day, "%Y-%m-%d")) * 1000
        values = comparison.metrics(sample, known)
        logged += [Metric(f"drift_{name}", value, at, step) for name, value in values.items()]
    client.log_batch(run_id, metrics=logged)


def _table(findings: list[Finding]) -> str:
    rows = [
        (f.name, f.value, f.reference, f"{f.p:.2g}", "yes" if f.alarm else "no") for f in findings
    ]
    return tables.terminal(("compared", "window", "reference", "p", "alarm"), rows, sys.stderr)
