"""Gate a version against the champion, then move the alias to it."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow import progress
from spam_mlflow.config.schema import PromoteSettings
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import tables
from spam_mlflow.gate import gate, gate_report
from spam_mlflow.gate.check import (
    Check,
    Compared,
    Holdout,
    as_dicts,
    as_markdown,
    as_text,
    failed_checks,
    passed_checks,
)
from spam_mlflow.registry import aliases, versions
from spam_mlflow.registry.versions import VALIDATION_TAG, Version
from spam_mlflow.storage import s3
from spam_mlflow.tracking import links, runs
from spam_mlflow.tracking.run_folder import REPORT_FILE, run_folder
from spam_mlflow.training.experiment import load_messages, split_messages

logger = logging.getLogger(__name__)


class RejectedError(UserError):
    """The gate's verdict that a version is not good enough."""


def run(settings: PromoteSettings, cfg: DictConfig) -> None:
    """Run the gate's checks of a version, record the results, and move the alias.

    Raises:
        RejectedError: If the version is rejected. The alias is unchanged then.
        UserError: If it cannot be checked at all, likewise.
    """
    runs.connect()
    s3.configure_mlflow(settings.storage)
    client = MlflowClient()
    candidate = versions.find_version(client, settings.version)
    champion = _champion(client, settings, candidate)
    with run_folder(settings.output_dir) as folder:
        messages = load_messages(settings, folder)
        holdout = Holdout(messages, split_messages(settings, messages))
        compared: list[Compared] = []
        checks = gate.run(
            candidate,
            champion,
            holdout,
            settings.gate,
            run_untrusted=settings.override is not None,
            on_scores=compared.append,
        )
        failed = failed_checks(checks)
        results = as_dicts(checks, holdout) | {
            "verdict": _status(failed, settings),
            "candidate": candidate.number,
            "champion": champion.number if champion else None,
            "override": settings.override,
        }
        if settings.json:
            print(tables.as_json(results))
        else:
            logger.info("%s", as_text(checks, sys.stderr))
        _write(results, checks, folder)
        with progress.step("Writing the report"):
            parameters = _parameters(client, [candidate, champion])
            found = compared[0] if compared else None
            gate_report.write(candidate, champion, checks, holdout, found, parameters, folder)
        if not settings.dry_run:
            _record(client, candidate, folder, _status(failed, settings))
    _say_where(settings, candidate, folder)
    if failed and not settings.override:
        raise RejectedError(_rejection(candidate, checks))
    _move(client, settings, candidate, champion, checks)


def _say_where(settings: PromoteSettings, candidate: Version, folder: Path) -> None:
    """Log where the report is, which a dry run keeps only in `output_dir`."""
    if settings.output_dir is not None:
        logger.info("Report: %s", folder / REPORT_FILE)
    if settings.dry_run:
        return
    if candidate.run_id:
        logger.info("The report is gate/%s of the version's run", REPORT_FILE)
    logger.info("View: %s", links.version_page(runs.REGISTERED_MODEL, candidate.number))


def _move(
    client: MlflowClient,
    settings: PromoteSettings,
    candidate: Version,
    champion: Version | None,
    checks: list[Check],
) -> None:
    """Move the alias to the candidate, or in a dry run only log that it would move."""
    alias, before = settings.alias, champion.number if champion else None
    names = alias, aliases.target_name(before), candidate.number
    if settings.dry_run:
        logger.info("dry run: %s would move from %s to version %s", *names)
        return
    reason = settings.override or f"passed {passed_checks(checks)} checks"
    aliases.move(client, alias, "promote", candidate.number, before, reason)
    logger.info("%s moved from %s to version %s", *names)


def _champion(
    client: MlflowClient, settings: PromoteSettings, candidate: Version
) -> Version | None:
    """Return the version that the alias points to, or None if it may and does point nowhere."""
    number = versions.find_alias(client, settings.alias)
    if number == candidate.number:
        raise UserError(f"version {number} is {settings.alias} already")
    if number is None and not settings.allow_no_champion:
        raise UserError(
            f"there is no {settings.alias} to compare version {candidate.number} with; "
            "allow_no_champion=true promotes without a comparison, rollback returns to an earlier "
            "version"
        )
    if number is not None and settings.allow_no_champion:
        raise UserError(
            f"allow_no_champion=true, but version {number} is {settings.alias}; leave it out to "
            "compare the two"
        )
    return versions.find_version(client, number) if number else None


def _status(failed: list[Check], settings: PromoteSettings) -> str:
    if not failed:
        return aliases.PASSED
    return aliases.OVERRIDDEN if settings.override else aliases.REJECTED


def _write(results: dict[str, object], checks: list[Check], folder: Path) -> None:
    (folder / "checks.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (folder / "checks.md").write_text(as_markdown(checks), encoding="utf-8")


def _record(client: MlflowClient, candidate: Version, folder: Path, status: str) -> None:
    """Log the results to the run that trained the candidate, and tag the version with them."""
    if candidate.run_id:
        for file in ("checks.json", "checks.md", REPORT_FILE):
            client.log_artifact(candidate.run_id, str(folder / file), "gate")
    client.set_model_version_tag(runs.REGISTERED_MODEL, candidate.number, VALIDATION_TAG, status)


def _parameters(
    client: MlflowClient, compared: Sequence[Version | None]
) -> dict[str, dict[str, str]]:
    """Return the parameters of each version's run, of those that have one."""
    return {
        gate_report.name(version): dict(client.get_run(version.run_id).data.params)
        for version in compared
        if version is not None and version.run_id
    }


def _rejection(candidate: Version, checks: list[Check]) -> str:
    failed = failed_checks(checks)
    reasons = "; ".join(f"{c.name} is {c.value}, not {c.bound}" for c in failed)
    return (
        f"version {candidate.number} is rejected, {len(failed)} of "
        f"{len(failed) + passed_checks(checks)} checks failed: {reasons}"
    )
