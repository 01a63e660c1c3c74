"""A CSV file of the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spam_mlflow.data.messages import Messages, validated
from spam_mlflow.errors import UserError


@dataclass(frozen=True)
class CsvSource:
    """Labelled messages in one CSV file.

    path: the file; relative paths start at `data_dir` where that is given.
    text_column, label_column: names in the header line.
    overflow_columns: columns that hold the rest of texts which were split at their commas.
    source_column, group_column: optional names; rows with equal groups are never split apart.
    ham_labels, spam_labels: values of the label column that mean ham and spam, of any type.
    encoding, separator: how to read the file.
    """

    path: str
    text_column: str
    label_column: str
    ham_labels: Sequence[object]
    spam_labels: Sequence[object]
    encoding: str = "utf-8-sig"
    separator: str = ","
    overflow_columns: Sequence[str] = ()
    source_column: str | None = None
    group_column: str | None = None
    data_dir: str | None = None

    def load(self) -> Messages:
        """Return the valid rows; the others are in `rejected`, malformed lines included.

        Raises UserError for a missing, undecodable or empty file, absent columns, or a label that
        is to mean both ham and spam.
        """
        both = sorted(set(map(str, self.ham_labels)) & set(map(str, self.spam_labels)))
        if both:
            raise UserError(f"data.ham_labels and data.spam_labels both hold {', '.join(both)}")
        table, malformed = self._read()
        self._require_columns(table)
        messages = validated(self._rows(table), name="csv")
        rejected = pd.concat([messages.rejected, malformed], ignore_index=True)
        return Messages(frame=messages.frame, name="csv", rejected=rejected)

    def _read(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the well-formed rows, all columns as text, and the lines with too many fields."""
        malformed: list[list[str]] = []
        path = Path(self.data_dir or "", self.path).expanduser()
        try:
            table = pd.read_csv(
                path,
                sep=self.separator,
                encoding=self.encoding,
                dtype=str,
                keep_default_na=False,
                engine="python",
                on_bad_lines=malformed.append,
            )
        except (OSError, LookupError, UnicodeError, ValueError) as error:
            raise UserError(
                f"data.path={str(path)!r} cannot be read as CSV in {self.encoding}: {error}; "
                "check data.path, data.encoding and data.separator"
            ) from error
        texts = [self.separator.join(fields) for fields in malformed]
        reason = "more fields than columns"
        return table, pd.DataFrame({"text": texts, "reason": reason})

    def _require_columns(self, table: pd.DataFrame) -> None:
        wanted = [
            ("data.text_column", self.text_column),
            ("data.label_column", self.label_column),
            ("data.source_column", self.source_column),
            ("data.group_column", self.group_column),
            *(("data.overflow_columns", column) for column in self.overflow_columns),
        ]
        for key, column in wanted:
            if column is not None and column not in table.columns:
                raise UserError(
                    f"{key}={column!r} is not a column of {self.path}; it has {list(table.columns)}"
                )

    def _rows(self, table: pd.DataFrame) -> pd.DataFrame:
        text = table[self.text_column].fillna("")
        for column in self.overflow_columns:
            rest = table[column].fillna("")
            text = text.where(rest == "", text + self.separator + rest)
        labels = {str(value): "ham" for value in self.ham_labels}
        labels |= {str(value): "spam" for value in self.spam_labels}
        given = table[self.label_column].fillna("").str.strip()
        # Quoted, an unlisted value cannot pass for a label: not even "ham", if 0 is to mean that.
        label = given.map(labels).fillna(given.map(repr).where(given != "", None))
        rows = pd.DataFrame({"text": text, "label": label})
        rows["source"] = table[self.source_column] if self.source_column else "csv"
        rows["group"] = table[self.group_column] if self.group_column else ""
        return rows.fillna({"source": "", "group": ""})
