"""Running the gate's checks, each of which has a named result."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd

from spam_mlflow import progress
from spam_mlflow.config.schema import GateSettings
from spam_mlflow.gate import (
    budgets,
    child_process,
    known_groups,
    provenance,
    quality,
    recomputed,
    scoring_server,
    service,
)
from spam_mlflow.gate.check import Check, Holdout, Scored, failed_checks
from spam_mlflow.gate.known_groups import KnownGroups
from spam_mlflow.gate.scoring_server import ScoringServer
from spam_mlflow.progress import Step
from spam_mlflow.registry import loading, model_logging
from spam_mlflow.registry.versions import Version
from spam_mlflow.scorer.pyfunc_model import TEXT

OnScores = Callable[[Scored, Scored | None], None]
"""Called with the scores of the candidate and, if there is one, of the champion."""


def run(
    candidate: Version,
    champion: Version | None,
    holdout: Holdout,
    settings: GateSettings,
    run_untrusted: bool = False,
    on_scores: OnScores = lambda candidate, champion: None,
) -> list[Check]:
    """Run every check of a version.

    Candidate and champion are scored now, through MLflow's scoring server, each with its own code
    and without the credentials of this process. If the candidate's files are not those that were
    logged, its code is not run at all. Its costs are compared with those of a further server with
    the no-op baseline.

    Args:
        candidate: The version to check.
        champion: The version to compare it with; None if there is none yet.
        holdout: The messages to score, which neither version was trained on.
        settings: Bounds of the checks.
        run_untrusted: Score the candidate even if its files are not those that were logged.
        on_scores: Called with the scores of candidate and champion, if they are scored at all.

    Returns:
        The result of each check.

    Raises:
        UserError: If a version cannot be loaded or served.
    """
    with (
        progress.step(f"Gate of version {candidate.number}") as stage,
        tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch,
    ):
        folder = Path(scratch)
        stage.detail = "files and provenance"
        model = loading.download(candidate.uri, folder / "candidate")
        checks = [
            *provenance.provenance_checks(candidate, holdout, settings),
            *recomputed.file_checks(candidate, model, holdout, settings),
            *recomputed.split_checks(candidate, model, holdout),
            *provenance.data_checks(holdout, settings),
        ]
        untrusted = [c.name for c in failed_checks(checks) if c.name in recomputed.UNTRUSTED]
        if untrusted and not run_untrusted:
            why = f"its code was not run, since it fails {untrusted[0]}; override=... runs it"
            return [*checks, Check("scores", "-", "-", "not applicable", why)]
        stage.detail = "scores of the champion"
        known = KnownGroups.of(holdout)
        champion_scores = _champion_scores(champion, holdout, known, folder) if champion else None
        extra = candidate.run_tags.get("data.extra", "")
        later = _score_checks(
            model, extra, champion_scores, holdout, known, settings, folder, stage, on_scores
        )
        return [*checks, *later]


def _score_checks(
    model: Path,
    extra: str,
    champion: Scored | None,
    holdout: Holdout,
    known: KnownGroups,
    settings: GateSettings,
    folder: Path,
    stage: Step,
    on_scores: OnScores,
) -> list[Check]:
    """Return the results of all checks that need the version's scores."""
    stage.detail = "start of the scoring servers"
    save_noop(folder / "noop")
    with (
        scoring_server.running(model, folder / "candidate.log") as server,
        scoring_server.running(folder / "noop", folder / "noop.log") as baseline,
    ):
        stage.detail = "scores of the version"
        scored = _scored(model, server, holdout, known)
        on_scores(scored, champion)
        stage.detail = "scores in a fresh process"
        fresh = child_process.spam_probability(model, holdout.texts, folder / "fresh")
        families = {
            "metrics": quality.metric_checks(scored, holdout, settings),
            "champion": quality.champion_checks(scored, champion, holdout, settings),
            "known groups": known_groups.checks(scored, champion, known, settings),
            "baseline": quality.baseline_checks(scored, holdout, settings),
            "slices": quality.slice_checks(scored, holdout, settings),
            "behavior": quality.behavior_checks(scored, server.spam_probability, holdout, settings),
            "service": service.service_checks(scored, server, fresh, settings),
            "modern": quality.modern_checks(extra, scored, server.spam_probability, settings),
            "budgets": budgets.budget_checks(server, baseline, model, settings),
        }
        checks: list[Check] = []
        for name, results in families.items():
            stage.detail = name
            checks += results  # made here, since they are generators
        return checks


def save_noop(folder: Path) -> None:
    """Write the no-op baseline to `folder`, in the form of a logged model."""
    with model_logging.quiet_mlflow():
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("noop_model.py")),
            signature=model_logging.signature(0.5),
            input_example=pd.DataFrame({TEXT: model_logging.EXAMPLES}),
            pip_requirements=model_logging.requirements(linear=True),
        )


def _champion_scores(
    champion: Version, holdout: Holdout, known: KnownGroups, folder: Path
) -> Scored:
    model = loading.download(champion.uri, folder / "champion")
    with scoring_server.running(model, folder / "champion.log") as server:
        return _scored(model, server, holdout, known)


def _scored(model: Path, server: ScoringServer, holdout: Holdout, known: KnownGroups) -> Scored:
    return Scored(
        loading.thresholds(model),
        server.spam_probability(holdout.texts),
        server.spam_probability(known.texts),
    )
