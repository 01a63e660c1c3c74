"""Train with what people said of predictions, gate the version, and promote it or say why not."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import mlflow
import pandas as pd
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf, open_dict

from spam_mlflow import private_files
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.schema import RetrainSettings
from spam_mlflow.data.sources import feedback
from spam_mlflow.data.votes import Case
from spam_mlflow.error_messages import require_space
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store import store as stores
from spam_mlflow.jobs import promote, train
from spam_mlflow.registry import training_messages, versions
from spam_mlflow.scorer.normalization import duplicate_key
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)

DIGEST_TAG = "feedback.digest"
"""Tag of a version with the digest of the feedback that it was trained on, once it was gated."""

ALIAS = "champion"

NOT_PROMOTED, BUSY = 3, 4
"""Exit statuses."""

LABELS_FILE = "feedback-labels.txt"
"""Artifact of a version's run: the digests of the labels that it was given, used or not."""

_SOURCE = "spam_mlflow.data.sources.feedback.FeedbackSource"

Status = Literal["promoted", "not promoted", "nothing new", "dry run", "busy"]


@dataclass(frozen=True)
class Summary:
    """What was done, for programs.

    Attributes:
        status: How it ended.
        labels: Messages from feedback that are trained on, before those that the data has already
            and the limit of their share.
        new: Labels that the champion was not given, of messages that its data has not.
        withdrawn: Labels from feedback that the champion was trained on and that no longer count.
        cases: How many cases there are by verdict.
        champion: Version that was champion before.
        version: The version that was trained; None if none was.
        reason: Why it was not promoted; None if it was.
    """

    status: Status
    labels: int = 0
    new: int = 0
    withdrawn: int = 0
    cases: dict[str, int] | None = None
    champion: str | None = None
    version: str | None = None
    reason: str | None = None


def run(settings: RetrainSettings, cfg: DictConfig) -> None:
    """Retrain, and print a summary as JSON.

    Raises:
        UserError: If the store or the data cannot be read, there is no champion yet, or the new
            version cannot be gated.
        SystemExit: With NOT_PROMOTED or BUSY.
    """
    runs.connect()
    with _lock() as is_free:
        summary = _retrained(settings, cfg) if is_free else Summary("busy")
    print(json.dumps(asdict(summary)))
    if summary.status in ("not promoted", "busy"):
        raise SystemExit(BUSY if summary.status == "busy" else NOT_PROMOTED)


@contextlib.contextmanager
def _lock() -> Iterator[bool]:
    """Yield whether no other process of this user retrains the models of this tracking store.

    The system frees the lock at the end of the process, however that comes.
    """
    store = hashlib.sha256(mlflow.get_tracking_uri().encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"spam_mlflow-retrain-{os.getuid()}-{store}.lock")
    file = private_files.descriptor(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def _retrained(settings: RetrainSettings, cfg: DictConfig) -> Summary:
    client = MlflowClient()
    champion = versions.find_alias(client, ALIAS)
    if champion is None:
        raise UserError("there is no champion to compare with; promote a version first")
    with contextlib.closing(stores.opened(settings.store)) as store:
        cases = feedback.found_cases(store, settings.feedback)
    rows = feedback.frame(cases, settings.feedback.per_case)
    labels = feedback.label_digests(rows)
    known = _known(client, champion)
    new, withdrawn = len(_usable(rows, known) - known.given), len(known.trained_on - labels)
    found = Summary("nothing new", len(rows), new, withdrawn, _counts(cases), champion)
    digest = feedback.digest(rows)
    if new + withdrawn < settings.min_labels or _is_known(client, digest, champion):
        return found
    if settings.dry_run:
        return dataclasses.replace(found, status="dry run")
    with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
        data = _data(cfg, rows, Path(scratch, "feedback.jsonl"))
        version = _train(client, cfg, data)
        if version is None:
            reason = "the new model was not registered"
            return dataclasses.replace(found, status="not promoted", reason=reason)
        refused = _promote(cfg, data, version)
    # Only after the verdict: what ends the job before is tried again the next time.
    run_id = versions.find_version(client, version).run_id
    if run_id is not None:
        client.log_text(run_id, "".join(f"{label}\n" for label in sorted(labels)), LABELS_FILE)
    client.set_model_version_tag(runs.REGISTERED_MODEL, version, DIGEST_TAG, digest)
    status: Status = "not promoted" if refused else "promoted"
    return dataclasses.replace(found, status=status, version=version, reason=refused)


def _counts(cases: Sequence[Case]) -> dict[str, int]:
    return dict(Counter(case.verdict for case in cases))


@dataclass(frozen=True)
class _Known:
    """What a version was trained with.

    Attributes:
        keys: What names the messages of its data, without those from feedback.
        given: The digests of the labels that it was given: those that `retrain` gave it stand in a
            file, those that it was trained on in its split.
        trained_on: The digests of the labels from feedback that it was trained on.
    """

    keys: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    trained_on: frozenset[str] = frozenset()


def _usable(rows: pd.DataFrame, known: _Known) -> set[str]:
    """Return the digests of the labels of messages that the data has not.

    The labels of the data stand, whatever people say of its messages.
    """
    return feedback.label_digests(rows[~rows["text"].map(duplicate_key).isin(known.keys)])


def _known(client: MlflowClient, version: str) -> _Known:
    """Return what a version was trained with.

    Raises:
        UserError: If its split is damaged.
    """
    run_id = versions.find_version(client, version).run_id
    if run_id is None:
        return _Known()
    try:
        table = training_messages.split_table(client, run_id)
    except (ValueError, OSError) as error:
        require_space(error, f"the split of version {version}")
        raise UserError(f"the split of version {version} cannot be read: {error}") from error
    given = _labels_of(client, run_id)
    if table is None:
        return _Known(given=frozenset(given))
    is_said = table["source"].isin((feedback.SOURCE, feedback.REVIEWED))
    trained_on = feedback.key_digests(table["key"][is_said], table["label"][is_said])
    return _Known(
        frozenset(table["key"][~is_said]), frozenset(given | trained_on), frozenset(trained_on)
    )


def _labels_of(client: MlflowClient, run_id: str) -> set[str]:
    """Return the digests of the labels that `retrain` gave to a run."""
    if LABELS_FILE not in {file.path for file in client.list_artifacts(run_id)}:
        return set()
    with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
        file = Path(client.download_artifacts(run_id, LABELS_FILE, scratch))
        return set(file.read_text(encoding="utf-8").split())


def _is_known(client: MlflowClient, digest: str, champion: str) -> bool:
    """Return whether the champion or a later version of the same feedback has been gated already.

    Earlier ones do not count: where labels are withdrawn, what is left is what the champion's
    predecessor was trained on.
    """
    return any(
        int(v.version) >= int(champion) and v.tags.get(DIGEST_TAG) == digest
        for v in versions.all_versions(client)
    )


def _data(cfg: DictConfig, rows: pd.DataFrame, snapshot: Path) -> dict[str, Any]:
    """Return the section `data` with the feedback as it is now, which is written to a file.

    What is said meanwhile is for the next time: the version is gated with what it was trained on.
    """
    feedback.write(rows, snapshot)
    sections = {"base": cfg.data, "store": cfg.store, "limits": cfg.feedback}
    plain = {name: OmegaConf.to_container(section) for name, section in sections.items()}
    return {"_target_": _SOURCE, **plain, "snapshot": str(snapshot)}


def _composed(command: str, cfg: DictConfig, data: dict[str, Any], *given: str) -> DictConfig:
    """Return the configuration of another command, with all keys that it shares with this one."""
    found = compose(command, given)
    ours: Any = OmegaConf.to_container(cfg)
    with open_dict(found):
        for key in set(found) & set(ours):
            found[key] = ours[key]
        found["data"] = data
    return found


def _train(client: MlflowClient, cfg: DictConfig, data: dict[str, Any]) -> str | None:
    """Train, and return the number of the new version; None if it was not registered."""
    before = {str(v.version) for v in versions.all_versions(client)}
    chosen = "chosen_data=feedback", f"chosen_model={cfg.model.name}"
    main = _composed("main", cfg, data, *chosen)
    train.run(validate("main", main), main)
    new = [str(v.version) for v in versions.all_versions(client) if str(v.version) not in before]
    return new[-1] if new else None


def _promote(cfg: DictConfig, data: dict[str, Any], version: str) -> str | None:
    """Promote a version if it passes the gate, and return why it does not; None if it does.

    Raises:
        UserError: If it cannot be gated.
    """
    composed = _composed("promote", cfg, data, f"version={version}")
    with open_dict(composed):
        composed["dry_run"] = False
    try:
        promote.run(validate("promote", composed), composed)
    except promote.RejectedError as error:
        logger.warning("%s", error)
        return str(error)
    return None
