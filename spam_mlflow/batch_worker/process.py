"""A process that scores parts: it reads one a line, and answers each with a line."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from .jobs import Job, Part
from .part_scoring import PartScorer


def main(job_file: str) -> None:
    """Score the parts that the standard input names, until it ends.

    The first answer is `{"ready": true}`. Each part's is `{"record": ...}`, or `{"error": ...}`
    with what keeps this and the other parts from being scored.

    Args:
        job_file: File with the job as JSON.
    """
    answers = _own_output()
    job = Job.from_json(Path(job_file).read_text(encoding="utf-8"))
    try:
        scorer = PartScorer(job)
    except Exception as error:  # the version's code may raise anything
        _answer(answers, {"error": loading_failure(error)})
        return
    _answer(answers, {"ready": True})
    with contextlib.suppress(BrokenPipeError):  # the job was ended, and no one waits for an answer
        for line in sys.stdin:
            _answer(answers, _scored(scorer, job, Part(**json.loads(line))))


def _scored(scorer: PartScorer, job: Job, part: Part) -> dict[str, object]:
    try:
        return {"record": scorer.score(part).to_json()}
    except Exception as error:  # only a process that is killed gives no answer
        return {"error": failure(error, job, part)}


def failure(error: Exception, job: Job, part: Part) -> str:
    """Return in one line why a part was not scored."""
    if isinstance(error, OSError):
        return explained(error)
    where = f"{part.name}, of {job.files[part.file].name}"
    if isinstance(error, MemoryError):
        return f"{where}: there is too little memory; set workers or part_rows lower"
    return f"{where}: {_named(error)}"


def loading_failure(error: Exception) -> str:
    """Return in one line why a model was not loaded."""
    return str(error) if isinstance(error, ValueError) else _named(error)


def _named(error: Exception) -> str:
    """Return an error's kind and the first line of its words."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _own_output() -> TextIO:
    """Return the standard output; what a version's code prints goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(stream: TextIO, content: dict[str, object]) -> None:
    stream.write(f"{json.dumps(content)}\n")
    stream.flush()


def explained(error: OSError) -> str:
    """Return what an error of a disk or of a store says, in one line."""
    words = (error.strerror or str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{error.filename}: {words}" if error.filename else words


if __name__ == "__main__":
    main(sys.argv[1])
