"""Progress of what takes more than two seconds, on standard error.

    with progress.step("Splitting 5,574 messages"):
        ...
    with progress.step("Training", total=500) as training:
        training.detail = "epoch 1 of 5"
        training.advance()
    for batch in progress.track(batches, "Scoring", total=len(batches)):
        ...

On a terminal, every step is a line with a spinner or a bar, which is gone when the step has ended.
Steps may be nested. Elsewhere, what is going on is logged to `spam_mlflow`, at most once in some
seconds, and less and less often while a step goes on. Where that logger is silent, as in programs
that import the package and do not configure logging, nothing is shown at all.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

_SHORT = 2.0  # seconds up to which a step is not worth a line
_PAUSE = 3.0  # seconds between two lines of different steps
_LONGEST_PAUSE = 60.0  # seconds between two lines of a step
_TICK = 0.25  # seconds between two looks at the steps

Item = TypeVar("Item")


class Step:
    """Something that takes time; made by `step`.

    Attributes:
        what: What it is.
        total: How much there is to do; None if that is not known.
        done: How much of it is done, which may be set at any time.
        detail: What is going on now, in a few words, which may be set at any time.
        began: When it began, by `time.monotonic`.
        last_line: When it was last logged as a line; None if it was not.
    """

    def __init__(self, what: str, total: float | None) -> None:
        self.what, self.total = what, total
        self.done, self.detail = 0.0, ""
        self.began = time.monotonic()
        self.last_line: float | None = None

    def advance(self, number: float = 1) -> None:
        """Count what is done: `number` more of `total`."""
        self.done += number

    @property
    def text(self) -> str:
        """What is going on, such as "Training: epoch 1 of 5"."""
        return f"{self.what}: {self.detail}" if self.detail else self.what

    def line(self, now: float) -> str:
        """Return what is going on, for how long, how much of it is done, and what is left."""
        seconds = now - self.began
        words = [f"{self.text} … {duration(seconds)}"]
        if self.total and self.done:
            left = seconds * max(self.total - self.done, 0) / self.done
            words += [f"{min(self.done / self.total, 1):.0%}", f"about {duration(left)} left"]
        return ", ".join(words)

    def is_due(self, now: float, last: float) -> bool:
        """Return whether a line is due, where the last line of any step was at `last`."""
        elapsed = now - self.began
        if self.last_line is None:
            return elapsed >= _SHORT and now - last >= _PAUSE
        return now - self.last_line >= min(max(elapsed / 2, 3 * _PAUSE), _LONGEST_PAUSE)


@contextlib.contextmanager
def step(what: str, total: float | None = None) -> Iterator[Step]:
    """Show that something is going on, for as long as the context is open.

    Args:
        what: What it is, in words that begin with a capital, such as "Reading messages".
        total: How much there is to do, in any unit; None if that is not known.

    Yields:
        The step, whose `advance` counts what is done.
    """
    begun = Step(what, total)
    if not logger.isEnabledFor(logging.INFO):
        yield begun
        return
    with _display() as display, display.shown(begun):
        yield begun


def track(items: Iterable[Item], what: str, total: float | None = None) -> Iterator[Item]:
    """Yield items, and show how many of them have been taken.

    Args:
        items: The items.
        what: What is done with them, as for `step`.
        total: Their number; None if that is not known.
    """
    with step(what, total) as tracked:
        for item in items:
            yield item
            tracked.advance()


def duration(seconds: float) -> str:
    """Return a duration in words, such as "8 s", "3 min" or "1.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def log_to_stderr() -> None:
    """Have the project's log lines, and progress, shown on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_LogHandler()])
    logging.getLogger(__package__).setLevel(logging.INFO)


class _LogHandler(logging.StreamHandler[Any]):
    """Writes log lines to standard error as it is at the time: above a spinner, if there is one."""

    @property
    def stream(self) -> Any:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Take no other stream."""


class _Lines:
    """Steps that are logged as lines, by a thread."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True, name="progress")
        self._last = -_PAUSE

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def shown(self, begun: Step) -> Iterator[None]:
        self._steps.append(begun)
        try:
            yield
        finally:
            self._steps.remove(begun)

    def _report(self) -> None:
        while not self._ended.wait(_TICK):
            now = time.monotonic()
            # The innermost step that is long enough says most.
            lasting = [entry for entry in list(self._steps) if now - entry.began >= _SHORT]
            if lasting and lasting[-1].is_due(now, self._last):
                lasting[-1].last_line = self._last = now
                logger.info("%s", lasting[-1].line(now))


class _Live:
    """Steps that are drawn on a terminal, by rich."""

    def __init__(self) -> None:
        self._rows: list[tuple[Step, Any]] = []
        # Not the descriptor of standard error, which is captured while TensorFlow is imported.
        terminal = os.dup(sys.stderr.fileno())
        encoding, errors = sys.stderr.encoding, "backslashreplace"  # as standard error has them
        self._terminal = open(terminal, "w", encoding=encoding, errors=errors)  # noqa: SIM115
        self._progress = _rich_progress(self._terminal)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True, name="progress")

    def start(self) -> None:
        self._progress.start()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._progress.stop()
        self._terminal.close()

    @contextlib.contextmanager
    def shown(self, begun: Step) -> Iterator[None]:
        row = begun, self._progress.add_task(begun.text, total=begun.total)
        self._rows.append(row)
        try:
            yield
        finally:
            self._rows.remove(row)
            self._progress.remove_task(row[1])

    def _draw(self) -> None:
        while not self._ended.wait(_TICK):
            for begun, task in list(self._rows):
                with contextlib.suppress(KeyError):  # it has ended by now
                    self._progress.update(task, description=begun.text, completed=begun.done)


def _rich_progress(terminal: TextIO) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Bar(BarColumn):
        def render(self, task: Task) -> Any:
            """Draw nothing where it is not known how much there is to do.

            Not with an empty text: beside a column without width, rich leaves out the spinner.
            """
            return Text(" ") if task.total is None else super().render(task)

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        Bar(bar_width=16),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00"))),
        TimeRemainingColumn(compact=True),
        console=Console(file=terminal),
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file must not go to the terminal
        transient=True,
        expand=True,
    )


_displays: list[_Lines | _Live] = []


@contextlib.contextmanager
def _display() -> Iterator[_Lines | _Live]:
    """Yield the display of the outermost step, which is made and ended with that step."""
    if _displays:
        yield _displays[-1]
        return
    display: _Lines | _Live = _Live() if sys.stderr.isatty() else _Lines()
    display.start()
    _displays.append(display)
    try:
        yield display
    finally:
        _displays.remove(display)
        display.stop()
