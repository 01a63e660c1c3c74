"""What a comparison has found, as one self-contained HTML file."""

import base64
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spam_mlflow.drift import comparison
from spam_mlflow.drift.comparison import FEWEST, Finding
from spam_mlflow.drift.reference import Reference
from spam_mlflow.drift.windows import Windows
from spam_mlflow.tracking import page_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "drift.html"

_NOW, _BEFORE = "#d1495b", "#2a6f97"
_SOURCES = 20  # that are listed


def verdict(findings: Sequence[Finding], messages: int) -> str:
    """Return what is found in one line.

    Args:
        findings: The results; none if there are too few messages.
        messages: How many there are.
    """
    if not findings:
        return f"{messages:,} messages are too few to say anything; {FEWEST} are needed"
    alarms = [finding.name for finding in findings if finding.alarm]
    return f"alarm: {', '.join(alarms)}" if alarms else "no drift found"


def write(
    title: str,
    windows: Windows,
    reference: Reference,
    findings: Sequence[Finding],
    period: str,
    folder: Path,
) -> Path:
    """Write the report to FILE in `folder`, and return that file.

    Args:
        title: Title of the page.
        windows: What was compared.
        reference: What it was compared with.
        findings: The results.
        period: The time of the window, in words.
        folder: Folder for the file.
    """
    from jinja2 import Environment

    template = resources.files("spam_mlflow.drift").joinpath("report.html").read_text("utf-8")
    messages = len(windows.window.logits)
    sample = reference.sample
    text = (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(template)
        .render(
            title=title,
            style=page_style.css(),
            verdict=verdict(findings, messages),
            alarms=any(finding.alarm for finding in findings),
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            messages=f"{messages:,}",
            period=period,
            reference=f"{len(sample.logits):,}",
            findings=findings,
            psi=comparison.psi(windows.window.logits, sample.logits) if messages else np.nan,
            sources=_sources(windows, reference),
            plots=[(name, _png(figure)) for name, figure in _plots(windows, reference)],
        )
    )
    file = folder / FILE
    file.write_text(text, encoding="utf-8")
    return file


def _sources(windows: Windows, reference: Reference) -> list[tuple[str, int, int]]:
    now, before = windows.window.sources, reference.sample.sources
    names = sorted({*now, *before}, key=lambda name: -now.get(name, 0))[:_SOURCES]
    return [(name, now.get(name, 0), before.get(name, 0)) for name in names]


def _plots(windows: Windows, reference: Reference) -> "Iterator[tuple[str, Figure]]":
    if len(windows.window.logits):
        yield "Scores", _scores(windows, reference)
    if windows.by_day:
        yield "Spam share by day, with its 95 % interval", _by_day(windows, reference)


def _figure() -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    return figure, figure.subplots()


def _scores(windows: Windows, reference: Reference) -> "Figure":
    figure, axes = _figure()
    edges = np.linspace(-15, 15, 41)
    for values, color, name in (
        (reference.sample.logits, _BEFORE, "reference"),
        (windows.window.logits, _NOW, "window"),
    ):
        kept = np.clip(values, edges[0], edges[-1])
        axes.hist(kept, edges, density=True, histtype="step", color=color, label=name)
    axes.set_xlabel("logit of the spam probability")
    axes.set_ylabel("density")
    axes.legend()
    return figure


def _by_day(windows: Windows, reference: Reference) -> "Figure":
    figure, axes = _figure()
    days = list(windows.by_day)
    shares = [
        comparison.spam_share(sample.probabilities, reference.spam_share)
        for sample in windows.by_day.values()
    ]
    low, high = zip(*(share.interval for share in shares), strict=True)
    axes.fill_between(days, low, high, color=_NOW, alpha=0.2)
    axes.plot(days, [share.value for share in shares], "o-", color=_NOW)
    axes.axhline(reference.spam_share, color=_BEFORE, label="training")
    axes.set_ylim(0, 1)
    axes.tick_params(axis="x", rotation=90)
    axes.legend()
    return figure


def _png(figure: "Figure") -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return base64.b64encode(stream.getvalue()).decode("ascii")
