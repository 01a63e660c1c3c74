"""Scoring one part of a job: read, score, write, and record that it is complete."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import tables
from .jobs import Job, Part
from .readers import Reader, UnreadablePartError
from .rows import Reject, Rows
from .version_scoring import SPAM_PROBABILITY, low_confidence, predictions

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Record:
    """What is known of a complete part; its file is the ledger's entry.

    Attributes:
        number: Of the part.
        fingerprint: Of the job.
        weight: The part's share of the input, in bytes.
        scored: Number of rows with a score.
        spam: How many of them are labeled spam.
        low_confidence: How many of them are unlike all that the model was trained on.
        rejected: Number of rows and files without.
        files: Size and SHA-256 (hex) of the files that were written, by name.
        seconds: Time that it took.
        without_id: Number of scored rows whose ID is null or empty.
    """

    number: int
    fingerprint: str
    weight: int
    scored: int
    spam: int
    low_confidence: int
    rejected: int
    files: Mapping[str, tuple[int, str]]
    seconds: float
    without_id: int = 0

    def to_json(self) -> str:
        """Return the record as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Return the record that `to_json` wrote.

        Raises:
            ValueError: For anything else.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"no record of a part: {error}") from error


class PartScorer:
    """Scores the parts of a job, one after the other, with one loaded model.

    Args:
        job: The job.

    Raises:
        ValueError: If the model cannot be loaded, or refuses the parameters.
    """

    def __init__(self, job: Job) -> None:
        import pyarrow as pa

        self._job, self._reader = job, Reader(job)
        self._predict = _loaded(job)
        types = pa.ipc.read_schema(pa.py_buffer(job.types))
        self._schema = tables.schema(types, bool(job.params.get("explain")))

    def score(self, part: Part) -> Record:
        """Score a part and write its files; the last of them is the record.

        Raises:
            OSError: If a file cannot be read or written.
        """
        start = time.perf_counter()
        scored, rejects = self._scored(part)
        files = {}
        if rejects:
            name = f"rejects/_{part.name}.jsonl"
            files[name] = self._write(name, tables.encoded_rejects(rejects))
        if scored.num_rows:
            name = f"{part.name}.{tables.ENDINGS[self._job.output]}"
            content = tables.encoded(scored, self._job.output, self._job.safe_csv)
            files[name] = self._write(name, content)
        record = Record(
            part.number,
            self._job.fingerprint,
            part.weight,
            scored.num_rows,
            scored.column("label").to_pylist().count("spam"),
            scored.num_rows - scored.column(tables.LOW_CONFIDENCE).null_count,
            len(rejects),
            files,
            round(time.perf_counter() - start, 3),
            _without_id(scored.column("id")),
        )
        self._job.destination.write(part.record, record.to_json().encode())
        return record

    def _write(self, name: str, content: bytes) -> tuple[int, str]:
        self._job.destination.write(name, content)
        return len(content), hashlib.sha256(content).hexdigest()

    def _scored(self, part: Part) -> "tuple[pa.Table, list[Reject]]":
        """Return the scores of a part, and what has none."""
        import pyarrow as pa

        file = self._job.files[part.file].name
        if part.problem:
            return self._schema.empty_table(), [Reject(file, part.row or None, part.problem, None)]
        rejects: list[Reject] = []
        found, read = [self._schema.empty_table()], 0
        try:
            for rows in self._reader.read(part):
                read = rows.numbers[-1]
                found.append(self._table(rows))
                rejects += rows.rejects(file)
        except UnreadablePartError as error:
            first, last = max(read + 1, part.row), part.row + part.length - 1
            rejects += [
                Reject(file, number, f"cannot be read: {error}", None)
                for number in range(first, last + 1)
            ]
        return pa.concat_tables(found), rejects

    def _table(self, rows: Rows) -> "pa.Table":
        """Return the scores of some rows."""
        import pyarrow as pa

        usable = rows.usable()
        columns = self._columns(usable, rows)
        kept = [position for position in usable if position not in rows.problems]
        size, first = len(kept), rows.others.take(pa.array(kept, pa.int64()))
        columns["threshold"] = [self._job.threshold] * size
        columns["model_version"] = [self._job.model_version] * size
        names = list(tables.SCORES)
        names += [tables.EXPLANATION] * (tables.EXPLANATION in self._schema.names)
        ids, *carried = first.columns
        return pa.table([ids, *(columns[name] for name in names), *carried], schema=self._schema)

    def _columns(self, positions: Sequence[int], rows: Rows) -> dict[str, list[Any]]:
        """Return the model's answers; a row that it refuses becomes a problem of the rows."""
        columns: dict[str, list[Any]] = {"label": [], SPAM_PROBABILITY: []}
        doubts: list[str | None] = []
        if self._job.params.get("explain"):
            columns[tables.EXPLANATION] = []
        for answer in self._answers(positions, rows):
            for name in columns:
                columns[name] += answer[name].tolist()
            doubts += low_confidence(answer)
        return {**columns, tables.LOW_CONFIDENCE: doubts}

    def _answers(self, positions: Sequence[int], rows: Rows) -> Iterator["pd.DataFrame"]:
        """Yield the model's answers for rows, by halves where it refuses all of them together."""
        if not positions:
            return
        try:
            texts = [rows.texts[position] for position in positions]
            yield predictions(self._predict, texts, dict(self._job.params))
        except Exception as error:  # the version's code may raise anything
            if isinstance(error, MemoryError):
                raise
            if len(positions) == 1:
                words = (str(error).strip() or type(error).__name__).splitlines()[0]
                rows.problems[positions[0]] = f"the model refuses it: {words}"
                return
            half = len(positions) // 2
            yield from self._answers(positions[:half], rows)
            yield from self._answers(positions[half:], rows)


def _without_id(ids: "pa.ChunkedArray") -> int:
    """Return how many IDs are null, empty or blank."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(ids.type):
        return int(ids.null_count)
    blank = pc.equal(pc.utf8_trim_whitespace(ids), "")
    return int(ids.null_count + (pc.sum(blank).as_py() or 0))


def _loaded(job: Job) -> Any:
    """Return the model's method `predict`, which has answered once as the job needs it."""
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(job.model)
        answer = predictions(model.predict, ["warm up"], dict(job.params))
    except Exception as error:  # the version's code may raise anything
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the model cannot be used: {words}") from error
    schema = model.metadata.get_params_schema()
    unknown = sorted(set(job.params) - {param.name for param in (schema.params if schema else ())})
    if unknown:  # MLflow would leave them out
        raise ValueError(f"the model takes no {', '.join(unknown)}")
    wanted = ["label", SPAM_PROBABILITY, *[tables.EXPLANATION] * bool(job.params.get("explain"))]
    missing = [name for name in wanted if name not in answer.columns]
    if missing:
        raise ValueError(f"the model gives no {', '.join(missing)}")
    return model.predict
