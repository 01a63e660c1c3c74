"""Running the gate's checks, each of which has a named result."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
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
from spam_mlflow.gate.check import Check, Compared, Holdout, Scored, failed_checks
from spam_mlflow.gate.known_groups import KnownGroups
from spam_mlflow.gate.scoring_server import ScoringServer
from spam_mlflow.progress import Step
from spam_mlflow.registry import loading, model_logging
from spam_mlflow.registry.versions import Version
from spam_mlflow.scorer.pyfunc_model import TEXT

OnScores = Callable[[Compared], None]
"""Called with the scores of the candidate and, if there is one, of the champion."""


def run(
    candidate: Version,
    champion: Version | None,
    holdout: Holdout,
    settings: GateSettings,
    run_untrusted: bool = False,
    on_scores: OnScores = lambda compared: None,
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
        with _measured(model, holdout, known, folder, stage) as found:
            # Only the processes apart read files that are not those that were logged.
            on_scores(found.compared(champion_scores, trusted=not untrusted))
            families = {
                **_quality_checks(found, champion_scores, holdout, settings),
                **_service_checks(found, candidate, settings),
            }
            for name, results in families.items():
                stage.detail = name
                checks += results  # made here, since they are generators
        return checks


@dataclass(frozen=True)
class _Measured:
    """A version that is served, and what it answered.

    Attributes:
        model: Its files.
        server: The server that answers with it.
        baseline: The server of the no-op baseline.
        known: Messages of the data set that feedback was added to.
        scored: Its scores of the holdout and of `known`.
        fresh: Its scores of the holdout in a process of its own, shape (rows,), float64.
    """

    model: Path
    server: ScoringServer
    baseline: ScoringServer
    known: KnownGroups
    scored: Scored
    fresh: np.ndarray

    def compared(self, champion: Scored | None, trusted: bool) -> Compared:
        """Return the scores beside the champion's, with the scorer if the files are trusted."""
        return Compared(
            self.scored, champion, loading.linear_scorer(self.model) if trusted else None
        )


@contextlib.contextmanager
def _measured(
    model: Path, holdout: Holdout, known: KnownGroups, folder: Path, stage: Step
) -> Iterator[_Measured]:
    """Serve a version and the baseline, and yield what the version answers."""
    stage.detail = "start of the scoring servers"
    save_noop(folder / "noop")
    with (
        scoring_server.running(model, folder / "candidate.log") as server,
        scoring_server.running(folder / "noop", folder / "noop.log") as baseline,
    ):
        stage.detail = "scores of the version"
        scored = _scored(model, server, holdout, known)
        stage.detail = "scores in a fresh process"
        fresh = child_process.spam_probability(model, holdout.texts, folder / "fresh")
        yield _Measured(model, server, baseline, known, scored, fresh)


def _quality_checks(
    found: _Measured, champion: Scored | None, holdout: Holdout, settings: GateSettings
) -> dict[str, Iterable[Check]]:
    """Return the checks of the scores of holdout and known groups, by family."""
    scored, ask = found.scored, found.server.spam_probability
    return {
        "metrics": quality.metric_checks(scored, holdout, settings),
        "champion": quality.champion_checks(scored, champion, holdout, settings),
        "known groups": known_groups.checks(scored, champion, found.known, settings),
        "baseline": quality.baseline_checks(scored, holdout, settings),
        "slices": quality.slice_checks(scored, holdout, settings),
        "behavior": quality.behavior_checks(scored, ask, holdout, settings),
    }


def _service_checks(
    found: _Measured, candidate: Version, settings: GateSettings
) -> dict[str, Iterable[Check]]:
    """Return the checks of the server's answers and costs, by family."""
    extra, scored = candidate.run_tags.get("data.extra", ""), found.scored
    return {
        "service": service.service_checks(scored, found.server, found.fresh, settings),
        "modern": quality.modern_checks(extra, scored, found.server.spam_probability, settings),
        "budgets": budgets.budget_checks(found.server, found.baseline, found.model, settings),
    }


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
