"""The files of a logged model: which kinds are accepted, and the digest over all of them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from spam_mlflow.config.paths import PROGRAM
from spam_mlflow.errors import UserError
from spam_mlflow.registry.model_logging import ENTRY_FILE, SHARED_NAME, entry, scorer_package
from spam_mlflow.scorer import scorers

DIGEST_TAG = "model.digest"
"""Tag of a run and of its version with the digest of the logged model's files."""

CODE = "code"
"""Folder of a logged model with its code."""

UNDIGESTED = frozenset({SHARED_NAME, "spam_scorer_6843bf0b9071"})
"""Packages with the code of versions that were logged before digests were recorded."""

UNREADABLE = (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError)
"""Errors of reading an MLmodel that MLflow did not write."""

_DESCRIPTION = "MLmodel"
_LOADER = "mlflow.pyfunc.loaders.code_model"  # of models-from-code, which are not unpickled
_PICKLES = {".cloudpickle", ".dill", ".joblib", ".pickle", ".pkl"}
_SHOWN = 3  # file names that an error repeats
_OF_A_STORE = ("artifact_path", "model_id", "model_uuid", "run_id", "utc_time_created")
"""Keys of MLmodel that say where a model is kept; a copy in another store has other values."""


def digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over path and content of every file of a logged model.

    Of MLmodel, all but the keys that depend on the store counts.

    Args:
        folder: Folder with the model, as `loading.download` returns it.
    """
    total = hashlib.sha256()
    files = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    for name in sorted(files):
        content = files[name].read_bytes() if name != _DESCRIPTION else _stable(folder)
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def package(folder: Path) -> str:
    """Return the import name of a model's code.

    Args:
        folder: Folder with the model, which `require_code_only` accepted.
    """
    (name,) = (path.name for path in (folder / CODE).iterdir())
    return name


def is_self_consistent(folder: Path) -> bool:
    """Return whether a model's package is named by its content, and read by the usual entry file.

    Args:
        folder: Folder with the model.
    """
    name = package(folder)
    described = _flavor(folder).get("model_code_path", "")
    text = (folder / ENTRY_FILE).read_bytes() if (folder / ENTRY_FILE).is_file() else b""
    return (
        name == scorer_package(folder / CODE / name)
        and Path(described).name == ENTRY_FILE
        and text == entry(name).encode()
    )


def code(folder: Path) -> dict[str, bytes]:
    """Return the files of a model's package by their path below it, such as "labels.py"."""
    root = folder / CODE / package(folder)
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in _files(root)}


def require_code_only(folder: Path, model_uri: str) -> None:
    """Check that loading a model runs its code as it can be read, and nothing else.

    Args:
        folder: Folder with the model.
        model_uri: Where it comes from, for the error.

    Raises:
        UserError: If the model is unpickled, is loaded by other means than its own code, or holds
            modules beside its package, or compiled code that Python would run instead of it.
    """
    reason = _why_not_code_only(folder)
    if reason is not None:
        raise UserError(
            f"model_uri={model_uri!r} is not loaded, since {reason}; only models that were logged "
            f"as code, without pickles, are: log one with `{PROGRAM} main`"
        )


def _why_not_code_only(folder: Path) -> str | None:
    flavor = _flavor(folder)
    loader = flavor.get("loader_module")
    if loader != _LOADER or "python_model" in flavor:
        return f"{loader} would unpickle it or run other code than its own"
    artifacts = {name: value["path"] for name, value in flavor.get("artifacts", {}).items()}
    expected = {scorers.CLASSIFIER: f"artifacts/{scorers.CLASSIFIER}"}
    if flavor.get("code") != CODE or artifacts != expected:
        return f"its MLmodel names other folders than {CODE} and {expected[scorers.CLASSIFIER]}"
    names = sorted(path.name for path in (folder / CODE).iterdir())
    if len(names) != 1:
        return f"{CODE} holds {', '.join(names)} and not one package"
    refused = sorted(_refused(folder))
    return f"{', '.join(refused[:_SHOWN])} is pickled or compiled" if refused else None


def _refused(folder: Path) -> Iterator[str]:
    for file in _files(folder):
        inside = file.relative_to(folder)
        compiled = file.suffix == ".pyc" and file.parent.name == "__pycache__"
        if (
            file.suffix in _PICKLES
            or (compiled and _replaces_source(file))
            or (inside.parts[0] == CODE and not compiled and file.suffix != ".py")
        ):
            yield inside.as_posix()


def _replaces_source(file: Path) -> bool:
    """Return whether Python would run a compiled file whenever its source was last changed.

    What Python writes by itself holds the time at which the source was changed, which a download
    does not keep.
    """
    return file.read_bytes()[4:8] != bytes(4)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flavor(folder: Path) -> Mapping[str, Any]:
    return dict(_described(folder)["flavors"]["python_function"])


def _stable(folder: Path) -> bytes:
    kept = {k: v for k, v in _described(folder).items() if k not in _OF_A_STORE}
    return json.dumps(kept, sort_keys=True, default=str).encode()


def _described(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / _DESCRIPTION).read_text(encoding="utf-8")))
