"""Stored inferences as CSV or JSON lines, written while they are read, few of them in memory."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from spam_mlflow.batch_worker.formulas import escaped
from spam_mlflow.inference_store.records import Feedback, Filters, Inference
from spam_mlflow.inference_store.store import Store, pages

Format = Literal["csv", "jsonl"]

_SHOWN = (
    *("id", "at", "model_name", "model_version", "label", "spam_probability", "threshold"),
    *("source", "text_form", "text", "text_hmac", "text_length"),
)
"""Attributes of an inference that others see."""

_SAID = 100  # reports on an inference that are shown, the newest ones

_TOGETHER = 100_000  # characters of lines that are written at once

_COLUMNS = (*_SHOWN, "text_cut", "feedback")


def shown(store: Store, found: Sequence[Inference]) -> Iterator[dict[str, Any]]:
    """Yield inferences as JSON-ready data, each with its text, where that is stored, and feedback.

    That is what each reporter said last.

    Args:
        store: The store that they are from.
        found: The inferences.
    """
    said: dict[str, list[dict[str, str]]] = {}
    for feedback in store.feedback_of([inference.id for inference in found]):
        said.setdefault(feedback.inference_id, []).append(shown_feedback(feedback))
    for inference in found:
        row = {name: getattr(inference, name) for name in _SHOWN}
        text = store.texts.reveal(inference)
        is_whole = inference.text_form == "redacted" or text is None
        is_cut = not is_whole and len(str(text)) < (inference.text_length or 0)
        yield row | {
            "text": text,
            "text_cut": is_cut,
            "feedback": said.get(inference.id, [])[-_SAID:],
        }


def shown_feedback(feedback: Feedback) -> dict[str, str]:
    """Return feedback as JSON-ready data."""
    names = ("id", "at", "label", "reporter", "kind", "note")
    return {name: getattr(feedback, name) for name in names}


def written(store: Store, filters: Filters, form: Format, safe: bool) -> Iterator[str]:
    """Yield the lines of an export, the newest inference first.

    Args:
        store: The store.
        filters: Which inferences are wanted.
        form: "csv", with all text in quotes, or "jsonl".
        safe: Of CSV: write an apostrophe in front of text that a spreadsheet takes for a formula.
    """
    if form == "csv":
        yield _csv_row(_COLUMNS)
    waiting, characters = [], 0
    for row in (row for page in pages(store, filters) for row in shown(store, page)):
        waiting.append(
            json.dumps(row, ensure_ascii=False) + "\n" if form == "jsonl" else _line(row, safe)
        )
        characters += len(waiting[-1])
        if characters >= _TOGETHER:
            yield "".join(waiting)
            waiting, characters = [], 0
    yield "".join(waiting)


def _line(row: Mapping[str, Any], safe: bool) -> str:
    said = json.dumps(row["feedback"], ensure_ascii=False) if row["feedback"] else ""
    cells = [row[name] for name in _COLUMNS[:-1]] + [said]
    return _csv_row([escaped(cell) for cell in cells] if safe else cells)


def _csv_row(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(
        ["" if cell is None else cell for cell in cells]
    )
    return line.getvalue()
