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
from .process import failure, loading_failure

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
    begun, asked = Job.from_json(job), Part(**json.loads(part))
    try:
        scorer = _scorer(begun)
    except Exception as error:  # the version's code may raise anything
        return json.dumps({"error": loading_failure(error)})
    try:
        return json.dumps({"record": scorer.score(asked).to_json()})
    except Exception as error:  # Spark would try again, and tell a stack of Java
        return json.dumps({"error": failure(error, begun, asked)})


def _scorer(job: Job) -> PartScorer:
    """Return the scorer of a job, which is loaded once in each process."""
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
