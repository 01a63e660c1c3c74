"""Messages from the user's own CSV file."""

from pathlib import Path

import pandas as pd
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG
from spam_mlflow.data.messages import Messages, validated
from spam_mlflow.errors import UserError

Label = bool | int | float | str


@dataclass(frozen=True, config=CONFIG)
class CsvSource:
    """Labeled messages in one CSV file.

    Attributes:
        path: The file; a relative path starts at `data_dir` where that is given.
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.
        ham_labels: Values of the label column that mean ham.
        spam_labels: Values of the label column that mean spam.
        encoding: Encoding of the file, as Python names it.
        separator: String between two fields of a line.
        overflow_columns: Columns with the rest of texts that were split at their separators.
        source_column: Name of the column with each message's source, None where there is none.
        group_column: Name of the column with groups that a split keeps together, None where there
            is none.
        data_dir: Folder that a relative path starts at, None for the working directory.
    """

    path: str
    text_column: str
    label_column: str
    ham_labels: tuple[Label, ...]
    spam_labels: tuple[Label, ...]
    encoding: str = "utf-8-sig"
    separator: str = ","
    overflow_columns: tuple[str, ...] = ()
    source_column: str | None = None
    group_column: str | None = None
    data_dir: str | None = None

    def load(self) -> Messages:
        """Read and validate the file.

        Returns:
            The valid rows; the others are in `rejected`, malformed lines included.

        Raises:
            UserError: Where the file is missing, undecodable or empty, where it lacks a column or a
                class, and where a label would mean both ham and spam.
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
        """Return the well-formed rows, all columns as str, and the lines with too many fields."""
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
        # A value that is not listed is quoted, so that it is never taken for a label: even "ham" is
        # rejected where ham_labels is [0].
        label = given.map(labels).fillna(given.map(repr).where(given != "", None))
        rows = pd.DataFrame({"text": text, "label": label})
        rows["source"] = table[self.source_column] if self.source_column else "csv"
        rows["group"] = table[self.group_column] if self.group_column else ""
        return rows.fillna({"source": "", "group": ""})
