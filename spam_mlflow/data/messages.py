"""The table of messages that every source yields, and the check that every row passes through."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from spam_mlflow.errors import UserError
from spam_mlflow.text import duplicate_key

LABELS = ("ham", "spam")
"""Class names in the order of their class index: spam is the positive class, 1."""

COLUMNS = ("text", "label", "source", "group")


@dataclass(frozen=True)
class Messages:
    """Labelled messages from one data source.

    frame: columns `text` (str), `label` ("ham" or "spam"), `source` (str) and `group`
        (str; equal for messages that must never be split apart, "" where nothing is known).
    name: the data source's name, such as "uci".
    rejected: the rows left out, with a column `reason`.
    fallback: True where the bundled sample stands in for data that could not be had.
    """

    frame: pd.DataFrame
    name: str
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame)
    fallback: bool = False

    def only(self, sources: Sequence[str]) -> "Messages":
        """Return the messages of `sources` alone.

        Raises UserError where one does not exist, naming those that do, and where a class is gone.
        """
        existing = sorted(self.frame["source"].unique())
        unknown = [source for source in sources if source not in existing]
        if unknown:
            raise UserError(
                f"sources={list(sources)}: {self.name} has no {', '.join(unknown)}; "
                f"it has {', '.join(existing)}"
            )
        kept = self.frame[self.frame["source"].isin(sources)].reset_index(drop=True)
        if kept["label"].nunique() < len(LABELS):
            raise UserError(f"sources={list(sources)} hold {kept['label'].unique()} only; add one")
        return dataclasses.replace(self, frame=kept)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over label, source and text of every row, in order."""
        return frame_digest(self.frame)

    @property
    def spam(self) -> pd.Series:
        """1 for spam, 0 for ham; shape (rows,), int64."""
        return (self.frame["label"] == "spam").astype("int64")


def frame_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 (hex) over label, source and text of every row of `frame`, in order."""
    digest = hashlib.sha256()
    for row in zip(frame["label"], frame["source"], frame["text"], strict=True):
        digest.update("\x1f".join(row).encode() + b"\x1e")
    return digest.hexdigest()


def validated(rows: pd.DataFrame, name: str, fallback: bool = False) -> Messages:
    """Sort `rows` into usable messages and rejected ones, each with its reason.

    rows: columns `text` and `label`, optionally `source` and `group`; values of any type.
    Rejected are: missing texts or labels, texts that are empty once stripped, labels other than
    ham and spam, and texts that occur with both labels. Duplicates stay: the split drops them.

    Raises UserError where no row or only one class is left.
    """
    rows = rows.reset_index(drop=True)
    rows = rows.assign(source=rows.get("source", name), group=rows.get("group", ""))
    reason = _reasons(rows)
    kept = rows.loc[reason == "", list(COLUMNS)].reset_index(drop=True).astype(str)
    rejected = rows.assign(row=rows.index + 1, reason=reason)[reason != ""]
    present = sorted(kept["label"].unique())
    if present != sorted(LABELS):
        raise UserError(
            f"data={name}: both classes, ham and spam, are needed, but the {len(kept)} usable of "
            f"{len(rows)} rows hold {present or 'none'}{_most_frequent(reason)}"
        )
    return Messages(frame=kept, name=name, rejected=rejected, fallback=fallback)


def _reasons(rows: pd.DataFrame) -> pd.Series:
    """Return why each row is rejected, "" for usable ones."""
    text, label = rows["text"], rows["label"]
    reason = pd.Series("", index=rows.index, dtype=object)
    reason[~label.isin(LABELS)] = "unknown label"
    reason[label.isna()] = "label is missing"
    reason[text.map(lambda value: isinstance(value, str) and not value.strip())] = "text is empty"
    reason[text.map(lambda value: not isinstance(value, str))] = "text is missing"
    usable = rows[reason == ""]
    keys = usable["text"].map(duplicate_key)
    conflicting = usable["label"].groupby(keys).transform("nunique") > 1
    reason[conflicting[conflicting].index] = "the same text occurs with both labels"
    return reason


def _most_frequent(reason: pd.Series) -> str:
    rejected = reason[reason != ""].value_counts()
    return (
        f"; most rejected rows: {rejected.index[0]} ({rejected.iloc[0]})" if len(rejected) else ""
    )


def write_rejected(messages: Messages, path: Path) -> None:
    """Write the rejected rows and their reasons to `path` as CSV.

    Raises UserError where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        messages.rejected.to_csv(path, index=False)
    except OSError as error:
        raise UserError(
            f"cannot write the rejected rows to {path}: {error.strerror}; "
            "set output_dir to a folder you may write to"
        ) from error
