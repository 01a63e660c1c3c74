"""Registered versions of the model, and the versions that its aliases point to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from spam_mlflow.config import commands
from spam_mlflow.errors import UserError
from spam_mlflow.tracking.runs import REGISTERED_MODEL

VALIDATION_TAG = "validation_status"
"""Tag of a version with the gate's verdict; see `aliases.PASSED`."""


_MOVING = re.compile(r"models:/(?P<name>[^/@']+)(?:@(?P<alias>[^/@]+)|/latest/?)")
_FIXED = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)/?")


@dataclass(frozen=True)
class Reference:
    """A model URI, and which registered version it meant when it was looked up.

    Attributes:
        uri: The URI of that version, which always means the same; the given URI if it names no
            registered version.
        name: Name of the registered model; None if no version is named.
        version: The version's number; None if no version is named.
        alias: The alias in the given URI; None if there is none.
    """

    uri: str
    name: str | None = None
    version: str | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return f"{self.uri} (@{self.alias})" if self.alias else self.uri


def resolve(client: MlflowClient, model_uri: str) -> Reference:
    """Return the version that a model URI means now.

    Args:
        client: Client of the tracking store.
        model_uri: Such as "models:/spam-classifier@champion" or "runs:/<run id>/model".

    Raises:
        UserError: If there is no such model, or the alias points nowhere.
    """
    fixed = _FIXED.fullmatch(model_uri)
    if fixed:
        return Reference(f"models:/{fixed['name']}/{fixed['version']}", *fixed.groups())
    moving = _MOVING.fullmatch(model_uri)
    if moving is None:
        return Reference(model_uri)
    name, alias = moving.groups()
    version = find_alias(client, alias, name) if alias else _latest(client, name)
    if version is None:
        raise UserError(
            f"model_uri={model_uri!r} names no registered version; "
            f"`{commands.command('history')}` lists them"
        )
    return Reference(f"models:/{name}/{version}", name, version, alias)


def _latest(client: MlflowClient, name: str) -> str | None:
    found = [int(entry.version) for entry in all_versions(client, name)]
    return str(max(found)) if found else None


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        number: The version's number, such as "3".
        run_id: ID of the run that trained it; None if it was registered without a run, or if that
            run was deleted for good.
        tags: Tags of the version.
        run_tags: Tags of the run; none without a run.
    """

    number: str
    run_id: str | None
    tags: Mapping[str, str]
    run_tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The version's model URI, such as "models:/spam-classifier/3"."""
        return f"models:/{REGISTERED_MODEL}/{self.number}"

    def stated(self, tag: str) -> set[str]:
        """Return the values of a tag that tells where the version comes from: one, if all agree.

        The run counts wherever there is one. A version that was registered by hand may lack the
        tag, but must not contradict its run.

        Args:
            tag: Such as "data.digest"; its value is "unknown" if it is missing.
        """
        of_run = {self.run_tags.get(tag, "unknown")} if self.run_id else set()
        of_version = {self.tags[tag]} if tag in self.tags else set()
        return of_run | of_version or {"unknown"}


def find_version(client: MlflowClient, version: str) -> Version:
    """Return a registered version.

    Args:
        client: Client of the tracking store.
        version: The version's number, or "latest" for the highest.

    Raises:
        UserError: If it does not exist; the message lists the versions that do.
    """
    found = {str(entry.version): entry for entry in all_versions(client)}
    number = next(reversed(found), "none") if version == "latest" else version
    if number not in found:
        existing = ", ".join(found) or "none"
        raise UserError(
            f"version={version!r} of {REGISTERED_MODEL} does not exist; existing: {existing}"
        )
    entry = found[number]
    run_tags = _run_tags(client, entry.run_id) if entry.run_id else None
    run_id = None if run_tags is None else entry.run_id
    return Version(number, run_id, dict(entry.tags), run_tags or {})


def _run_tags(client: MlflowClient, run_id: str) -> dict[str, str] | None:
    """Return the tags of a run, or None if it was deleted for good, as `mlflow gc` does."""
    try:
        return dict(client.get_run(run_id).data.tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None


def all_versions(client: MlflowClient, name: str = REGISTERED_MODEL) -> list[ModelVersion]:
    """Return MLflow's entries of all versions of a registered model, the oldest first."""
    found = client.search_model_versions(f"name='{name}'")
    return sorted(found, key=lambda entry: int(entry.version))


def find_alias(client: MlflowClient, alias: str, name: str = REGISTERED_MODEL) -> str | None:
    """Return the version that `alias` points to, or None if it points nowhere."""
    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
