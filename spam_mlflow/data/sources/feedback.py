"""Labels that people gave to served predictions, beside the messages of another source."""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic.dataclasses import dataclass

from spam_mlflow import private_files
from spam_mlflow.config.schema import CONFIG, FeedbackSettings, Text
from spam_mlflow.data import votes
from spam_mlflow.data.messages import COLUMNS, Messages
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store import reports
from spam_mlflow.inference_store import store as stores
from spam_mlflow.inference_store.store import Store
from spam_mlflow.scorer.normalization import duplicate_key

SOURCE, REVIEWED = "feedback", "feedback_reviewed"
"""The sources of messages from feedback: of reporters alone, and decided by a reviewer."""

_COLUMNS = ["text", "label", "source"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, config=CONFIG)
class FeedbackSource:
    """The messages of another source, and labels from feedback that are only trained on.

    Attributes:
        base: The other source, a `spam_mlflow.data.sources.Source`. Its messages are split as they
            are without feedback, and their labels stand.
        store: A `spam_mlflow.inference_store.store.StoreSettings`.
        limits: When feedback counts.
        snapshot: File with what is used of the feedback; None for none.
    """

    base: Any
    store: Any
    limits: FeedbackSettings
    snapshot: Text | None = None

    def load(self) -> Messages:
        """Read the other source, and what is used of the feedback.

        Returns:
            The messages of both; those of feedback come last and are for training only.

        Raises:
            UserError: If one of them cannot be read.
        """
        base: Messages = self.base.load()
        for name in {SOURCE, REVIEWED} & set(base.frame["source"]):
            raise UserError(f"data.base has a source called {name!r} already; rename it")
        rows = self._rows()
        known = set(base.frame["text"].map(duplicate_key))
        new = rows[~rows["text"].map(duplicate_key).isin(known)]
        logger.info("%s labels from feedback, %s of other messages", len(rows), len(new))
        extra = new.assign(group="")[list(COLUMNS)].astype(str)
        return dataclasses.replace(
            base,
            frame=pd.concat([base.frame, extra], ignore_index=True),
            name=f"{base.name} and feedback",
            train_only=(SOURCE, REVIEWED),
            train_only_share=self.limits.max_share,
        )

    def _rows(self) -> pd.DataFrame:
        """Return text, label and source of what is used of the feedback."""
        if self.snapshot is not None and Path(self.snapshot).exists():
            return _read(Path(self.snapshot))
        with contextlib.closing(stores.opened(self.store)) as store:
            rows = frame(found_cases(store, self.limits), self.limits.per_case)
        if self.snapshot is not None:
            write(rows, Path(self.snapshot))
        return rows


def found_cases(store: Store, limits: FeedbackSettings) -> list[votes.Case]:
    """Return the cases of a store, and warn of reports that are left out.

    Args:
        store: The store.
        limits: When feedback counts.
    """
    read = reports.read(store)
    if read.unreadable:
        logger.warning(
            "%s reports are left out: their messages are not stored; see store.text",
            f"{read.unreadable:,}",
        )
    if read.beyond:
        logger.warning(
            "%s reports are left out: their reporters had made %s on the same day before",
            f"{read.beyond:,}",
            f"{reports.OF_A_DAY:,}",
        )
    if read.late:
        logger.warning(
            "%s reports are left out: %s were made before, and no more are read; lower store.days, "
            "or delete what is not needed with `inferences purge` and `inferences forget`",
            f"{read.late:,}",
            f"{reports.IN_ALL:,}",
        )
    return votes.cases(read.found, limits)


def frame(cases: list[votes.Case], per_case: int) -> pd.DataFrame:
    """Return text, label and source of what is trained on, the cases that most judged first.

    Args:
        cases: The cases.
        per_case: Messages of a case that are trained on.
    """
    ordered = sorted(cases, key=lambda case: -case.reporters)
    rows = [
        (text, case.label, REVIEWED if case.is_reviewed else SOURCE)
        for text, case in votes.training_rows(ordered, per_case)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=object)


def digest(rows: pd.DataFrame) -> str:
    """Return the SHA-256 (hex) over texts, labels and sources, whatever their order."""
    return hashlib.sha256("\n".join(sorted(_lines(rows))).encode()).hexdigest()


def label_digests(rows: pd.DataFrame) -> set[str]:
    """Return the `key_digests` of texts and labels."""
    return key_digests(rows["text"].map(duplicate_key), rows["label"])


def key_digests(keys: Iterable[str], labels: Iterable[str]) -> set[str]:
    """Return the SHA-256 (hex) of each key, as `duplicate_key` returns it, with its label."""
    pairs = zip(keys, labels, strict=True)
    return {hashlib.sha256(json.dumps(pair).encode()).hexdigest() for pair in pairs}


def _lines(rows: pd.DataFrame) -> list[str]:
    return [json.dumps(row) for row in rows[_COLUMNS].to_dict(orient="records")]


def write(rows: pd.DataFrame, file: Path) -> None:
    """Write a snapshot, which only its owner may read.

    Raises:
        UserError: If that is not possible.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with private_files.writer(file, replaces=False) as stream:
            stream.writelines(f"{line}\n" for line in _lines(rows))
    except OSError as error:
        raise UserError(f"data.snapshot={file} cannot be written: {error.strerror}") from error


def _read(file: Path) -> pd.DataFrame:
    """Return what `write` wrote.

    Raises:
        UserError: If it is no such file.
    """
    try:
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        rows = [(str(row["text"]), str(row["label"]), row.get("source", SOURCE)) for row in found]
        unknown = {source for *_, source in rows} - {SOURCE, REVIEWED}
        if unknown:  # which would get into the holdout
            raise ValueError(f"source {sorted(unknown)[0]!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"data.snapshot={file} is no snapshot of feedback: {error}") from error
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=object)
