"""Scoring parts on Spark: in a session that is there, on a cluster, or on this machine."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spam_mlflow.batch_scoring.local_engine import ENVIRONMENT, PACKAGE, copy_worker
from spam_mlflow.batch_scoring.output_folder import GOES_ON
from spam_mlflow.batch_worker.jobs import Job, Part
from spam_mlflow.batch_worker.part_scoring import Record
from spam_mlflow.batch_worker.spark_tasks import MODEL_ARCHIVE
from spam_mlflow.config.schema import SparkSettings
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_JAVA = 17  # the oldest version that Spark 4 runs on
_LOCAL = re.compile(r"local\[(\*|\d+)\]")
_LOOK_SECONDS = 1.0  # between two looks at which parts are complete
_ON_THIS_MACHINE = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.log.level": "ERROR",
}


def score(
    job: Job,
    parts: Iterator[Part],
    settings: SparkSettings,
    scratch: Path,
    done: Callable[[Record], None],
) -> None:
    """Score parts, each in a task.

    Executors read the input and write the output themselves.

    Args:
        job: The job.
        parts: The parts to score.
        settings: How to reach Spark.
        scratch: Empty folder on this machine.
        done: Called in this thread with the record of each complete part.

    Raises:
        UserError: If Spark cannot be used, or a part cannot be read or written.
    """
    planned = list(parts)
    if not planned:
        return
    archive = _archive(job, scratch)
    with _quiet(), _session(settings) as spark, _importable(archive):
        spark.addArtifacts(str(archive), pyfile=True)
        tasks = importlib.import_module(f"{archive.stem}.spark_tasks")
        function = tasks.task(job.to_json(), [json.dumps(vars(part)) for part in planned])
        numbers = spark.range(0, len(planned), 1, len(planned))
        run = _Run(lambda: numbers.mapInArrow(function, "answer string").collect())
        seen: set[int] = set()
        while not run.ended.wait(_LOOK_SECONDS):
            for record in _complete(job, planned, seen):
                done(record)
        for record in _records(job, run.rows()):
            if record.number not in seen:
                done(record)


class _Run:
    """A query in a thread, so that what it has done can be looked at.

    Args:
        query: Returns its rows.

    Attributes:
        ended: Whether it has.
    """

    def __init__(self, query: Callable[[], Sequence[Any]]) -> None:
        self.ended = threading.Event()
        self._query, self._rows = query, list[Any]()
        self._error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._rows = list(self._query())
        except Exception as error:  # it is raised where the rows are asked for
            self._error = error
        self.ended.set()

    def rows(self) -> list[Any]:
        """Return the rows.

        Raises:
            UserError: If the query failed.
        """
        if self._error is not None:
            raise UserError(f"Spark: {_reason(self._error)}; {GOES_ON}") from self._error
        return self._rows


def _reason(error: Exception) -> str:
    """Return the line of Spark's error that says why: that of Python, where there is one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception): ", line)]
    return ([*lines[:1], *causes] or [type(error).__name__])[-1][:300]


def _complete(job: Job, planned: Sequence[Part], seen: set[int]) -> Iterator[Record]:
    """Yield the records of parts that have become complete since the last look."""
    with contextlib.suppress(OSError):  # the next look may succeed
        sizes = job.destination.sizes()
        for part in planned:
            if part.number not in seen and part.record in sizes:
                record = Record.from_json(job.destination.read(part.record).decode())
                if record.fingerprint == job.fingerprint:
                    seen.add(part.number)
                    yield record


def _records(job: Job, rows: Sequence[Any]) -> Iterator[Record]:
    """Yield the records that the tasks returned.

    Raises:
        UserError: If a part was not scored, or is not where this machine sees it.
    """
    sizes = job.destination.sizes()
    for row in rows:
        answer = json.loads(row["answer"])
        if "error" in answer:
            raise UserError(f"{answer['error']}; {GOES_ON}")
        record = Record.from_json(answer["record"])
        if not set(record.files) <= set(sizes):
            raise UserError(
                f"the executors wrote to {job.destination.path} of their own machines; give an "
                "output that all machines see, such as s3://bucket/prefix"
            )
        yield record


def _archive(job: Job, scratch: Path) -> Path:
    """Return a zip file with the worker's code and the model, for the executors.

    File and package are named by their content: a session keeps what it was given, and takes
    another file of the same name for an error.
    """
    copied = copy_worker(scratch)
    (copied / MODEL_ARCHIVE).write_bytes(_zipped(Path(job.model), ""))
    name = f"{PACKAGE}_{hashlib.sha256(_zipped(copied, '')).hexdigest()[:16]}"
    archive = scratch / f"{name}.zip"
    archive.write_bytes(_zipped(copied.rename(scratch / name), f"{name}/"))
    return archive


def _zipped(folder: Path, prefix: str) -> bytes:
    """Return a folder's files as a zip file, which is the same for the same files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as stream:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(prefix + file.relative_to(folder).as_posix())
            stream.writestr(entry, file.read_bytes())
    return content.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress PySpark's warning that its own pandas is not ours, which is not used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support", FutureWarning)
        yield


@contextlib.contextmanager
def _importable(archive: Path) -> Iterator[None]:
    """Have this process know the worker's code by the name that the executors know it by."""
    folder = str(archive.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.split(".")[0] == archive.stem]:
            del sys.modules[name]


@contextlib.contextmanager
def _session(settings: SparkSettings) -> "Iterator[SparkSession]":
    """Yield the session that is there, or one that ends with the block.

    Raises:
        UserError: If PySpark or Java is missing, or Spark does not start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UserError(
            "engine=spark needs PySpark 4: pip install 'pyspark>=4,<5', or give engine=local"
        ) from error
    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    if settings.remote is None:
        _require_java()
    try:
        spark = _configured(SparkSession.builder, settings).getOrCreate()
    except (PySparkException, RuntimeError, OSError) as error:
        raise UserError(f"Spark does not start: {_reason(error)}") from error
    try:
        yield spark
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            spark.interruptAll()
        raise
    finally:
        with contextlib.suppress(Exception):
            spark.stop()


def _configured(builder: Any, settings: SparkSettings) -> Any:
    builder = builder.appName("spam_mlflow score")
    given = dict(setting.split("=", 1) for setting in settings.config)
    options = {f"spark.executorEnv.{name}": value for name, value in ENVIRONMENT.items()} | given
    if settings.remote is not None:
        builder = builder.remote(settings.remote)
    else:
        # On one machine, a task whose process is killed would end the job, unless this is said.
        master = _LOCAL.sub(r"local[\1,3]", settings.master)
        builder = builder.master(master)
        if master.startswith("local"):
            options = {**_ON_THIS_MACHINE, **options}
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for key, value in options.items():
        builder = builder.config(key, value)
    return builder


def _require_java() -> None:
    """Raise UserError if there is no Java that Spark runs on."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    found = None
    if java:
        with contextlib.suppress(OSError):
            done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
            version = re.search(r'version "(\d+)', done.stderr)
            found = int(version[1]) if version else None
    if found is None or found < _JAVA:
        what = f"Java {found} at {java}" if found else "none"
        raise UserError(
            f"engine=spark needs Java {_JAVA} or later, and there is {what}; install it, set "
            "JAVA_HOME, or give engine=local"
        )
