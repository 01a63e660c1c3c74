"""Folders of logged models: as they are in a store, made without training, and changed."""

import json
import shutil
from pathlib import Path

import mlflow
import yaml

from spam_mlflow.registry import model_logging
from support.project import ROOT, Project

BEFORE = ROOT / "tests" / "fixtures" / "version_before_scorer"
"""A version that was logged before the scorer was a package of its own."""


def logged_model(project: Project, version: str = "1") -> Path:
    """Return the folder of a version in the project's store, which is not to be changed."""
    uri = project.client.get_model_version_download_uri("spam-classifier", version)
    return Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=project.store))


def make_model(folder: Path, scorer: Path = ROOT / "spam_mlflow" / "scorer") -> Path:
    """Make a model with the layout of those that are logged now, whose weights mean nothing."""
    classifier = folder / "artifacts" / "classifier"
    shutil.copytree(BEFORE / "model" / "artifacts" / "classifier", classifier)
    copied = folder / "code" / "scorer"
    shutil.copytree(scorer, copied, ignore=shutil.ignore_patterns("__pycache__"))
    described = yaml.safe_load((BEFORE / "model" / "MLmodel").read_text())
    described["flavors"]["python_function"]["model_code_path"] = model_logging.ENTRY_FILE
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    rename_package(folder)
    return folder


def rename_package(folder: Path) -> None:
    """Name a model's package by its content and have the entry file load it, as anyone can."""
    (package,) = (folder / "code").iterdir()
    name = model_logging.scorer_package(package)
    package.rename(folder / "code" / name)
    (folder / model_logging.ENTRY_FILE).write_text(model_logging.entry(name))


def describe(folder: Path, **changes: object) -> None:
    """Change keys of the pyfunc flavor in a model's MLmodel."""
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"].update(changes)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def update_checksums(folder: Path) -> None:
    """Have a model's own checksums say that its data files are what they are now."""
    from spam_mlflow.scorer.scorers import CHECKSUMS_FILE, sha256

    classifier = folder / "artifacts" / "classifier"
    names = json.loads((classifier / CHECKSUMS_FILE).read_text())
    found = {name: sha256(classifier / name) for name in names}
    (classifier / CHECKSUMS_FILE).write_text(json.dumps(found))
