"""What a run or a version comes from: the code's commit, the data and its split."""

import io
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from spam_mlflow.config.paths import INSTALLED, PROJECT
from spam_mlflow.data.messages import frame_digest
from spam_mlflow.tracking.runs import retry_on_conflict
from spam_mlflow.tracking.source_names import in_names

if TYPE_CHECKING:
    from spam_mlflow.data.messages import Messages
    from spam_mlflow.data.splitters import Split

COMMIT_TAG = "git.commit"
"""Tag of a run: the project's commit, or "unknown"."""

_CODE = ("spam_mlflow/*.py", "conf/*.yaml")  # patterns of git, in which * also matches slashes


def log_code_version() -> None:
    """Tag the active run with the project's commit and whether the working tree differs from it.

    A file that git does not track counts as a difference where it can change what is trained.
    """
    tags = {COMMIT_TAG: "unknown"}
    # A repository around the project, which was unpacked into it, says nothing of the project.
    if _git("rev-parse", "--show-toplevel") == str(PROJECT):
        changes = _git("status", "--porcelain", "--untracked-files=no")
        untracked = _git("ls-files", "--others", "--", *_CODE)
        tags[COMMIT_TAG] = _git("rev-parse", "HEAD") or "unknown"
        tags["git.dirty"] = str(bool(changes or untracked)).lower()
    mlflow.set_tags(tags)


def files_at(commit: str, folder: str) -> dict[str, bytes] | None:
    """Return the files in a folder of the project as they were at a commit.

    Args:
        commit: A commit's whole name; anything else is not looked up.
        folder: Path of the folder from the project's root, such as "spam_mlflow/scorer".

    Returns:
        The files by their path below the folder; None if this checkout does not have the commit,
        or the commit not the folder.
    """
    known = re.fullmatch("[0-9a-f]{40,64}", commit)
    archive = _git_output("archive", "--format=tar", commit, folder) if known else None
    if archive is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        return {
            member.name.removeprefix(f"{folder}/"): members.extractfile(member).read()  # type: ignore[union-attr]
            for member in members
            if member.isfile()
        }


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None if the project is no repository or git is missing."""
    output = _git_output(*arguments)
    return None if output is None else output.decode().strip()


def _git_output(*arguments: str) -> bytes | None:
    if INSTALLED:  # a repository around the environment would not be this project's
        return None
    try:
        command = ["git", "-C", str(PROJECT), *arguments]
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def data_tags(messages: "Messages", split: "Split | None" = None) -> dict[str, str]:
    """Return the tags that tell which data a run or a registered version comes from.

    Args:
        messages: All messages that were read.
        split: How they were split into parts; None if they were not.
    """
    tags = {
        "data.name": messages.name,
        "data.digest": messages.digest,
        "data.fallback": str(messages.fallback).lower(),
    }
    if split is not None:
        # A split may leave out additional messages, which then nothing is trained on.
        if len(split.extra):
            tags["data.extra"] = ",".join(sorted(split.extra["source"].unique()))
        tags |= {
            "split.name": split.name,
            "split.digest": split.digest,
            "split.leaky": str(split.leaky).lower(),
        }
    return tags


def log_data(messages: "Messages", split: "Split") -> None:
    """Log the data of the active run: digests, counts of rows, and each part as a dataset input.

    Args:
        messages: All messages that were read.
        split: Their parts, whose rows are counted by part, source and label.
    """
    mlflow.set_tags(data_tags(messages, split))
    # Counts are parameters: as a metric, each would get a chart of its own in the UI.
    sources = split.frame["source"]
    written = sources.map({source: in_names(source) for source in sources.unique()})
    names = split.frame["part"] + "." + written + "." + split.frame["label"]
    counts = {
        "read": len(messages.frame) + len(messages.rejected),
        "rejected": len(messages.rejected),
        "duplicate": split.duplicates,
        **names.value_counts().to_dict(),
    }
    mlflow.log_params({f"rows.{name}": count for name, count in counts.items()})
    for part in split.frame["part"].unique():
        log_dataset(split.part(part), f"{messages.name}-{part}", part)


def log_dataset(frame: pd.DataFrame, name: str, context: str) -> None:
    """Log messages as a dataset input of the active run.

    Args:
        frame: Messages, with columns `text`, `label` and `source`.
        name: Name of the dataset.
        context: What the messages are used for, such as "test".
    """
    from mlflow.data.pandas_dataset import from_pandas

    columns = frame[["text", "label", "source"]].astype(object)
    digest = frame_digest(frame)[:32]  # MLflow allows 36 characters
    dataset = from_pandas(columns, targets="label", name=name, digest=digest)
    retry_on_conflict(lambda: mlflow.log_input(dataset, context=context))


def inputs(client: MlflowClient, run_id: str) -> dict[str, Dataset]:
    """Return the dataset inputs of a run by their context, such as "test"."""
    found = client.get_run(run_id).inputs
    return {
        tag.value: entry.dataset
        for entry in (found.dataset_inputs if found else ())
        for tag in entry.tags
        if tag.key == MLFLOW_DATASET_CONTEXT
    }
