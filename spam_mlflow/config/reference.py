"""What each key of the configuration means: read from the comments beside it in `conf/`.

`--help`, shell completion and the reference in `docs/` are made from this, so that a key is
explained once, where users change it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spam_mlflow.config.paths import conf_folders

OPTIONAL_GROUPS = ("experiment", "debug")
"""Groups of presets, which change the keys of others and have none of their own."""

_LIST = "parameters"  # the key whose value is written over several lines
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: (?P<value>[^#].*?))?(?: +# (?P<meaning>.*))?")


@dataclass(frozen=True)
class Key:
    """A key of the configuration.

    Attributes:
        name: Dotted, such as "train.epochs".
        default: As it stands in the file; "???" where it must be given.
        meaning: The comment beside it.
    """

    name: str
    default: str
    meaning: str


def command_keys(command: str) -> list[Key]:
    """Return the keys at the top of `conf/<command>.yaml` and of the files that it builds on."""
    return list(_keys(f"{command}.yaml", "").values())


def section_keys(group: str, choice: str) -> list[Key]:
    """Return the keys of `conf/<group>/<choice>.yaml`, those of the files it builds on first."""
    return list(_keys(f"{group}/{choice}.yaml", f"{group}.").values())


def all_keys(command: str) -> list[Key]:
    """Return the keys of `command`, with those that its groups have by default."""
    found = command_keys(command)
    for group, choice in groups(command).items():
        found += section_keys(group, choice) if choice else []
    return found


def groups(command: str) -> dict[str, str | None]:
    """Return the choice that each config group of `command` has by default, None for presets."""
    found = _groups(f"{command}.yaml")
    return {group: None if group in OPTIONAL_GROUPS else found[group] for group in found}


def summary(name: str) -> str:
    """Return the comment on top of a file in `conf/`, such as "model/cnn", in one line."""
    lines = []
    for line in _find(f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines)


def _find(name: str) -> Path:
    return next(folder / name for folder in conf_folders() if (folder / name).is_file())


def _keys(name: str, prefix: str) -> dict[str, Key]:
    """Return the keys of one file by their names; its own replace those of files it builds on."""
    found: dict[str, Key] = {}
    for base in _bases(name):
        found |= _keys(base, prefix)
    parents: list[tuple[int, str]] = []
    for line in _lines(name):
        indent = len(line["indent"])
        parents = [(depth, key) for depth, key in parents if depth < indent]
        dotted = prefix + ".".join([*(key for _, key in parents), line["key"]])
        value = line["value"] or ("[...]" if line["key"] == _LIST else "")
        if value:
            inherited = found.get(dotted)
            meaning = line["meaning"] or (inherited.meaning if inherited else "")
            found[dotted] = Key(dotted, value, meaning)
        else:
            parents.append((indent, line["key"]))
    return found


def _lines(name: str) -> Iterator[re.Match[str]]:
    """Yield the lines of a file that set a key, the defaults list and `_target_` left out."""
    for line in _find(name).read_text(encoding="utf-8").splitlines():
        found = _LINE.fullmatch(line)
        if found and found["key"] not in ("defaults", "_target_", "_self_"):
            yield found


def _bases(name: str) -> Iterator[str]:
    """Yield the files that the defaults list of a file names without a group."""
    folder = name.rpartition("/")[0]
    for entry in _defaults(name):
        base = re.fullmatch(r"([\w/]+)(?:@_here_)?", entry)
        if base and base[1] != "_self_":
            yield f"{folder}/{base[1]}.yaml".lstrip("/")


def _groups(name: str) -> dict[str, str]:
    """Return the choice of each group in the defaults of a file and of those it builds on."""
    found: dict[str, str] = {}
    for base in _bases(name):
        found |= _groups(base)
    for entry in _defaults(name):
        group = re.fullmatch(r"/?(\w+): (\w+)", entry)
        if group:
            found[group[1]] = group[2]
    return found


def _defaults(name: str) -> Iterator[str]:
    """Yield the entries of a file's defaults list as they are written, comments left out."""
    text = _find(name).read_text(encoding="utf-8")
    yield from re.findall(r"^  - (.*?)(?: +#.*)?$", text, re.MULTILINE)
