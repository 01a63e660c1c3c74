"""Show the history of an alias, and the registered versions."""

import sys
from dataclasses import asdict
from datetime import datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from omegaconf import DictConfig

from spam_mlflow.config.schema import HistorySettings
from spam_mlflow.evaluation import tables
from spam_mlflow.registry import aliases, versions
from spam_mlflow.registry.versions import VALIDATION_TAG
from spam_mlflow.tracking import runs

_ID_SHOWN = 8  # characters


def run(settings: HistorySettings, cfg: DictConfig) -> None:
    """Print the alias history, the versions and the version stack, the newest last.

    Raises:
        UserError: If there is no registered model yet.
    """
    runs.connect()
    client, alias = MlflowClient(), settings.alias
    current = versions.find_alias(client, alias)
    moves = [event for event in aliases.events(client) if event.alias == alias]
    listed = [_described(version) for version in versions.all_versions(client)]
    stack = aliases.version_stack(moves, alias, current)
    if settings.json:
        print(
            tables.as_json(
                {
                    "alias": alias,
                    "version": current,
                    "moves": [asdict(move) for move in moves],
                    "versions": listed,
                    "stack": stack,
                }
            )
        )
        return
    rows = [(_minute(e.at), e.action, e.version, e.previous or "-", e.by, e.reason) for e in moves]
    moved = ("when (UTC)", "action", alias, "before", "by", "reason")
    print(tables.terminal(moved, rows, sys.stdout), end="\n\n")
    cells = [
        (
            v["version"],
            alias if v["version"] == current else "",
            v["validation"],
            v["data"],
            v["run"][:_ID_SHOWN],
        )
        for v in listed
    ]
    header = ("version", "alias", "validation", "data", "run")
    print(tables.terminal(header, cells, sys.stdout))
    print(f"\nversion stack of {alias}: {' -> '.join(stack) or 'nothing'}")


def _described(version: ModelVersion) -> dict[str, str]:
    return {
        "version": str(version.version),
        "validation": version.tags.get(VALIDATION_TAG, "not validated"),
        "data": version.tags.get("data.name", "unknown"),
        "run": version.run_id or "unknown",
    }


def _minute(at: str) -> str:
    """Return a time in ISO 8601 without its seconds and its zone, which is UTC."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M")
