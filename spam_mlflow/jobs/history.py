"""Show the history of an alias, and the registered versions."""

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow.config.schema import HistorySettings
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.registry import aliases, versions
from spam_mlflow.registry.versions import VALIDATION_TAG
from spam_mlflow.tracking import runs


def run(settings: HistorySettings, cfg: DictConfig) -> None:
    """Print the alias history, the versions and the version stack, the newest last.

    Raises:
        UserError: If there is no registered model yet.
    """
    runs.connect()
    client, alias = MlflowClient(), settings.alias
    current = versions.find_alias(client, alias)
    moves = [event for event in aliases.events(client) if event.alias == alias]
    rows = [(e.at, e.action, e.version, e.previous or "-", e.by, e.reason) for e in moves]
    print(markdown(("when (UTC)", "action", alias, "before", "by", "reason"), rows))
    print()
    listed = [
        (
            str(version.version),
            alias if str(version.version) == current else "",
            version.tags.get(VALIDATION_TAG, "not validated"),
            version.tags.get("data.name", "unknown"),
            version.run_id or "unknown",
        )
        for version in versions.all_versions(client)
    ]
    print(markdown(("version", "alias", "validation", "data", "run"), listed))
    stack = " -> ".join(aliases.version_stack(moves, alias, current)) or "nothing"
    print(f"\nversion stack of {alias}: {stack}")
