"""List, export, review or delete stored inferences."""

import getpass
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from spam_mlflow import private_files
from spam_mlflow.config.schema import InferencesSettings
from spam_mlflow.data.sources import feedback
from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import tables
from spam_mlflow.inference_store import store as stores
from spam_mlflow.inference_store.records import Filters, is_id, new_feedback
from spam_mlflow.inference_store.store import Store
from spam_mlflow.inference_store.texts import KEY_VARIABLE
from spam_mlflow.printable import printable
from spam_mlflow.serving import exports

logger = logging.getLogger(__name__)

_TEXT_SHOWN = 60  # characters


def run(settings: InferencesSettings, cfg: DictConfig) -> None:
    """Do what `action` names.

    Raises:
        UserError: If there is no store, or it cannot be used.
    """
    store = stores.opened(settings.store, create=settings.action == "create")
    try:
        _ACTIONS[settings.action](settings, store)
    finally:
        store.close()


def _list(settings: InferencesSettings, store: Store) -> None:
    rows: list[tuple[str, str, str]] = []
    for page in stores.pages(store, _filters(settings)):
        rows += map(_listed, exports.shown(store, page[: settings.limit - len(rows)]))
        if len(rows) == settings.limit:
            break
    heads = ("inference, at (UTC)", "score", "text")
    print(tables.terminal(heads, rows, sys.stdout))


def _listed(row: Mapping[str, Any]) -> tuple[str, str, str]:
    said = [f"said: {report['label']}" for report in row["feedback"]]
    source = printable(row["source"], _TEXT_SHOWN)
    return (
        f"{row['id']}\n{row['at']}\nversion {row['model_version']}, {source}",
        "\n".join([f"{row['label']} {row['spam_probability']:.4f}", *said]),
        printable(row["text"] or "", _TEXT_SHOWN) or f"({row['text_form']})",
    )


def _export(settings: InferencesSettings, store: Store) -> None:
    lines = exports.written(store, _filters(settings), settings.format, settings.safe_csv)
    if settings.output is None:
        sys.stdout.writelines(lines)
        return
    try:
        with private_files.writer(Path(settings.output), replaces=True) as file:
            file.writelines(lines)
    except OSError as error:
        raise UserError(f"output={settings.output} cannot be written: {error.strerror}") from error
    logger.info("Exported to %s, which only you may read", settings.output)


def _create(settings: InferencesSettings, store: Store) -> None:
    store.create()
    print("the store is there")


def _purge(settings: InferencesSettings, store: Store) -> None:
    print(f"{store.purge():,} expired inferences deleted")


def _forget(settings: InferencesSettings, store: Store) -> None:
    if (settings.id is None) == (settings.text is None):
        raise UserError("forget needs one of id=... and text=...")
    if settings.text is not None:
        _forget_text(settings.text, store)
        return
    if not is_id(str(settings.id)):
        raise UserError(f"id={settings.id} is no ID of an inference; answers and pages have them")
    deleted = int(store.find(str(settings.id)) is not None)
    store.delete([str(settings.id)])
    print(_forgotten(deleted))


def _forget_text(text: str, store: Store) -> None:
    """Forget a text.

    Raises:
        UserError: If there are inferences that could not be compared with it.
    """
    found = stores.forget(store, text)
    print(_forgotten(found.deleted))
    open_cases = []
    if found.locked:
        open_cases.append(
            f"{found.locked:,} were stored with another {KEY_VARIABLE}: set it to the server's key"
        )
    if found.without:
        open_cases.append(
            f"{found.without:,} were stored without their text, as by store.text=off: forget them "
            "by id=..."
        )
    if open_cases:
        raise UserError(f"not all could be compared with the text: {'; '.join(open_cases)}")


def _forgotten(count: int) -> str:
    return f"{count:,} inferences deleted, with what was said of them"


def _review(settings: InferencesSettings, store: Store) -> None:
    """Show what a reviewer should decide on, or store a decision."""
    if settings.id is None:
        _show_cases(settings, store)
        return
    inference = store.find(settings.id)
    if inference is None or settings.label is None:
        raise UserError(
            f"review needs label=ham or label=spam, and the id of a stored inference; id="
            f"{settings.id} is {'one' if inference else 'none, or it has expired'}"
        )
    reviewer = settings.reviewer or getpass.getuser()
    store.add_feedback(
        new_feedback(inference.id, settings.label, reviewer, "review", "", store.days)
    )
    print(f"{reviewer} says that {inference.id} is {settings.label}, and its near-copies, too")


def _show_cases(settings: InferencesSettings, store: Store) -> None:
    cases = feedback.found_cases(store, settings.feedback)
    rows = [
        (
            f"{case.inference_id}\n{case.why}; messages like it: {len(case.texts):,}",
            f"{case.predicted}{'' if case.confident else ', unsure'}\n"
            f"said: ham {case.votes['ham']:.1f}, spam {case.votes['spam']:.1f}",
            printable(case.texts[0], _TEXT_SHOWN),
        )
        for case in cases
        if case.verdict != "accepted"
    ]
    heads = ("inference, and why it is open", "predicted", "text")
    print(tables.terminal(heads, rows[: settings.limit], sys.stdout))
    print(f"\n{len(rows):,} to decide, {len(cases) - len(rows):,} decided")


def _filters(settings: InferencesSettings) -> Filters:
    return Filters(settings.day, settings.version, settings.label)


_ACTIONS: Mapping[str, Callable[[InferencesSettings, Store], None]] = {
    "create": _create,
    "list": _list,
    "export": _export,
    "purge": _purge,
    "forget": _forget,
    "review": _review,
}
