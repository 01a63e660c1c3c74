"""Names of keys and choices: former ones, and what is said of those that do not exist."""

import difflib
import re
from collections.abc import Iterable

from spam_mlflow.config import reference
from spam_mlflow.config.paths import choices

RENAMED_KEYS = {
    "train.disguised": "train.obfuscated_fraction",
    "train.padded": "train.padded_fraction",
    "train.copies_at_most": "train.max_augmented",
    "train.ham_fpr": "train.threshold",
    "to": "alias",
    "first": "allow_no_champion",
}
RENAMED_CHOICES = {
    ("data", "seed"): "tutorial",
    ("split", "seed"): "tutorial",
    ("experiment", "seed"): "tutorial",
    ("model", "seed_lstm"): "tutorial_lstm",
}

_LISTED = 12  # keys that a message can name


def current(key: str, value: str) -> tuple[str, str]:
    """Return what a key and a value are called now; they come back as they are if they still are.

    Args:
        key: Such as "train.padded".
        value: As an override has it.
    """
    if key == "train.ham_fpr":
        fixed = "{policy:fixed,value:0.5}"
        value = fixed if value == "null" else f"{{policy:target_fpr,ham_fpr:{value}}}"
    key = RENAMED_KEYS.get(key, key)
    return key, RENAMED_CHOICES.get((key, value), value)


def in_full(key: str, value: str) -> tuple[str, str]:
    """Return what a shorthand stands for; any other key and value come back as they are.

    Args:
        key: Such as "train.threshold", for which a number or the name of a policy is enough.
        value: As an override has it.
    """
    if key != "train.threshold" or value.startswith("{"):
        return key, value
    number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value)
    if number:
        return key, f"{{policy:fixed,value:{value}}}"
    return f"{key}.policy", value


def unknown_key(owner: str, key: str, valid: Iterable[str]) -> str:
    """Return what is said of a key that does not exist.

    Args:
        owner: The command or section that does not have it.
        key: Such as "train.epoch".
        valid: The dotted keys that there are instead.
    """
    valid = list(valid)
    return f"{key} is not a key of {owner}; {_hint(key, valid)}"


def _hint(key: str, valid: list[str]) -> str:
    if RENAMED_KEYS.get(key) in valid:
        return f"it is called {RENAMED_KEYS[key]} now"
    elsewhere = _choices_with(key)
    if elsewhere:
        return f"it is one with {' or '.join(elsewhere)}"
    last = key.rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in valid}
    similar = (
        [name for name in valid if name.rpartition(".")[2] == last]
        or difflib.get_close_matches(key, valid, 3, 0.8)
        or [by_last[match] for match in difflib.get_close_matches(last, by_last, 3, 0.75)]
    )
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    return f"valid: {', '.join(valid)}" if len(valid) <= _LISTED else "--help lists the valid ones"


def _choices_with(key: str) -> list[str]:
    """Return the choices of the key's config group that have it, such as "data=csv"."""
    group = key.partition(".")[0]
    return [
        f"{group}={choice}"
        for choice in choices(group)
        if any(known.name == key for known in reference.section_keys(group, choice))
    ]
