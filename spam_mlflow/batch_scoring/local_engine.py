"""Scoring parts on this machine, in processes that have only the version's own code."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spam_mlflow import batch_worker
from spam_mlflow.batch_scoring.output_folder import GOES_ON
from spam_mlflow.batch_worker.jobs import Job, Part
from spam_mlflow.batch_worker.part_scoring import Record
from spam_mlflow.errors import UserError
from spam_mlflow.printable import printable

PACKAGE = "spam_batch_worker"
"""Import name of the worker's code outside this project."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # The memory of one batch's arrays serves those of the next: otherwise glibc returns it to the
    # system and asks for it again, which takes a sixth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**24),
}
"""Variables of a process that scores, where the user has not set them."""

_SHOWN = 200  # characters of a process's last words that an error repeats
_ENDING_SECONDS = 10.0  # for a process that has closed its output
_ATTEMPTS = 3  # at a part whose process is killed


def copy_worker(folder: Path) -> Path:
    """Copy the worker's code to where processes import it from.

    Args:
        folder: Folder to put the package into.

    Returns:
        The package.
    """
    source = Path(batch_worker.__file__).parent
    package = folder / PACKAGE
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def score(
    job: Job, parts: Iterator[Part], workers: int, scratch: Path, done: Callable[[Record], None]
) -> None:
    """Score parts, each in one of several processes.

    A process gets its next part when it has finished one, so that few parts are in memory.

    Args:
        job: The job.
        parts: The parts to score.
        workers: Number of processes.
        scratch: Empty folder for the processes' files.
        done: Called in this thread with the record of each complete part.

    Raises:
        UserError: If a part cannot be written or read, or if its process is killed again and again.
    """
    copy_worker(scratch)
    file = scratch / "job.json"
    file.write_text(job.to_json(), encoding="utf-8")
    pool = _Pool(parts, [_Process(scratch, file, number) for number in range(workers)])
    try:
        for record in pool.records():
            done(record)
    finally:
        pool.stop()


class _Process:
    """A worker process, which is started again when it was killed.

    Args:
        scratch: Folder with the worker's code.
        job: File with the job.
        number: Of the process, from 0.
    """

    def __init__(self, scratch: Path, job: Path, number: int) -> None:
        self._scratch, self._job = scratch, job
        self._log = scratch / f"worker-{number}.log"
        self._process: subprocess.Popen[str] | None = None
        self._ended = False
        self._killed = False

    def score(self, part: Part) -> Record:
        """Score a part.

        Raises:
            UserError: If that is impossible.
        """
        for _ in range(_ATTEMPTS):
            answer = self._asked(part)
            if answer is not None and "error" in answer:
                raise UserError(f"{answer['error']}; {GOES_ON}")
            if answer is not None:
                return Record.from_json(answer["record"])
        cause = "; is there too little memory? set workers lower" if self._killed else ""
        raise UserError(
            f"the process that scored {part.name} ended {_ATTEMPTS} times ({self._last_words()})"
            f"{cause}; {GOES_ON}"
        )

    def _asked(self, part: Part) -> dict[str, Any] | None:
        """Return the answer to a part, None if the process was killed."""
        process = self._started()
        if process is None:
            return None
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it was killed: there is no answer
            process.stdin.write(f"{json.dumps(vars(part))}\n")
            process.stdin.flush()
        return self._answer(process)

    def _started(self) -> "subprocess.Popen[str] | None":
        """Return the process, when it has loaded the model; None if it was killed before."""
        if self._process is not None or self._ended:
            return self._process
        path = os.pathsep.join([str(self._scratch), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                # With -P, Python does not look for packages in the working directory.
                [sys.executable, "-P", "-m", f"{PACKAGE}.process", str(self._job)],
                env={**ENVIRONMENT, **os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for the job, which ends its processes
            )
        answer = self._answer(process)
        if answer is not None and "error" in answer:
            raise UserError(str(answer["error"]))
        return process if answer is not None else None

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any] | None:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith("\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it ends, unless it hangs there
                self._killed = process.wait(_ENDING_SECONDS) < 0
            self.stop()
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return printable(said[-1], _SHOWN) if said else "it was killed"

    def end(self) -> None:
        """End the process for good."""
        self._ended = True
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it does: a part is complete or not there."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with contextlib.suppress(OSError):  # what was not sent is no longer needed
                    stream.close()


class _Pool:
    """Threads that each give one process the next part.

    Args:
        parts: The parts to score.
        processes: The processes.
    """

    def __init__(self, parts: Iterator[Part], processes: list[_Process]) -> None:
        self._parts, self._processes = parts, processes
        self._lock = threading.Lock()
        self._answers: queue.Queue[Record | BaseException | None] = queue.Queue()
        self._stopped = False

    def records(self) -> Iterator[Record]:
        """Yield the records of the parts as they are complete.

        Raises:
            Exception: That of the first part that failed.
        """
        threads = [
            threading.Thread(target=self._work, args=(process,), daemon=True)
            for process in self._processes
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            answer = self._answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                running -= 1
            else:
                yield answer

    def _work(self, process: _Process) -> None:
        try:
            while (part := self._next()) is not None:
                self._answers.put(process.score(part))
            process.end()
        except Exception as error:  # it is raised where the records are read
            self._answers.put(error)
        self._answers.put(None)

    def _next(self) -> Part | None:
        with self._lock:
            return None if self._stopped else next(self._parts, None)

    def stop(self) -> None:
        """End all processes."""
        self._stopped = True
        for process in self._processes:
            process.end()
