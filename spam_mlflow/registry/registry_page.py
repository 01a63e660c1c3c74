"""The description of the registered model, which MLflow shows at the top of its page."""

import contextlib
import html
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spam_mlflow.tracking import links
from spam_mlflow.tracking.runs import REGISTERED_MODEL

if TYPE_CHECKING:
    from spam_mlflow.registry.aliases import Event

_INTRODUCTION = """Labels short texts (SMS, comments) as ham or spam, with a probability. \
Load the champion with `mlflow.pyfunc.load_model("models:/spam-classifier@champion")`.

A version's description is its model card, and its run has the report, `report.html`. Only \
versions that passed the gate, or were promoted with a reason, have the alias `champion`; \
`validation_status` says how a version fared. Names of tags that begin with `promotion.` are \
records for programs: below is what they say."""

_LINK = "[Compare the training runs]({address})."

_MARK = "<!-- promotion history -->"
_LIMIT = 4500  # characters; MLflow's own limit is 5000


def write(
    client: MlflowClient, events: "Sequence[Event]", experiment_id: str | None = None
) -> None:
    """Write the history of promotions into the description; what users wrote above it stays.

    The page is for people, so that an error of the store does not matter here.

    Args:
        client: Client of the tracking store.
        events: Moves of all aliases, the oldest first.
        experiment_id: ID of the experiment that a new description links to; None for no link.
    """
    runs = links.runs_view(experiment_id) if experiment_id else None
    with contextlib.suppress(MlflowException):
        before = client.get_registered_model(REGISTERED_MODEL).description or ""
        wanted = described(before, events, runs)
        if wanted != before:
            client.update_registered_model(REGISTERED_MODEL, wanted)


def described(before: str, events: "Sequence[Event]", runs: str | None = None) -> str:
    """Return the description.

    Args:
        before: The description so far.
        events: Moves of all aliases, the oldest first.
        runs: Address of the runs that a new introduction links to; None for no link.
    """
    new = "\n\n".join([_INTRODUCTION, *([_LINK.format(address=runs)] if runs else [])])
    introduction = before.partition(_MARK)[0].strip() or new
    done = [event for event in reversed(events) if event.done]
    header = f"{introduction}\n\n{_MARK}\n\n### Promotions, the latest first\n\n"
    if not done:
        return f"{header}None yet."
    text = f"{header}| when (UTC) | what | by | reason |\n|---|---|---|---|"
    for number, event in enumerate(done):
        # MLflow draws tables without any space between columns.
        row = f"\n| {' &nbsp; | '.join(map(_cell, _row(event)))} |"
        if len(text) + len(row) > _LIMIT:
            return f"{text}\n\n{len(done) - number} earlier ones: see the command `history`."
        text += row
    return text


def _row(event: "Event") -> tuple[str, ...]:
    at = datetime.fromisoformat(event.at).strftime("%Y-%m-%d %H:%M")
    before = f", was {event.previous}" if event.previous else ""
    what = f"{event.action}: {event.alias} is version {event.version}{before}"
    return at, what, event.by, event.reason


def _cell(text: str) -> str:
    """Return text for a cell of a Markdown table, in which nothing of it has a meaning."""
    plain = html.escape(" ".join(text.split()), quote=False)
    for character in "\\`*_[]|":
        plain = plain.replace(character, f"\\{character}")
    return plain
