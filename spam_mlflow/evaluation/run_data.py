"""Which messages a run's metrics are of: metrics of other messages cannot be compared."""

import math
import re
from collections.abc import Mapping, Sequence

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from spam_mlflow.tracking.run_logging import PART_TAG, THRESHOLD_TAG, TRAINED_ON_TAG

_NOT_RECORDED = "data not recorded"
_DIGEST_SHOWN = 8  # characters
_COUNT = re.compile(r"[0-9]{1,15}")  # Python makes no number of thousands of digits


def description(run: Run, parent: Run | None = None) -> str:
    """Return the data that a run was scored on, which is equal for runs that can be compared.

    Args:
        run: The run.
        parent: The run that it is nested in, whose data a trial of a sweep has.
    """
    tags: Mapping[str, str] = run.data.tags
    if "data.name" not in tags and parent is not None:
        tags = parent.data.tags
    if "data.name" not in tags:
        return _NOT_RECORDED
    words = [f"{tags['data.name']} (digest {_short(tags, 'data.digest')})"]
    if "split.name" in tags:
        leaky = "leaky " if tags.get("split.leaky") == "true" else ""
        words.append(f"{leaky}split {tags['split.name']} (digest {_short(tags, 'split.digest')})")
    part = tags.get(PART_TAG, "test")
    if part != "test":
        words.append(f"part {part}")
    if trained_on(run):
        words.append("with messages that the model was trained on")
    return ", ".join(words)


def _short(tags: Mapping[str, str], name: str) -> str:
    return tags.get(name, "unknown")[:_DIGEST_SHOWN]


def trained_on(run: Run) -> int:
    """Return how many of the scored messages the model of a run was trained on, as far as known."""
    value = run.data.tags.get(TRAINED_ON_TAG, "")
    return int(value) if _COUNT.fullmatch(value) else 0


def threshold(run: Run) -> float | None:
    """Return the spam probability from which a run labeled messages spam; None if not recorded."""
    try:
        value = float(run.data.tags.get(THRESHOLD_TAG, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def by_data(shown: Sequence[Run], found: Sequence[Run]) -> dict[str, list[Run]]:
    """Return runs by the data that they were scored on, each in the order given.

    Args:
        shown: The runs.
        found: All runs, among which those are that the runs are nested in.
    """
    known = {run.info.run_id: run for run in found}
    groups: dict[str, list[Run]] = {}
    for run in shown:
        parent = known.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))
        groups.setdefault(description(run, parent), []).append(run)
    return groups
