"""Show who was champion, when and why, and which versions there are."""

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow import promotion, registry, tables, tracking, wiring
from spam_mlflow.registry import VALIDATION_TAG
from spam_mlflow.settings import HistorySettings


def run(cfg: DictConfig) -> None:
    """Print both tables, the newest lines last."""
    tracking.connect()
    client = MlflowClient()
    alias = wiring.settings(HistorySettings, cfg).to
    current = registry.find_alias(client, alias)
    moves = [event for event in promotion.events(client) if event.alias == alias]
    rows = [(e.at, e.action, e.version, e.previous or "-", e.by, e.reason) for e in moves]
    print(tables.markdown(("when (UTC)", "action", alias, "before", "by", "reason"), rows))
    print()
    versions = [
        (
            str(version.version),
            alias if str(version.version) == current else "",
            version.tags.get(VALIDATION_TAG, "not validated"),
            version.tags.get("data.name", "unknown"),
            version.run_id or "unknown",
        )
        for version in registry.versions(client)
    ]
    print(tables.markdown(("version", "alias", "validation", "data", "run"), versions))
    stack = " -> ".join(promotion.standing(moves, alias, current)) or "nothing"
    print(f"\n{alias} stands on: {stack}")
