"""From which commit a run says that it comes."""

import shutil
import subprocess
from pathlib import Path

import mlflow
import pytest
from support.project import ROOT

from spam_mlflow.tracking import lineage


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(
        command, cwd=folder, text=True, capture_output=True, check=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one commit, which runs take for the project."""
    folder = tmp_path.resolve() / "clone"
    for name in ("spam_mlflow/models", "conf/experiment"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(lineage, "PROJECT", folder)
    return folder


def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the tags that a run would get."""
    found: dict[str, str] = {}
    monkeypatch.setattr(mlflow, "set_tags", found.update)
    lineage.log_code_version()
    return found


def test_a_clean_clone_is_its_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "notes.txt").write_text("what is trained does not depend on this")
    (checkout / "spam_mlflow" / "models" / "__pycache__").mkdir()
    tags = logged(monkeypatch)
    assert tags == {"git.commit": git(checkout, "rev-parse", "HEAD"), "git.dirty": "false"}


@pytest.mark.parametrize(
    "file",
    [
        "spam_mlflow/own.py",
        "spam_mlflow/models/deep/own.py",
        "conf/own.yaml",
        "conf/experiment/own.yaml",
    ],
)
@pytest.mark.parametrize("ignored", [False, True])
def test_untracked_code_and_configuration_count_as_changes(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, file: str, ignored: bool
) -> None:
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text("")
    if ignored:
        (checkout / ".git" / "info" / "exclude").write_text(f"{file}\n")
    assert logged(monkeypatch)["git.dirty"] == "true"


def test_a_changed_file_counts(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "conf" / "experiment" / "tiny.yaml").write_text("changed: true\n")
    assert logged(monkeypatch)["git.dirty"] == "true"


def test_a_repository_around_the_project_is_not_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = checkout / "vendor" / "spam_mlflow"
    (unpacked / "spam_mlflow").mkdir(parents=True)
    git(checkout, "add", "--all")
    monkeypatch.setattr(lineage, "PROJECT", unpacked)
    assert logged(monkeypatch) == {"git.commit": "unknown"}
