"""Checks of where a version comes from, and of the holdout that it is scored on."""

from collections.abc import Iterator

from spam_mlflow.config.schema import GateSettings
from spam_mlflow.gate.check import Check, Holdout, check
from spam_mlflow.registry.versions import Version
from spam_mlflow.scorer.labels import LABELS
from spam_mlflow.scorer.normalization import duplicate_key

SPLIT = "provenance: split.digest"
"""Check that a version was trained on the other parts of the holdout's split."""


def provenance_checks(
    candidate: Version, holdout: Holdout, settings: GateSettings
) -> Iterator[Check]:
    """Check where a version comes from, by its tags and those of its run.

    Args:
        candidate: The version to check.
        holdout: The messages that it is scored on.
        settings: Which commits and data are allowed.

    Yields:
        The results for commit, data and split.
    """
    tags = candidate.run_tags
    commit, dirty = tags.get("git.commit", "unknown"), tags.get("git.dirty", "unknown")
    clean = commit != "unknown" and dirty == "false"
    yield check(
        "provenance: commit",
        clean or not settings.clean_commit,
        f"{commit[:12]}, {'clean' if clean else 'changed or unknown'}",
        "clean" if settings.clean_commit else "any",
        "the model can be reproduced from its commit",
    )
    for name, expected, why in (
        ("data.digest", holdout.messages.digest, "trained on the data set of the holdout"),
        ("split.digest", holdout.split.digest, "the holdout was not trained on"),
    ):
        stated = candidate.stated(name)
        found = _shown(stated, expected)
        yield check(f"provenance: {name}", stated == {expected}, found, expected[:12], why)
    fallback = candidate.stated("data.fallback")
    yield check(
        "provenance: no fallback data",
        fallback == {"false"} or settings.allow_fallback,
        f"data.fallback={_shown(fallback, 'false')}",
        "any" if settings.allow_fallback else "false",
        "not trained on the synthetic sample in place of the real data",
    )
    leaky = candidate.stated("split.leaky")
    yield check(
        "provenance: leak-free split",
        leaky == {"false"},
        f"split.leaky={_shown(leaky, 'false')}",
        "false",
        "no copy of a holdout message was trained on",
    )


def _shown(stated: set[str], expected: str) -> str:
    """Return the values that are not the expected one, if there are any; of digests, the start."""
    return " and ".join(sorted(value[:12] for value in stated - {expected} or stated))


def data_checks(holdout: Holdout, settings: GateSettings) -> Iterator[Check]:
    """Check the holdout that a version is scored on.

    Args:
        holdout: The messages to check.
        settings: Bounds of the checks.

    Yields:
        The results for size, labels, spam rate, and separation from the other parts.
    """
    rows = len(holdout.frame)
    yield check(
        "data: holdout rows",
        rows >= settings.min_rows,
        rows,
        f">= {settings.min_rows}",
        "enough messages to compare models",
    )
    labels = sorted(holdout.frame["label"].unique())
    yield check(
        "data: labels", labels == sorted(LABELS), labels, str(sorted(LABELS)), "both labels occur"
    )
    low, high = settings.spam_rate
    rate = float(holdout.spam.mean())
    yield check(
        "data: spam rate", low <= rate <= high, rate, f"{low} to {high}", "the labels are plausible"
    )
    frame = holdout.split.frame
    keys = frame["text"].map(duplicate_key)
    crossing = int(
        sum((frame["part"].groupby(by).nunique() > 1).sum() for by in (keys, frame["group"]))
    )
    yield check(
        "data: separation", crossing == 0, crossing, "0", "texts and groups in more than one part"
    )
