"""Scoring parts in the Python processes of Spark's executors."""

import io
import json
import pkgutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .jobs import Job, Part
from .part_scoring import PartScorer
from .process import explained

if TYPE_CHECKING:
    import pyarrow as pa

MODEL_ARCHIVE = "model.zip"
"""File of this package with the model, where executors do not see the driver's disk."""

_scorers: dict[str, PartScorer] = {}  # of this process, which Spark uses again


def task(job: str, parts: Sequence[str]) -> Callable[..., "Iterator[pa.RecordBatch]"]:
    """Return a function for Spark's `mapInArrow`, from numbers of parts to answers.

    Args:
        job: The job as JSON.
        parts: Each part as JSON.
    """

    def score(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa

        for batch in batches:
            for at in batch.column(0).to_pylist():
                yield pa.RecordBatch.from_pydict({"answer": [answer(job, parts[at])]})

    return score


def answer(job: str, part: str) -> str:
    """Return the record of a part, or what keeps it from being scored: JSON in either case."""
    try:
        return json.dumps({"record": _scorer(job).score(Part(**json.loads(part))).to_json()})
    except OSError as error:
        return json.dumps({"error": explained(error)})
    except ValueError as error:
        return json.dumps({"error": str(error)})


def _scorer(text: str) -> PartScorer:
    """Return the scorer of a job, which is loaded once in each process."""
    job = Job.from_json(text)
    if job.fingerprint not in _scorers:
        _scorers.clear()
        model = job.model if Path(job.model).is_dir() else _unpacked_model()
        _scorers[job.fingerprint] = PartScorer(replace(job, model=model))
    return _scorers[job.fingerprint]


def _unpacked_model() -> str:
    """Return a folder with the model, which goes with the executor's own files."""
    from pyspark import SparkFiles

    content = pkgutil.get_data(__package__, MODEL_ARCHIVE)
    assert content is not None
    folder = tempfile.mkdtemp(prefix="model-", dir=SparkFiles.getRootDirectory())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    return folder
