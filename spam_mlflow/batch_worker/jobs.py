"""What a process needs to know to score parts of an input: a job, its files and its parts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .compression import Compression
from .folders import Folder
from .records import Dialect

Form = Literal["delimited", "json", "parquet"]
Output = Literal["parquet", "csv", "jsonl"]


@dataclass(frozen=True)
class InputFile:
    """A file of the input.

    Attributes:
        name: What users call it: its path below the input folder, or its own name.
        path: Its path below the job's `source`.
        size: Bytes.
        digest: What its content is known by: SHA-256 (hex), or the ETag of an object.
        form: Kind of file.
        encoding: Of a text file, as Python names it.
        dialect: How the fields of a line are separated.
        compression: How a text file is compressed; positions in it are those of what it holds.
        line_end: Last character of each line of a text file.
        columns: Names of the columns of a delimited file.
        start: Position of the first byte after the header.
        header_lines: Number of lines before `start`.
        problem: Why it cannot be scored, "" if it can.
    """

    name: str
    path: str
    size: int
    digest: str
    form: Form = "delimited"
    encoding: str = "utf-8"
    compression: Compression = ""
    dialect: Dialect = field(default_factory=lambda: Dialect(","))
    line_end: str = "\n"
    columns: tuple[str, ...] = ()
    start: int = 0
    header_lines: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is scored at once and becomes one file of the output.

    Attributes:
        number: From 0, in the order of the input.
        file: Position of its file among the job's.
        start: Position of its first byte; of a Parquet file, of its first row, from 0.
        length: Bytes; of a Parquet file, rows.
        row: Number of its first row for users: of a line, or of a row in a Parquet file, from 1.
        weight: Its share of the input, in bytes.
        problem: Why none of it can be scored, "" if it can.
    """

    number: int
    file: int
    start: int = 0
    length: int = 0
    row: int = 0
    weight: int = 0
    problem: str = ""

    @property
    def name(self) -> str:
        """The name of its files, without the ending."""
        return f"part-{self.number:05d}"

    @property
    def record(self) -> str:
        """The name of the file that says that the part is complete."""
        return f"_parts/{self.name}.json"


@dataclass(frozen=True)
class Job:
    """What is scored how, and where the scores go.

    Attributes:
        fingerprint: Digest of input, model and settings.
        source: Folder that the files are in.
        files: The input's files.
        destination: Folder of the output.
        output: Format of the output.
        safe_csv: Whether cells of CSV that look like formulas are kept from being calculated.
        model: Folder with the model, on every machine that scores.
        model_version: What the output says of it.
        threshold: Spam probability from which a text is labeled spam.
        params: Parameters of the model.
        text_column: Name of the column with the texts.
        id_column: Name of the column that identifies a row; None for file and row number.
        columns: Names of the columns that are carried through.
        types: Of the column `id` and of those carried through, as pyarrow writes a schema in bytes.
    """

    fingerprint: str
    source: Folder
    files: tuple[InputFile, ...]
    destination: Folder
    output: Output
    safe_csv: bool
    model: str
    model_version: str
    threshold: float
    params: Mapping[str, Any]
    text_column: str
    id_column: str | None
    columns: tuple[str, ...]
    types: bytes

    def to_json(self) -> str:
        """Return the job as text."""
        folders = {name: _plain(getattr(self, name)) for name in ("source", "destination")}
        files = [asdict(file) for file in self.files]
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps({**values, **folders, "files": files, "types": self.types.hex()})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that `to_json` wrote."""
        values = json.loads(text)
        values["source"], values["destination"] = (
            Folder(**values[name]) for name in ("source", "destination")
        )
        values["files"] = tuple(map(_input_file, values["files"]))
        values["columns"] = tuple(values["columns"])
        values["types"] = bytes.fromhex(values["types"])
        return cls(**values)


def _input_file(values: Mapping[str, Any]) -> InputFile:
    changed = {"dialect": Dialect(**values["dialect"]), "columns": tuple(values["columns"])}
    return InputFile(**{**values, **changed})


def _plain(folder: Folder) -> dict[str, Any]:
    return {"path": folder.path, "store": folder.store}
