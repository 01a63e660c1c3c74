"""Moving an alias with a record: who was champion, when and why, and the way back.

MLflow's aliases have no history, so every move is an event in a tag of its own on the registered
model: never overwritten, read by every client, and shown in the UI. MLflow has no compare-and-set
either: a registered model of a fixed name, whose creation only one client can win, is the lock
under which an alias is moved.
"""

import contextlib
import dataclasses
import getpass
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from spam_mlflow.errors import UserError
from spam_mlflow.registry import VALIDATION_TAG, find_alias, find_version, versions
from spam_mlflow.tracking import REGISTERED_MODEL

logger = logging.getLogger(__name__)

PASSED, OVERRIDDEN, REJECTED = "passed", "overridden", "rejected"
"""Values of the version tag `validation_status`."""

_PREFIX = "promotion."
_LOCK = f"{REGISTERED_MODEL}-promotion-lock"
_LOCK_SECONDS = 120  # far longer than a move takes: an older lock was left by a client that died


@dataclass(frozen=True)
class Event:
    """One move of an alias.

    action: "promote" or "rollback".
    version, previous: where the alias points after and before; previous is None for the first.
    at: UTC, ISO 8601.
    done: set once the alias has moved; a client may die before that.
    """

    alias: str
    action: str
    version: str
    previous: str | None
    at: str
    by: str
    reason: str
    done: bool = False


def events(client: MlflowClient) -> list[Event]:
    """Return every recorded move, the oldest first."""
    tags = _registered(client).tags
    keys = sorted(key for key in tags if key.startswith(_PREFIX))
    return [Event(**json.loads(tags[key])) for key in keys]


def standing(moves: Sequence[Event], alias: str, current: str | None) -> list[str]:
    """Return the versions that `alias` stands on, the current one last.

    A promotion puts a version on top, a rollback takes versions off. An event that was recorded
    but not carried out is left out; a move that was made by hand counts as a promotion.

    current: where the alias points now, None where it points nowhere.
    """
    of_alias = [event for event in moves if event.alias == alias]
    followers = [*(event.previous for event in of_alias), current][1:]
    stack: list[str] = []
    for event, after in zip(of_alias, followers, strict=True):
        if not event.done and after != event.version:
            continue
        if event.previous is not None and stack[-1:] != [event.previous]:
            stack.append(event.previous)
        if event.action == "rollback" and event.version in stack:
            del stack[stack.index(event.version) + 1 :]
        else:
            stack.append(event.version)
    if current is not None and stack[-1:] != [current]:
        stack.append(current)
    return stack


def move(
    client: MlflowClient, alias: str, action: str, version: str, expected: str | None, reason: str
) -> None:
    """Point `alias` to `version` and record it.

    expected: where the alias pointed when the decision was made.

    Raises UserError where it points elsewhere by now, where another client is moving it, and where
    the version did not pass the gate. The alias is unchanged then.
    """
    with _lock(client):
        current = find_alias(client, alias)
        if current != expected:
            raise UserError(
                f"{alias} was moved from {shown(expected)} to {shown(current)} by someone else "
                "in the meantime; nothing was changed: try again against the new one"
            )
        status = find_version(client, version).tags.get(VALIDATION_TAG)
        if status not in (PASSED, OVERRIDDEN):
            raise UserError(
                f"version {version} has {VALIDATION_TAG}={status}; {alias} only points to versions "
                "that passed the gate"
            )
        event = Event(
            alias=alias,
            action=action,
            version=version,
            previous=current,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=getpass.getuser(),
            reason=reason,
        )
        key = f"{_PREFIX}{len(events(client)) + 1:05d}"
        _record(client, key, event)
        client.set_registered_model_alias(REGISTERED_MODEL, alias, version)
        _record(client, key, dataclasses.replace(event, done=True))


def back(client: MlflowClient, alias: str, steps: int, reason: str) -> str:
    """Point `alias` to the version it stood on `steps` promotions ago, and return that version.

    Raises UserError where so many are not recorded, or that version is gone.
    """
    current = find_alias(client, alias)
    stack = standing(events(client), alias, current)
    if steps >= len(stack):
        known = ", ".join(stack) or "none"
        raise UserError(
            f"steps={steps}: {alias} has only {max(len(stack) - 1, 0)} earlier versions on record "
            f"(versions, the newest last: {known})"
        )
    version = stack[-1 - steps]
    if version not in {str(entry.version) for entry in versions(client)}:
        raise UserError(
            f"version {version}, to which {alias} would go back, was deleted; "
            f"steps={steps + 1} goes back further, promote takes another version"
        )
    move(client, alias, "rollback", version, current, reason)
    return version


def shown(version: str | None) -> str:
    """Return how a message names where an alias points."""
    return "nothing" if version is None else f"version {version}"


def _registered(client: MlflowClient) -> RegisteredModel:
    try:
        return client.get_registered_model(REGISTERED_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(
            f"there is no registered model {REGISTERED_MODEL} yet; train one with "
            "`python -m spam_mlflow main`"
        ) from error


def _record(client: MlflowClient, key: str, event: Event) -> None:
    value = json.dumps(dataclasses.asdict(event))
    client.set_registered_model_tag(REGISTERED_MODEL, key, value)


@contextlib.contextmanager
def _lock(client: MlflowClient) -> Iterator[None]:
    """Hold the only registered model of the lock's name; creating it fails where it exists."""
    tags = {"by": getpass.getuser(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    note = "Held for the seconds in which an alias is moved."
    _remove_stale_lock(client)
    try:
        client.create_registered_model(_LOCK, tags, note)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        raise UserError(
            "another promotion or rollback is moving the alias right now; nothing was changed: "
            f"try again in a moment (a lock left behind opens after {_LOCK_SECONDS} s)"
        ) from error
    try:
        yield
    finally:
        # The alias has moved or has not: a lock that cannot be removed now opens by itself later.
        with contextlib.suppress(MlflowException):
            client.delete_registered_model(_LOCK)


def _remove_stale_lock(client: MlflowClient) -> None:
    try:
        lock = client.get_registered_model(_LOCK)
    except MlflowException:
        return
    age = time.time() - lock.creation_timestamp / 1000
    if age > _LOCK_SECONDS:
        logger.warning("removing a lock left behind by %s at %s", *map(lock.tags.get, ("by", "at")))
        client.delete_registered_model(_LOCK)
