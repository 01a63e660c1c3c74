"""The command line in this process: nothing is imported again, which takes most of a short run."""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import fluent
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from spam_mlflow import cli


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m spam_mlflow` with `arguments` as a process in `folder` would.

    Afterwards, environment, logging, signal handlers and MLflow are as they were.
    """
    output, errors = io.StringIO(), io.StringIO()
    with (
        _logging(),
        _signals(),
        _use_tracking_uri(None),  # type: ignore[arg-type] # go by the environment
        _environment(environment),
        _temporary_folder(),
        _mlflow(),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            status = cli.main(arguments)
        except SystemExit as end:  # of argparse
            status = end.code if isinstance(end.code, int) else 1
        except Exception:
            traceback.print_exc()
            status = 1
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    try:
        _set_environment(variables)
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[None]:
    """Have TMPDIR looked up again, as by a new process."""
    before = tempfile.tempdir
    tempfile.tempdir = None
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Take pytest's handlers away, so that the command line sets up its own."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers.clear()
    levels = {logger: logger.level for logger in _loggers()}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger in _loggers():
            logger.setLevel(levels.get(logger, logger.level))


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(entry for entry in known if isinstance(entry, logging.Logger))]


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _mlflow() -> Iterator[None]:
    """Have MLflow forget run and experiment afterwards, and boto3 the session made for it."""
    try:
        yield
    finally:
        while mlflow.active_run() is not None:  # as MLflow does where a process ends
            with contextlib.suppress(MlflowException):  # the store may be what failed
                mlflow.end_run("FAILED")
        for monitor in fluent.run_id_to_system_metrics_monitor.values():
            monitor.finish()
        fluent.run_id_to_system_metrics_monitor.clear()
        fluent._active_experiment_id = None
        if "boto3" in sys.modules:
            vars(sys.modules["boto3"])["DEFAULT_SESSION"] = None
