"""Commands that messages name: each works as it is, pasted into the shell that shows it."""

import contextvars
import math
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spam_mlflow.config.paths import INSTALLED, PROGRAM, PROJECT, choices

_PLAIN = re.compile(r"[A-Za-z_/.][\w/.:@%+-]*")  # strings that Hydra reads without quotes
NAMES_FOLDER = contextvars.ContextVar("NAMES_FOLDER", default=False)
"""Whether commands begin in the project's folder and name the interpreter by its path, since the
shell that shows them may be elsewhere: `mlflow run` can be called anywhere, and activates an
environment that the shell does not have."""

_NO_STRINGS = ("null", "true", "false", "nan", "inf")  # what Hydra reads as something else


def python() -> str:
    """Return how the shell finds this interpreter: by its name, else by its path."""
    found = None if NAMES_FOLDER.get() else shutil.which("python")
    here = Path(sys.executable)
    return "python" if found and Path(found).parent == here.parent else shlex.quote(str(here))


def command(name: str, overrides: Sequence[str] = ()) -> str:
    """Return a command of this project as one line of shell.

    Args:
        name: Such as "main".
        overrides: Such as "train.epochs=3".
    """
    words = " ".join(map(shell_word, [name, *overrides]))
    if INSTALLED:
        script = str(Path(sys.executable).with_name(PROGRAM))
        program = PROGRAM if shutil.which(PROGRAM) == script else shlex.quote(script)
        return f"{program} {words}"
    folder = f"cd {shlex.quote(str(PROJECT))} && " if NAMES_FOLDER.get() else ""
    return f"{folder}{python()} -m spam_mlflow {words}"


def shell_word(text: str) -> str:
    """Return a word quoted for the shell, legibly if it holds the quotes of Hydra."""
    legible = "'" in text and not set(text) & set('"$`\\!')
    return f'"{text}"' if legible else shlex.quote(text)


def override(key: str, value: Any) -> str:
    """Return the override that sets `key` to a value, as Hydra reads it.

    Args:
        key: Such as "train.epochs".
        value: None, a truth value, a number, a string, or a list of such.
    """
    return f"{key}={_literal(value)}"


def _literal(value: Any) -> str:
    from spam_mlflow.config.overrides import literal

    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    text = str(value)
    plain = _PLAIN.fullmatch(text) and text.lower() not in _NO_STRINGS
    return text if plain or not isinstance(value, str) else literal("", text).removeprefix("=")


def overrides(
    name: str, wanted: Mapping[str, Any], groups: Sequence[str], given: Sequence[str] = ()
) -> list[str]:
    """Return the overrides with which a command gets the configuration of another one.

    They are found by composing, so that they are right however the other one was written.

    Args:
        name: Of the command.
        wanted: Values of the other configuration by their dotted keys. Those that the command does
            not have are left out.
        groups: Config groups whose choice is to be found, such as "data".
        given: Overrides of the command that come first and are part of the result.
    """
    # What stands at the top first, since other keys take their values from there.
    top = {key: value for key, value in wanted.items() if "." not in key}
    found = [*given, *_differing(name, top, given)]
    for group in groups:
        found += _choice(name, group, wanted, found)
    return found + _differing(name, wanted, found)


def _differing(name: str, wanted: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    known = _flat(name, given)
    return [override(k, v) for k, v in wanted.items() if k in known and known[k] != v]


def _choice(name: str, group: str, wanted: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Return the override that chooses the file of a group that is closest to the values."""
    start = f"{group}."
    section = {key: value for key, value in wanted.items() if key.startswith(start)}

    def distance(choice: list[str]) -> float:
        """Return the number of other values; infinity where keys are missing or the class differs.

        Keys that are new since the values were recorded do not count.
        """
        values = _flat(name, [*given, *choice])
        found = {key: value for key, value in values.items() if key.startswith(start)}
        target = f"{start}_target_"
        if not set(section) <= set(found) or found.get(target) != section.get(target):
            return math.inf
        return sum(found[key] != section[key] for key in section)

    best: list[str] = []
    least = distance(best)
    for choice in choices(group) if least else ():
        other = [f"{group}={choice}"]
        if (far := distance(other)) < least:
            best, least = other, far
    return best


def _flat(name: str, given: Sequence[str]) -> dict[str, Any]:
    from spam_mlflow.config import environment
    from spam_mlflow.config.compose import compose, flatten

    with environment.without_exported_address():
        return flatten(compose(name, given, partial=True))
