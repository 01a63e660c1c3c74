"""The reference pages of the documentation: every command and every key of the configuration.

Defaults and meanings are read from `conf/`, types and bounds from the types that validate it, so
that the pages cannot say anything else than the program does.
"""

import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import TypeAdapter

from spam_mlflow.config import reference, schema
from spam_mlflow.config.compose import compose, flatten
from spam_mlflow.config.names import RENAMED_CHOICES, RENAMED_KEYS
from spam_mlflow.config.paths import CONF, choices
from spam_mlflow.config.reference import OPTIONAL_GROUPS, Key

JsonSchema = Mapping[str, Any]

_NOTE = "<!-- Written by `python -m scripts.make_reference`: edit conf/ and the types instead. -->"
_KEY_HEADER = ("key", "default", "type", "meaning")
_TYPE_NAMES = {"boolean": "true or false", "string": "text", "null": "`null`"}
_LOW = {"minimum": "≥", "exclusiveMinimum": ">"}
_HIGH = {"maximum": "≤", "exclusiveMaximum": "<"}


def configuration_page() -> str:
    """Return the page on the config groups: each choice with its keys, then the presets."""
    groups = {group for command in schema.JOBS for group in reference.groups(command)}
    parts = [_configuration_head()]
    for group in sorted(groups - set(OPTIONAL_GROUPS)):
        parts += _group(group)
    parts += [_presets(group) for group in OPTIONAL_GROUPS]
    parts.append(_former_names())
    return "\n\n".join(parts) + "\n"


def commands_page(commands: Mapping[str, tuple[str, str]], mlproject: Path) -> str:
    """Return the page on the commands: what each does, its own keys, groups and parameters.

    Args:
        commands: Summary and example arguments of each command, by its name.
        mlproject: The file `MLproject`, which declares the parameters of `mlflow run`.
    """
    entry_points = OmegaConf.to_container(OmegaConf.load(mlproject))
    assert isinstance(entry_points, dict)
    parts = [
        f"{_NOTE}\n\n# Commands\n\n"
        "Every command is an entry point of the MLflow project, `mlflow run . -e NAME -P key=value`"
        ", and a command of Python, `python -m spam_mlflow NAME key=value`; where the package is "
        "installed it is also called `spam-mlflow`. `NAME --help` prints the keys below, and "
        "`NAME --config` the whole configuration. `mlflow run` takes keys that are not in a "
        "table of parameters as well, such as `-P train.batch_size=64`."
    ]
    for name, (summary, example) in commands.items():
        parts += _command(name, summary, example, entry_points["entry_points"][name])
    return "\n\n".join(parts) + "\n"


def _command(
    name: str, summary: str, example: str, entry_point: Mapping[str, Any]
) -> Iterator[str]:
    yield f"## {name}\n\n{summary[0].upper()}{summary[1:]}."
    yield f"```text\npython -m spam_mlflow {name} {example}\n```"
    root = TypeAdapter(schema.JOBS[name]).json_schema()
    yield _key_table(reference.command_keys(name), root)
    groups = reference.groups(name)
    if groups:
        links = [
            f"[`{group}={default or 'null'}`](configuration.md#{group})"
            for group, default in groups.items()
        ]
        yield f"Groups and their defaults: {', '.join(links)}."
    yield "Parameters of `mlflow run`:\n\n" + _table(
        ("parameter", "default", "sets"), _parameters(entry_point)
    )


def _parameters(entry_point: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each parameter of an entry point with its default and the key that it sets."""
    text = str(entry_point["command"])
    keys = {parameter: key for key, parameter in re.findall(r"([\w.-]+)[= ]\{(\w+)\}", text)}
    for name, declared in entry_point["parameters"].items():
        default = _code(declared["default"]) if "default" in declared else "**required**"
        key = keys[name].removeprefix("--").replace("-", "_")
        yield _code(name), default, "any keys, as one string" if key == "overrides" else _code(key)


def _configuration_head() -> str:
    return (
        f"{_NOTE}\n\n# Configuration\n\n"
        "The configuration of a command consists of [its own keys](commands.md) and of groups. A "
        "group is a folder in `conf/`, and each file in it is a choice, such as `model=cnn`. Every "
        "key can be overridden, such as `train.epochs=10`. The whole configuration is validated "
        "before anything is read, trained or logged: unknown keys and values outside the bounds "
        "below are refused with one line."
    )


def _group(group: str) -> Iterator[str]:
    """Yield the section on a group, the default choice first."""
    command = next(name for name in schema.JOBS if group in reference.groups(name))
    default = reference.groups(command)[group]
    yield f"## {group}"
    described: dict[str, tuple[str, list[Key]]] = {}
    for choice in sorted(choices(group), key=lambda name: (name != default, name)):
        mark = " (default)" if choice == default else ""
        yield f"### {group}={choice}{mark}\n\n{reference.summary(f'{group}/{choice}')}"
        section = _section(command, group, choice)
        target = section.get("_target_", "")
        keys = reference.section_keys(group, choice)
        shown, first = keys, described.setdefault(target, (choice, keys))
        if first[0] != choice and "parameters" not in section:
            shown = [key for key in keys if key not in first[1]]
            yield f"Its keys are those of `{group}={first[0]}`, with these defaults:"
        if shown:
            yield _key_table(shown, _schema(group, target), f"{group}.")
        if "parameters" in section:
            yield _search_space(section["parameters"])


def _section(command: str, group: str, choice: str) -> dict[str, Any]:
    """Return one section of a composed configuration as plain values."""
    section = OmegaConf.to_container(compose(command, [f"{group}={choice}"], partial=True)[group])
    assert isinstance(section, dict)
    return {str(key): value for key, value in section.items()}


def _schema(group: str, target: str) -> JsonSchema:
    """Return the JSON schema of a section: of the class called `target`, else of its type."""
    if not target:
        return TypeAdapter(schema.SECTIONS[group]).json_schema()
    module, _, name = target.rpartition(".")
    return TypeAdapter(getattr(importlib.import_module(module), name)).json_schema()


def _key_table(keys: Sequence[Key], root: JsonSchema, prefix: str = "") -> str:
    """Return the table of keys whose types are in `root`, once `prefix` is taken off."""
    rows = (
        (
            _code(key.name),
            "**required**" if key.default == "???" else _code(key.default),
            _type_name(_property(root, key.name.removeprefix(prefix))),
            key.meaning.replace("<", "&lt;"),
        )
        for key in keys
    )
    return _table(_KEY_HEADER, rows)


def _property(root: JsonSchema, key: str) -> JsonSchema:
    """Return the schema of a dotted key."""
    node = root
    for name in key.split("."):
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rpartition("/")[2]]
        node = node["properties"][name]
    return node


def _type_name(node: JsonSchema) -> str:
    """Return the type and the bounds that a JSON schema describes, in words."""
    if "enum" in node:
        return " or ".join(_code(v if isinstance(v, str) else json.dumps(v)) for v in node["enum"])
    if "anyOf" in node:
        return " or ".join(map(_type_name, node["anyOf"]))
    kind = "mappings" if "$ref" in node else str(node.get("type", "any"))
    if kind == "array":
        items = node.get("prefixItems")
        return f"list of {len(items)}: {_type_name(items[0])}" if items else _list_name(node)
    if kind == "object":
        return f"mapping to {_type_name(node['additionalProperties'])}"
    bounds = [f"{sign} {node[name]}" for name, sign in (_LOW | _HIGH).items() if name in node]
    pattern = f" like {_code(node['pattern'])}" if "pattern" in node else ""
    return f"{_TYPE_NAMES.get(kind, kind)}{pattern} {' and '.join(bounds)}".strip()


def _list_name(node: JsonSchema) -> str:
    options = node["items"].get("anyOf", ())
    return "list of any values" if len(options) > 2 else f"list of {_type_name(node['items'])}"


def _search_space(parameters: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what a sweep draws."""
    rows = []
    for parameter in parameters:
        drawn = ", ".join(map(_code, parameter.get("choices", ())))
        if not drawn:
            drawn = f"{parameter['low']} to {parameter['high']}"
            drawn += f" in steps of {parameter['step']}" if "step" in parameter else ""
            drawn += ", on a logarithmic scale" if parameter.get("log") else ""
        when = (_code(f"{key}={value}") for key, value in parameter.get("when", {}).items())
        rows.append((_code(parameter["name"]), parameter["type"], drawn, ", ".join(when)))
    return _table(("parameter", "type", "drawn from", "only where"), rows)


def _presets(group: str) -> str:
    """Return the section on a group of presets: what each is, and what it sets."""
    rows = (
        (_code(name), reference.summary(f"{group}/{name}"), ", ".join(_changes(group, name)))
        for name in choices(group)
    )
    head = f"## {group}\n\nPresets of `main`, such as `{group}={choices(group)[0]}`."
    return f"{head}\n\n{_table(('preset', 'meaning', 'sets'), rows)}"


def _changes(group: str, name: str) -> Iterator[str]:
    """Yield what a preset overrides: choices of groups first, then keys."""
    preset = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(preset, dict)
    for entry in preset.pop("defaults", ()):
        for override, choice in entry.items():
            yield _code(f"{override.removeprefix('override /')}={choice}")
    for key, value in flatten(OmegaConf.create(preset)).items():
        if key != "preset":
            yield _code(f"{key}={json.dumps(value)}")


def _former_names() -> str:
    renamed = list(RENAMED_KEYS.items())
    renamed += [
        (f"{group}={old}", f"{group}={new}") for (group, old), new in RENAMED_CHOICES.items()
    ]
    head = "## Former names\n\nThese names still work; the program says what they are called now."
    rows = ([_code(old), _code(new)] for old, new in renamed)
    return f"{head}\n\n{_table(('former name', 'name'), rows)}"


def _code(value: object) -> str:
    """Return a value as code, in a form that a cell of a table may hold."""
    text = str(value)
    return f"`{text}`" if "|" not in text else f"<code>{text.replace('|', '&#124;')}</code>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
