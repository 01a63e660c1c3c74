"""Score messages in bulk, on this machine or on Spark."""

import contextlib
import importlib.metadata
import logging
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow import __version__, progress
from spam_mlflow.batch_scoring import inspection, listing, local_engine, plan, spark_engine
from spam_mlflow.batch_scoring.inspection import Columns, Inspected
from spam_mlflow.batch_scoring.output_folder import GOES_ON, Identity, OutputFolder
from spam_mlflow.batch_worker.folders import Folder
from spam_mlflow.batch_worker.jobs import Job
from spam_mlflow.batch_worker.part_scoring import Record
from spam_mlflow.batch_worker.process import explained
from spam_mlflow.config.schema import ScoreSettings
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import tables
from spam_mlflow.registry import loading, model_files, versions
from spam_mlflow.storage import s3
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)

_SHOWN = 10  # files that cannot be scored, each in a line of its own
_DECISIVE = (
    *("text_column", "id_column", "columns", "header", "encoding", "separator", "quoting"),
    *("threshold", "explain", "format", "safe_csv", "part_rows"),
)
"""Settings by which the output differs."""


@dataclass(frozen=True)
class _Model:
    """The model, on this machine.

    Attributes:
        folder: Its files.
        reference: What its URI means.
        version: What the output says of it.
    """

    folder: Path
    reference: versions.Reference
    version: str


def run(settings: ScoreSettings, cfg: DictConfig) -> None:
    """Score an input in parts, and go on where an earlier call stopped.

    Raises:
        UserError: If the model or the input cannot be read, or the output cannot be written.
    """
    start = time.monotonic()
    runs.connect()
    s3.configure_mlflow(settings.storage)
    with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
        model = _model(settings.model_uri, Path(scratch, "model"))
        destination = listing.folder(settings.output, settings.storage)
        source, found = _inspected(settings, destination)
        identity = _identity(settings, model, found)
        job = _job(settings, model, source, found, destination, identity)
        output = OutputFolder(destination, settings.output)
        with _explained(settings.output):
            records = output.begin(identity)
            before = sum(record.scored for record in records.values())
            _score(settings, job, records, Path(scratch))
            facts = _facts(settings, list(records.values()), before, time.monotonic() - start)
            manifest = output.finish(identity, list(records.values()), facts)
    _report(settings.output, found, manifest)
    if settings.json:
        print(tables.as_json(_as_data(settings.output, found, manifest)))


def _model(model_uri: str, folder: Path) -> _Model:
    """Return the model, whose alias may point to another version later."""
    reference = versions.resolve(MlflowClient(), model_uri)
    model = loading.download(reference.uri, folder)
    named = f"{reference.name}/{reference.version}" if reference.version else reference.uri
    return _Model(model, reference, named)


def _inspected(settings: ScoreSettings, output: Folder) -> tuple[Folder, Inspected]:
    with progress.step("Looking at the input"):
        source, listed = listing.find(settings.input, settings.storage, output)
        columns = Columns(
            settings.text_column,
            settings.id_column,
            settings.columns,
            settings.header,
            settings.encoding,
            settings.separator,
            settings.quoting,
        )
        return source, inspection.inspect(source, listed, columns)


def _identity(settings: ScoreSettings, model: _Model, found: Inspected) -> Identity:
    names = ("name", "size", "digest", "problem")
    files = [{name: getattr(file, name) for name in names} for file in found.files]
    return Identity(
        input={"files": files},
        model={
            "uri": model.reference.uri,
            "version": model.version,
            "digest": model_files.digest(model.folder),
        },
        settings={name: getattr(settings, name) for name in _DECISIVE},
    )


def _job(
    settings: ScoreSettings,
    model: _Model,
    source: Folder,
    found: Inspected,
    destination: Folder,
    identity: Identity,
) -> Job:
    threshold = settings.threshold
    params: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    if settings.explain:
        params["explain"] = True
    return Job(
        fingerprint=identity.fingerprint,
        source=source,
        files=found.files,
        destination=destination,
        output=settings.format,
        safe_csv=settings.safe_csv,
        model=str(model.folder),
        model_version=model.version,
        threshold=loading.thresholds(model.folder).chosen if threshold is None else threshold,
        params=params,
        text_column=settings.text_column,
        id_column=settings.id_column,
        columns=settings.columns,
        types=found.types.serialize().to_pybytes(),
    )


def _score(settings: ScoreSettings, job: Job, records: dict[int, Record], scratch: Path) -> None:
    """Score the parts that have no record, and add theirs."""
    total = sum(file.size for file in job.files)
    with progress.step("Scoring", total=total) as step:
        speed = _Speed(step)
        for record in records.values():
            step.advance(record.weight)

        def done(record: Record) -> None:
            records[record.number] = record
            speed.count(record)

        parts = plan.parts(job, settings.part_rows)
        left = (part for part in parts if part.number not in records)
        if settings.engine == "spark":
            spark_engine.score(job, left, settings.spark, scratch, done)
        else:
            local_engine.score(job, left, settings.workers or processors(), scratch, done)


class _Speed:
    """What a step of scoring says of itself.

    Args:
        step: The step.
    """

    def __init__(self, step: progress.Step) -> None:
        self._step, self._rows, self._start = step, 0, time.monotonic()

    def count(self, record: Record) -> None:
        """Take a complete part into account."""
        self._rows += record.scored
        rate = self._rows / max(time.monotonic() - self._start, 1e-3)
        self._step.detail = f"{self._rows:,} messages, {rate:,.0f} a second"
        self._step.advance(record.weight)


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _facts(
    settings: ScoreSettings, records: Sequence[Record], before: int, seconds: float
) -> dict[str, Any]:
    """Return what the manifest tells besides the job and its parts."""
    scored = sum(record.scored for record in records) - before
    packages = ("mlflow", "numpy", "pandas", "pyarrow")
    return {
        "engine": settings.engine,
        "scored_by_this_call": scored,
        "seconds": round(seconds, 3),
        "messages_per_second": round(scored / seconds, 1),
        "seconds_of_all_parts": round(sum(record.seconds for record in records), 3),
        "versions": {
            "spam_mlflow": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


@contextlib.contextmanager
def _explained(output: str) -> Iterator[None]:
    """Say of an error of the output, or of an input that has gone, how to go on."""
    try:
        yield
    except OSError as error:
        raise UserError(f"output={output!r}: {explained(error)}; {GOES_ON}") from error


def _report(output: str, found: Inspected, manifest: Mapping[str, Any]) -> None:
    """Say what was scored, and what was not."""
    problems = [file for file in found.files if file.problem]
    for file in problems[:_SHOWN]:
        logger.warning("%s is not scored: %s", file.name, file.problem)
    if len(problems) > _SHOWN:
        logger.warning("… nor are %s other files", f"{len(problems) - _SHOWN:,}")
    counts = manifest["counts"]
    if counts["without_id"]:
        logger.warning(
            "id_column=%r is null or empty in %s rows that were scored; without id_column, each "
            "row is known by its file and number",
            manifest["settings"]["id_column"],
            f"{counts['without_id']:,}",
        )
    rejected = f", {counts['rejected']:,} rejected (see {output}/rejects)"
    doubtful = f", {counts['low_confidence']:,} with low confidence"
    logger.info(
        "%s holds %s scores, %s of them spam%s%s; %s scored now, %s a second",
        output,
        f"{counts['scored']:,}",
        f"{counts['spam']:,}",
        doubtful if counts["low_confidence"] else "",
        rejected if counts["rejected"] else "",
        f"{manifest['scored_by_this_call']:,}",
        f"{manifest['messages_per_second']:,.0f}",
    )


def _as_data(output: str, found: Inspected, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a program needs to know of the call: the manifest without its files."""
    names = ("counts", "model", "engine", "scored_by_this_call", "seconds", "messages_per_second")
    problems = {file.name: file.problem for file in found.files if file.problem}
    return {
        "output": output,
        **{name: manifest[name] for name in names},
        "files_not_scored": problems,
    }
