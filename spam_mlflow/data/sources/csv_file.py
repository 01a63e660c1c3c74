"""Messages from the user's own file: separated fields, JSONL or Parquet."""

import dataclasses
import functools
import logging
from pathlib import PurePosixPath
from typing import Annotated, Any

import pandas as pd
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, StorageSettings
from spam_mlflow.data.messages import Messages, validated
from spam_mlflow.data.sources import dialect, locations, modern, tables
from spam_mlflow.data.sources.labels import Label, LabelMap
from spam_mlflow.data.sources.tables import Separated, Table, Wanted

logger = logging.getLogger(__name__)


def _as_list(value: Any) -> Any:
    """Return a single value as a list of one."""
    return [value] if isinstance(value, bool | int | float | str) else value


Labels = Annotated[tuple[Label, ...], BeforeValidator(_as_list)]


@dataclass(frozen=True, config=CONFIG)
class CsvSource:
    """Labeled messages in one file.

    Attributes:
        path: The file; a relative path starts at `data_dir` where that is given. Also s3://....
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.
        ham_labels: Values of the label column that mean ham.
        spam_labels: Values of the label column that mean spam.
        ignored_labels: Values of the label column whose rows are rejected.
        header: Whether the first line names the columns; else they are called "1", "2", ….
        encoding: Encoding of the file, as Python names it, or "auto".
        separator: Character between two fields of a line, its name, or "auto".
        quoting: Whether fields may stand in quotation marks, or "auto".
        escape: How a quotation mark is written within quotation marks, or "auto".
        overflow_columns: Columns with the rest of texts that were split at their separators.
        source_column: Name of the column with each message's source, None where there is none.
        group_column: Name of the column with groups that a split keeps together, None where there
            is none.
        data_dir: Folder that a relative path starts at, None for the working directory.
        storage: How to reach the S3 store of an s3:// path.
        extra: Bundled sets that are trained on as well.
    """

    path: str
    text_column: str
    label_column: str
    ham_labels: Labels
    spam_labels: Labels
    ignored_labels: Labels = ()
    header: bool = True
    encoding: str = "auto"
    separator: str = "auto"
    quoting: dialect.Quoting = "auto"
    escape: dialect.Escape = "auto"
    overflow_columns: tuple[str, ...] = ()
    source_column: str | None = None
    group_column: str | None = None
    data_dir: str | None = None
    storage: StorageSettings | None = None
    extra: modern.Extra = ()

    def __post_init__(self) -> None:
        """Raise UserError for a separator that is none and for labels with two meanings."""
        dialect.separator(self.separator)
        self._labels  # noqa: B018

    def load(self) -> Messages:
        """Read and validate the file.

        Returns:
            The valid rows; the others are in `rejected`, lines that are no rows included.

        Raises:
            UserError: Where the file is missing, undecodable or empty, where it lacks a column, and
                where labels are not mapped or would mean both ham and spam.
        """
        content = locations.read(self.path, self.data_dir, self.storage)
        table = self._table(content)
        messages = validated(self._rows(table), name="csv", unread=table.rejected)
        self._report(table, len(messages.frame), len(messages.rejected))
        return dataclasses.replace(messages, extra=modern.training(self.extra))

    @functools.cached_property
    def _labels(self) -> LabelMap:
        return LabelMap(self.ham_labels, self.spam_labels, self.ignored_labels)

    @property
    def _name(self) -> str:
        return PurePosixPath(self.path).name

    def _table(self, content: bytes) -> Table:
        name = self._name.lower().removesuffix(".gz")
        if content.startswith(b"PAR1"):
            return tables.parquet(content, self._wanted, self._name)
        if name.endswith((".jsonl", ".ndjson")) or content.lstrip().startswith(b"{"):
            return tables.json_lines(content, self.encoding, self._wanted, self._name)
        form = Separated(self.header, self.encoding, self.separator, self.quoting, self.escape)
        return form.read(content, self._wanted, self._name)

    @property
    def _wanted(self) -> Wanted:
        others = [("data.overflow_columns", column) for column in self.overflow_columns]
        if self.source_column is not None:
            others.append(("data.source_column", self.source_column))
        if self.group_column is not None:
            others.append(("data.group_column", self.group_column))
        return Wanted(self.text_column, self.label_column, others, self._labels.is_label)

    def _rows(self, table: Table) -> pd.DataFrame:
        """Return the table in the columns of `Messages.frame`, with the number of each row."""
        frame = table.frame
        text = frame[self.text_column].astype(object)
        for column in self.overflow_columns:
            rest = frame[column].fillna("").astype(str)
            text = text.where(rest == "", text.astype(str) + table.separator + rest)
        rows = pd.DataFrame({"text": text})
        rows["label"] = self._labels.classes(frame[self.label_column], self.label_column)
        rows["source"] = _cells(frame, self.source_column).replace("", "csv")
        rows["group"] = _cells(frame, self.group_column)
        return rows.assign(**{tables.ROW: list(table.rows)})

    def _report(self, table: Table, kept: int, rejected: int) -> None:
        """Say how the file was read, and what became of its lines."""
        logger.info(
            "%s (%s): %s lines became %s rows%s%s",
            self._name,
            table.form,
            f"{table.lines:,}",
            f"{kept:,}",
            f", {rejected:,} rejected" if rejected else "",
            ", since some texts have several lines" if table.lines != kept + rejected else "",
        )
        if table.reread:
            logger.warning(
                "%s: %s rows have quotation marks that do not pair up, which are part of the text",
                self._name,
                f"{table.reread:,}",
            )


def _cells(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """Return a column as text, "" for every row if there is none."""
    if column is None:
        return pd.Series("", index=frame.index, dtype=object)
    cells = frame[column]
    return cells.astype(object).where(cells.notna(), "").astype(str)
