"""The report of a gate: the verdict, every check, and the version beside the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from spam_mlflow.evaluation import explorer, report
from spam_mlflow.evaluation.explorer import ModelScores
from spam_mlflow.evaluation.report import Page, Table
from spam_mlflow.gate import provenance
from spam_mlflow.gate.check import Check, Compared, Holdout, failed_checks, ordered, summary
from spam_mlflow.registry.versions import Version

_FAMILIES = {
    "provenance": "Where the version comes from: tags of run and version, and digests over the "
    "files as they were downloaded, its code against the commit, and its split.csv.",
    "data": "Whether the holdout can judge at all: its size, both labels, the share of spam, and "
    "that no text or group is in two parts.",
    "metric": "Metrics on the holdout, at the version's own threshold, against floors and "
    "ceilings.",
    "champion": "Paired bootstrap over groups of near-duplicates, 95 %: the worse end of the "
    "interval counts. Churn is the share of messages that get another label.",
    "baseline": "F1 ahead of naive Bayes on counts of words, fitted on the other parts.",
    "slice": "Balanced accuracy on kinds of messages, where each class has enough of them.",
    "behavior": "CheckList (Ribeiro et al. 2020): plain examples get the right label, harmless "
    "changes keep it, and words of spam do not lower the score.",
    "modern": "Labels of today's messages, of templates that no version is trained on; only where "
    "the version was trained with data.extra=[modern].",
    "service": "MLflow's scoring server with the version: every documented payload, odd texts, and "
    "what must be refused.",
    "budget": "Latency and start as ratios of a no-op model's on the same machine; memory and size "
    "of the model.",
    "scores": "Made only where the version's files are those that were logged.",
}


def write(
    candidate: Version,
    champion: Version | None,
    checks: Sequence[Check],
    holdout: Holdout,
    compared: Compared | None,
    parameters: Mapping[str, Mapping[str, str]],
    folder: Path,
) -> None:
    """Write `report.html`.

    Args:
        candidate: The version that was checked.
        champion: The version that it was compared with; None if there is none.
        checks: The results.
        holdout: The messages.
        compared: Scores of candidate and champion; None if the candidate was not scored.
        parameters: Parameters of the runs of candidate and champion, by `name` of the version.
        folder: Folder for the file.
    """
    failed = failed_checks(checks)
    names = "; ".join(check.name for check in failed)
    verdict = f"Failed: {names}." if failed else "Every check that applies has passed."
    models = _models(candidate, champion, compared) if compared else []
    frame = holdout.frame
    differences = report.paired_differences(frame, *models) if len(models) == 2 else []
    data = f"{holdout.messages.name}, split {holdout.split.name}"
    changed: list[Table] = report.changed_parameters(list(parameters.items()))
    page = Page(
        title=f"Gate of {name(candidate)}",
        verdict=f"{verdict} ({summary(checks)})",
        mood="bad" if failed else "good",
        checks=[{**asdict(c), "family": c.name.partition(":")[0]} for c in ordered(checks)],
        families=list(_FAMILIES.items()),
        holdouts=[report.holdout(frame, models, data, differences)] if models else [],
        tables=changed,
        explored=report.explored_name([model.name for model in models], data),
    )
    explored = None
    if compared:
        explored = explorer.data(frame, models, compared.scorer, _training(checks, holdout))
    report.render(page, explored, folder)


def name(version: Version) -> str:
    """Return what the report calls a version, such as "version 3"."""
    return f"version {version.number}"


def _models(candidate: Version, champion: Version | None, compared: Compared) -> list[ModelScores]:
    found = [(candidate, compared.candidate), (champion, compared.champion)]
    return [
        ModelScores(name(version), scored.scores, scored.thresholds.chosen)
        for version, scored in found
        if version is not None and scored is not None
    ]


def _training(checks: Sequence[Check], holdout: Holdout) -> pd.DataFrame | None:
    """Return the messages that the candidate was trained on; None if its split is another."""
    if not any(c.name == provenance.SPLIT and c.verdict == "passed" for c in checks):
        return None
    return holdout.split.rows_without_test
