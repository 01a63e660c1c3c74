"""The table of messages that every data source yields, and the validation of its rows."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from spam_mlflow.data import csv_cells
from spam_mlflow.errors import UserError
from spam_mlflow.scorer.labels import LABELS
from spam_mlflow.scorer.normalization import duplicate_key

COLUMNS = ("text", "label", "source", "group")


@dataclass(frozen=True)
class Messages:
    """Labeled messages from one data source.

    Attributes:
        frame: Columns `text` (str), `label` ("ham" or "spam"), `source` (str) and `group` (str:
            equal for messages that must stay in the same part of a split, "" where unknown).
        name: Name of the data source, such as "uci".
        rejected: The rows that were left out, with a column `reason`.
        fallback: Whether this is the bundled sample in place of data that was not available.
        train_only: Sources whose messages must not get into a holdout.
        train_only_share: Share of the training part that they may have.
        extra: Additional messages that are only trained on, with the columns of `frame`; their
            `source` names what they come from.
    """

    frame: pd.DataFrame
    name: str
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame)
    fallback: bool = False
    train_only: tuple[str, ...] = ()
    train_only_share: float = 1.0

    @property
    def is_train_only(self) -> pd.Series:
        """Whether each message must not get into a holdout; shape (rows,), bool."""
        return self.frame["source"].isin(self.train_only)

    @property
    def splittable(self) -> "Messages":
        """The messages that may get into any part."""
        if not self.train_only:
            return self
        kept = self.frame[~self.is_train_only].reset_index(drop=True)
        return dataclasses.replace(self, frame=kept, train_only=())

    extra: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))

    def only(self, sources: Sequence[str]) -> "Messages":
        """Return the messages of some sources, and those that are for training only.

        Args:
            sources: Names from the column `source`.

        Raises:
            UserError: Where a source does not exist.
        """
        existing = sorted(self.frame["source"].unique())
        unknown = [source for source in sources if source not in existing]
        if unknown:
            raise UserError(
                f"sources={list(sources)}: {self.name} has no {', '.join(unknown)}; "
                f"it has {', '.join(existing)}"
            )
        kept = self.frame[self.frame["source"].isin([*sources, *self.train_only])].reset_index(
            drop=True
        )
        return dataclasses.replace(self, frame=kept)

    def require_both_classes(self) -> None:
        """Raise UserError where the messages are all ham or all spam, as no training can use."""
        present = sorted(self.frame["label"].unique())
        if present != sorted(LABELS):
            reasons = self.rejected.get("reason", pd.Series(dtype=str))
            raise UserError(
                f"data={self.name}: both classes, ham and spam, are needed, but the "
                f"{len(self.frame):,} messages that are used are all "
                f"{present[0]}{_most_frequent(reasons)}"
            )

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 (hex) over label, source and text of every row, in order."""
        return frame_digest(self.frame)


def row_digest(frame: pd.DataFrame, columns: Sequence[str], end: str = "\x1e") -> str:
    """Return the SHA-256 (hex) over some columns of every row of `frame`, in order.

    Args:
        frame: A table that has `columns`, all of them str.
        columns: Names of the columns that count.
        end: String that follows the last row.
    """
    rows = zip(*(frame[column] for column in columns), strict=True)
    return hashlib.sha256(("\x1e".join(map("\x1f".join, rows)) + end).encode()).hexdigest()


def frame_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 (hex) over label, source and text of every row of `frame`, in order."""
    return row_digest(frame, ("label", "source", "text"))


def validated(
    rows: pd.DataFrame, name: str, fallback: bool = False, unread: pd.DataFrame | None = None
) -> Messages:
    """Separate usable messages from rejected rows.

    Rejected are rows whose text or label is missing, whose text is blank, whose label is neither
    ham nor spam, or whose text occurs with both labels. Duplicates are kept: the split drops them.

    Args:
        rows: Columns `text` and `label`, optionally `source`, `group` and `row` (the number of the
            row in its file, else it is counted); values of any type.
        name: Name of the data source; also the `source` of rows that have none.
        fallback: Whether the rows stand in for data that was not available.
        unread: What could not be read as rows: columns `text`, `row` and `reason`.

    Returns:
        The messages; `rejected` gives a reason for every row that was left out.

    Raises:
        UserError: Where no row is usable.
    """
    rows = rows.reset_index(drop=True)
    rows = rows.assign(source=rows.get("source", name), group=rows.get("group", ""))
    reason = _reasons(rows)
    kept = rows.loc[reason == "", list(COLUMNS)].reset_index(drop=True).astype(str)
    numbered = rows.assign(row=rows.get("row", rows.index + 1), reason=reason)
    rejected = numbered[reason != ""]
    if unread is not None and len(unread):
        rejected = pd.concat([rejected, unread]).sort_values("row", ignore_index=True)
    if kept.empty:
        raise UserError(
            f"data={name}: none of the {len(rejected):,} rows is usable"
            f"{_most_frequent(rejected['reason'])}"
        )
    return Messages(frame=kept, name=name, rejected=rejected, fallback=fallback)


def _reasons(rows: pd.DataFrame) -> pd.Series:
    """Return why each row is rejected, "" for usable rows; shape (rows,), str."""
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


def write_rejected(messages: Messages, path: Path, safe: bool = False) -> None:
    """Write the rejected rows and their reasons as CSV.

    Args:
        messages: The messages whose `rejected` is written.
        path: The file; folders that are missing are created.
        safe: As for `csv_cells.write`.

    Raises:
        UserError: Where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        csv_cells.write(messages.rejected, path, safe)
    except OSError as error:
        raise UserError(
            f"cannot write the rejected rows to {path}: {error.strerror}; "
            "set output_dir to a folder you may write to"
        ) from error
