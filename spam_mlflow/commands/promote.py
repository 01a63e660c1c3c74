"""Gate a version against the champion, then move the alias to it."""

import json
import logging
from pathlib import Path

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow import gate, promotion, registry, s3, tracking, wiring, workspace
from spam_mlflow.errors import UserError
from spam_mlflow.gate import Check, GateSettings
from spam_mlflow.registry import VALIDATION_TAG, Version
from spam_mlflow.settings import PromoteSettings

logger = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Run the gate that `cfg` describes; raises UserError where the version is rejected."""
    tracking.connect()
    s3.configure_mlflow(s3.settings(cfg))
    client = MlflowClient()
    bounds = wiring.settings(GateSettings, cfg.gate, "gate.")
    job = wiring.top_level(PromoteSettings, cfg)
    candidate = registry.find_version(client, str(cfg.version))
    champion = _champion(client, job, candidate)
    reigning = champion.number if champion else None

    messages = wiring.build(cfg.data).load()
    held = gate.holdout(messages, wiring.build(cfg.split).split(messages))
    checks = gate.run(candidate, champion, held, bounds)
    failed = gate.failed(checks)
    table = gate.as_table(checks)
    logger.info("%s", table)
    with workspace.folder(cfg.output_dir) as folder:
        results = gate.as_dicts(checks, held) | {
            "candidate": candidate.number,
            "champion": reigning,
            "override": job.override,
        }
        (folder / "checks.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        (folder / "checks.md").write_text(table + "\n", encoding="utf-8")
        if not job.dry_run:
            _record(client, candidate, folder, _status(failed, job))
    if failed and not job.override:
        raise UserError(_rejection(candidate, failed, len(checks)))
    before = promotion.shown(reigning)
    if job.dry_run:
        logger.info(
            "dry run: %s would move from %s to version %s", job.to, before, candidate.number
        )
        return
    reason = job.override or f"passed {len(checks)} checks"
    promotion.move(client, job.to, "promote", candidate.number, reigning, reason)
    logger.info("%s moved from %s to version %s", job.to, before, candidate.number)


def _champion(client: MlflowClient, job: PromoteSettings, candidate: Version) -> Version | None:
    """Return the version that the alias points to, None for a first promotion that is said so."""
    number = registry.find_alias(client, job.to)
    if number == candidate.number:
        raise UserError(f"version {number} is {job.to} already")
    if number is None and not job.first:
        raise UserError(
            f"there is no {job.to} to compare version {candidate.number} with; "
            "first=true promotes without a comparison, rollback returns to an earlier version"
        )
    if number is not None and job.first:
        raise UserError(
            f"first=true, but version {number} is {job.to}; leave it out to compare the two"
        )
    return registry.find_version(client, number) if number else None


def _status(failed: list[Check], job: PromoteSettings) -> str:
    if not failed:
        return promotion.PASSED
    return promotion.OVERRIDDEN if job.override else promotion.REJECTED


def _record(client: MlflowClient, candidate: Version, folder: Path, status: str) -> None:
    """Log the results to the run that trained the candidate, and tag the version with them."""
    if candidate.run_id:
        for file in ("checks.json", "checks.md"):
            client.log_artifact(candidate.run_id, str(folder / file), "gate")
    client.set_model_version_tag(
        tracking.REGISTERED_MODEL, candidate.number, VALIDATION_TAG, status
    )


def _rejection(candidate: Version, failed: list[Check], total: int) -> str:
    reasons = "; ".join(f"{c.name} is {c.value}, not {c.bound}" for c in failed)
    return (
        f"version {candidate.number} is rejected, {len(failed)} of {total} checks failed: {reasons}"
    )
