"""Moving an alias and keeping its history: which version was champion, when and why.

MLflow's aliases have no history. Every move is therefore an event, stored in a tag of its own on
the registered model: it is never overwritten, every client reads it, and the UI shows it. MLflow
has no compare-and-set either. The lock under which an alias is moved is a registered model with a
fixed name, which only one client can succeed in creating.
"""

import contextlib
import dataclasses
import getpass
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from spam_mlflow.config import commands
from spam_mlflow.errors import UserError
from spam_mlflow.registry import registry_page
from spam_mlflow.registry.versions import VALIDATION_TAG, all_versions, find_alias, find_version
from spam_mlflow.tracking.runs import REGISTERED_MODEL

logger = logging.getLogger(__name__)

PASSED, OVERRIDDEN, REJECTED = "passed", "overridden", "rejected"
"""Values of the version tag `validation_status`."""

_PREFIX = "promotion."
_LOCK = f"{REGISTERED_MODEL}-promotion-lock"
_LOCK_SECONDS = 120  # far longer than a move takes; an older lock is of a client that died


@dataclass(frozen=True)
class Event:
    """One move of an alias.

    Attributes:
        alias: Name of the alias.
        action: "promote" or "rollback".
        version: The version that the alias points to after the move.
        previous: The version that it pointed to before; None if it pointed nowhere.
        at: Time of the move in UTC, ISO 8601.
        by: Name of the user who made the move.
        reason: Why the alias was moved.
        done: Whether the alias has moved; False if the client died before that.
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
    """Return the recorded moves of all aliases, the oldest first.

    Raises:
        UserError: If there is no registered model yet.
    """
    tags = _registered(client).tags
    keys = sorted(key for key in tags if key.startswith(_PREFIX))
    return [Event(**json.loads(tags[key])) for key in keys]


def version_stack(moves: Sequence[Event], alias: str, current: str | None) -> list[str]:
    """Return the version stack of an alias, to which a rollback can return.

    A promotion puts a version on top of the stack, and a rollback removes versions from it. An
    event that was recorded but not carried out is left out; a move that was made by hand counts as
    a promotion.

    Args:
        moves: Events, the oldest first; those of other aliases are ignored.
        alias: Name of the alias.
        current: The version that the alias points to now; None if it points nowhere.

    Returns:
        The versions in the order of their promotion, the current one last.
    """
    of_alias = [event for event in moves if event.alias == alias]
    versions_after = [*(event.previous for event in of_alias), current][1:]
    stack: list[str] = []
    for event, after in zip(of_alias, versions_after, strict=True):
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
    """Point an alias to a version and record the move.

    Args:
        client: Client of the tracking store.
        alias: Name of the alias.
        action: "promote" or "rollback".
        version: The version to point to.
        expected: The version that the alias pointed to when the move was decided; None if it
            pointed nowhere.
        reason: Why the alias is moved, for the record.

    Raises:
        UserError: If the alias points elsewhere by now, if another client is moving it, or if the
            version did not pass the gate. The alias is unchanged then.
    """
    with _lock(client):
        current = find_alias(client, alias)
        if current != expected:
            raise UserError(
                f"{alias} was moved from {target_name(expected)} to {target_name(current)} by "
                "someone else in the meantime; nothing was changed: try again against the new one"
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
            by=_user(),
            reason=reason,
        )
        key = f"{_PREFIX}{len(events(client)) + 1:05d}"
        _record(client, key, event)
        client.set_registered_model_alias(REGISTERED_MODEL, alias, version)
        _record(client, key, dataclasses.replace(event, done=True))
        registry_page.write(client, events(client))


def rollback(client: MlflowClient, alias: str, steps: int, reason: str) -> str:
    """Point an alias to an earlier version of its stack.

    Args:
        client: Client of the tracking store.
        alias: Name of the alias.
        steps: Number of promotions to go back.
        reason: Why the alias is moved, for the record.

    Returns:
        The version that the alias points to now.

    Raises:
        UserError: If the version stack is too short, or if the version was deleted, or for the
            reasons of `move`.
    """
    current = find_alias(client, alias)
    stack = version_stack(events(client), alias, current)
    if steps >= len(stack):
        known = ", ".join(stack) or "none"
        raise UserError(
            f"steps={steps}: {alias} has only {max(len(stack) - 1, 0)} earlier versions on record "
            f"(versions, the newest last: {known})"
        )
    version = stack[-1 - steps]
    if version not in {str(entry.version) for entry in all_versions(client)}:
        raise UserError(
            f"version {version}, to which {alias} would go back, was deleted; "
            f"steps={steps + 1} goes back further, promote takes another version"
        )
    move(client, alias, "rollback", version, current, reason)
    return version


def target_name(version: str | None) -> str:
    """Return the words for what an alias points to, such as "version 3" or "nothing"."""
    return "nothing" if version is None else f"version {version}"


def _user() -> str:
    """Return the user's name, or the number of a user without one, as containers have it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _registered(client: MlflowClient) -> RegisteredModel:
    try:
        return client.get_registered_model(REGISTERED_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(
            f"there is no registered model {REGISTERED_MODEL} yet; train one with "
            f"`{commands.command('main')}`"
        ) from error


def _record(client: MlflowClient, key: str, event: Event) -> None:
    value = json.dumps(dataclasses.asdict(event))
    client.set_registered_model_tag(REGISTERED_MODEL, key, value)


@contextlib.contextmanager
def _lock(client: MlflowClient) -> Iterator[None]:
    """Hold the lock, a registered model whose creation fails if it exists already."""
    tags = {"by": _user(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    note = "Held for the seconds in which an alias is moved."
    _remove_stale_lock(client)
    try:
        client.create_registered_model(_LOCK, tags, note)
    except MlflowException as error:
        # MLflow looks up the lock that was in the way, which may have been released by then.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        raise UserError(
            "another promotion or rollback is moving the alias right now; nothing was changed: "
            f"try again in a moment (a lock left behind opens after {_LOCK_SECONDS} s)"
        ) from error
    try:
        yield
    finally:
        # The alias has moved or not in any case; a lock that cannot be removed expires later.
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
