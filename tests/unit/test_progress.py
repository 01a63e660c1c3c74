"""Progress of what takes long."""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator

import pytest

from spam_mlflow import progress
from spam_mlflow.progress import Step
from spam_mlflow.scorer.keras_backend import _stderr_captured


class Terminal:
    """A terminal of 80 columns, and what it is sent."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        self._stream = open(slave, "w", encoding="utf-8")  # noqa: SIM115

    def encode(self, encoding: str) -> None:
        """Have it show the characters of an encoding only, as Python sets standard error up."""
        self._stream.reconfigure(encoding=encoding, errors="backslashreplace")

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        """Make it standard error, within a test: pytest has its own before."""
        patch.setattr("sys.stderr", self._stream)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "80")

    def fileno(self) -> int:
        return self._stream.fileno()

    def sent(self) -> str:
        """Return what it was sent, without control sequences; it is closed then."""
        self._stream.close()
        parts = []
        with contextlib.suppress(OSError):  # which is how the end is told of
            while part := os.read(self._master, 1 << 16):
                parts.append(part)
        return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", b"".join(parts).decode())

    def close(self) -> None:
        self._stream.close()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_a_short_step_is_silent_and_a_long_one_is_told_of_now_and_then() -> None:
    step = Step("Reading messages", None)
    began = step.began
    assert not step.is_due(began + 1.9, last=0)
    assert step.is_due(began + 2, last=began - 3)
    assert not step.is_due(began + 2, last=began)  # another step has just been told of
    step.last_line = began + 2
    assert not step.is_due(began + 10, last=began + 2)
    assert step.is_due(began + 11, last=began + 2)
    step.last_line = began + 1000
    assert not step.is_due(began + 1059, last=began + 1000)
    assert step.is_due(began + 1060, last=began + 1000)


def test_a_line_says_what_is_going_on_and_what_is_left() -> None:
    step = Step("Training", 40)
    assert step.line(step.began + 3) == "Training … 3 s"
    step.advance(10)
    step.detail = "epoch 1 of 4"
    assert step.line(step.began + 120) == "Training: epoch 1 of 4 … 2 min, 25%, about 6 min left"
    step.advance(31)  # more than was expected
    assert step.line(step.began + 120).endswith("100%, about 0 s left")


def test_durations_are_in_the_unit_that_one_would_say() -> None:
    assert [progress.duration(s) for s in (0, 99, 110, 9000)] == ["0 s", "99 s", "2 min", "2.5 h"]


def test_where_there_is_no_terminal_long_steps_are_lines_of_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_SHORT", 0.0)
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    monkeypatch.setattr(progress, "_TICK", 0.01)
    told = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    caplog.set_level(logging.INFO, "spam_mlflow")
    handler = Told()
    logging.getLogger("spam_mlflow.progress").addHandler(handler)
    try:
        with progress.step("Outer"), progress.step("Inner") as inner:
            inner.detail = "first half"
            assert told.wait(10)
    finally:
        logging.getLogger("spam_mlflow.progress").removeHandler(handler)
    assert re.match(r"Inner: first half … 0 s$", caplog.messages[0])
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_nothing_is_shown_where_the_logger_is_silent(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.attach(monkeypatch)
    caplog.set_level(logging.WARNING, "spam_mlflow")
    assert list(progress.track([1, 2], "Counting")) == [1, 2]
    assert terminal.sent() == ""


def test_a_terminal_gets_a_row_for_each_step_and_log_lines_above_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.attach(monkeypatch)
    caplog.set_level(logging.INFO, "spam_mlflow")
    handler = progress._LogHandler()
    logging.getLogger("spam_mlflow").addHandler(handler)
    try:
        with progress.step("Sweep [a]", total=2) as outer, progress.step("Training"):
            outer.advance()
            logging.getLogger("spam_mlflow").info("a line of the log")
    finally:
        logging.getLogger("spam_mlflow").removeHandler(handler)
    text = terminal.sent()
    assert "Sweep [a]" in text
    assert "Training" in text
    assert "a line of the log\r\n" in text
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]+", text)) <= 80


def test_a_step_of_unknown_length_has_a_spinner(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.attach(monkeypatch)
    caplog.set_level(logging.INFO, "spam_mlflow")
    with progress.step("Splitting"):
        pass
    assert re.search(r"[\u2801-\u28ff] Splitting", terminal.sent())


def test_characters_that_a_terminal_cannot_show_are_escaped(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.encode("ascii")
    terminal.attach(monkeypatch)
    caplog.set_level(logging.INFO, "spam_mlflow")
    with progress.step("Reading caf\u00e9.csv", total=2):
        pass
    assert "Reading caf\\xe9.csv" in terminal.sent()


def test_a_step_is_shown_while_the_messages_of_an_import_are_captured(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.attach(monkeypatch)
    caplog.set_level(logging.INFO, "spam_mlflow")
    before = os.dup(2)
    os.dup2(terminal.fileno(), 2)
    try:
        with _stderr_captured(), progress.step("Loading TensorFlow"):
            os.write(2, b"message of a library")
    finally:
        os.dup2(before, 2)
        os.close(before)
    text = terminal.sent()
    assert "Loading TensorFlow" in text
    assert "message of a library" not in text


def test_a_step_ends_with_the_error_that_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "spam_mlflow")
    with pytest.raises(ValueError, match="broken"), progress.step("Reading"):
        raise ValueError("broken")
    assert not progress._displays
