"""Checks of where a version comes from that are computed anew from its files and its run's.

Tags can be copied from another version. A digest over the files, the code at the commit, and the
rows of the split cannot, unless all of them are made up together.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

from spam_mlflow.config.schema import GateSettings
from spam_mlflow.data.messages import row_digest
from spam_mlflow.evaluation import artifacts
from spam_mlflow.gate.check import Check, Holdout, check
from spam_mlflow.registry import loading, model_files, training_messages
from spam_mlflow.registry.model_files import DIGEST_TAG, UNDIGESTED
from spam_mlflow.registry.model_logging import SHARED_NAME
from spam_mlflow.registry.versions import Version
from spam_mlflow.tracking import lineage
from spam_mlflow.tracking.run_folder import SPLIT_FILE

FILES, PACKAGE, CODE = "provenance: files", "provenance: package", "provenance: code"

UNTRUSTED = (FILES, PACKAGE, CODE)
"""Checks without which a version's code is not run."""

_SCORER = "spam_mlflow/scorer"
_SHOWN = 3  # names of files that a result repeats


def file_checks(
    candidate: Version, model: Path, holdout: Holdout, settings: GateSettings
) -> Iterator[Check]:
    """Check a version's files against what was recorded when they were logged.

    Args:
        candidate: The version to check.
        model: Folder with its files, as `loading.download` returns it.
        holdout: The messages that it is scored on.
        settings: Whether versions without a recorded digest are allowed.

    Yields:
        The results for all files, the name of the package, its code, and the training data.
    """
    yield _files(candidate, model, settings)
    yield _package(model)
    yield _code(candidate, model)
    found = loading.data_digest(model)
    yield check(
        "provenance: model's data",
        found == holdout.messages.digest,
        found[:12],
        holdout.messages.digest[:12],
        "the digest in the model's own metadata is that of the holdout's data set",
    )


def _files(candidate: Version, model: Path, settings: GateSettings) -> Check:
    recorded, found = candidate.stated(DIGEST_TAG), model_files.digest(model)
    known_from_before = model_files.package(model) in UNDIGESTED
    if recorded == {"unknown"} and known_from_before and settings.allow_undigested:
        why = f"logged before {DIGEST_TAG} was recorded; gate.allow_undigested=false refuses it"
        return Check(FILES, found[:12], "-", "not applicable", why)
    return check(
        FILES,
        recorded == {found},
        found[:12],
        " and ".join(sorted(value[:12] for value in recorded)),
        f"SHA-256 over all files of the model, against the tag {DIGEST_TAG} of run and version",
        f"SHA-256 {found} over path and content of the files that were downloaded",
    )


def _package(model: Path) -> Check:
    name = model_files.package(model)
    if name == SHARED_NAME:
        why = "logged before packages were named by their content"
        return Check(PACKAGE, name, "-", "not applicable", why)
    return check(
        PACKAGE,
        model_files.is_self_consistent(model),
        name.removeprefix("spam_scorer_"),
        "of its content",
        "the model's package is named by its content, and its entry file only loads it",
        f"{name} against the SHA-256 over the package's files; the entry file byte for byte",
    )


def _code(candidate: Version, model: Path) -> Check:
    """Compare the model's code with the commit that its run names."""
    tags = candidate.run_tags
    commit, dirty = tags.get("git.commit", "unknown"), tags.get("git.dirty", "unknown")
    folder = SHARED_NAME if model_files.package(model) == SHARED_NAME else _SCORER
    at_commit = lineage.files_at(commit, folder)
    if at_commit is None:
        why = f"this checkout does not have commit {commit[:12]} with {folder}; fetch it to compare"
        return Check(CODE, "-", "-", "not applicable", why)
    code = _compared(model, folder)
    differing = sorted(name for name, content in code.items() if at_commit.get(name) != content)
    if folder == _SCORER:
        differing += sorted(set(at_commit) - set(code))
    if differing and dirty == "true":
        why = "it was trained from uncommitted changes"
        return Check(CODE, "-", "-", "not applicable", why)
    return check(
        CODE,
        not differing,
        f"{', '.join(differing[:_SHOWN])} differ" if differing else "equal",
        f"commit {commit[:12]}",
        "the model's code is that of its commit",
        f"{len(code)} files byte for byte against {folder} in commit {commit} of this checkout",
    )


def _compared(model: Path, folder: str) -> dict[str, bytes]:
    """Return the files of a model that must be in `folder` of its commit."""
    code = model_files.code(model)
    if folder == _SCORER:
        return code
    # The entry file of before is a module of the project, and the code a choice of its modules.
    return {**code, **{file.name: file.read_bytes() for file in model.glob("*.py")}}


def split_checks(candidate: Version, model: Path, holdout: Holdout) -> Iterator[Check]:
    """Check the rows that a version was trained and tested on, as its run's `split.csv` has them.

    Args:
        candidate: The version to check.
        model: Folder with its files.
        holdout: The messages that it is scored on, and what they were split from.

    Yields:
        The results for the rows, and for the parts that they are in.
    """
    table = _split_of_run(candidate)
    expected = artifacts.split_table(holdout.split)
    for subject, columns, why in (
        ("rows", ("label", "source", "key"), "its run read the messages that the holdout is of"),
        ("parts", ("part", "label", "key"), "its run did not train on the holdout"),
    ):
        name = f"provenance: {SPLIT_FILE}, {subject}"
        if table is None and model_files.package(model) in UNDIGESTED:
            missing = f"its run has no {SPLIT_FILE}, and it was logged before that was checked"
            yield Check(name, "-", "-", "not applicable", missing)
            continue
        found = "missing" if table is None else row_digest(table, columns)
        bound = row_digest(expected, columns)
        how = f"SHA-256 {found} over {', '.join(columns)} of the run's {SPLIT_FILE}"
        yield check(name, found == bound, found[:12], bound[:12], why, how)


def _split_of_run(candidate: Version) -> pd.DataFrame | None:
    """Return the table in the artifacts of the version's run; None if it is missing or damaged."""
    run_id = candidate.run_id
    if run_id is None:
        return None
    try:
        table = training_messages.split_table(MlflowClient(), run_id)
    except ValueError:
        return None  # the check fails
    known = table is not None and {"part", "label", "source", "key"} <= set(table)
    return table if known else None
