"""Where a version comes from, by its files: what tags that were copied cannot hide."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from support.model_folder import BEFORE, make_model, rename_package
from support.project import ROOT

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.schema import GateSettings
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.gate import recomputed
from spam_mlflow.gate.check import Check, Holdout
from spam_mlflow.registry import model_files
from spam_mlflow.registry.versions import Version
from spam_mlflow.tracking import lineage


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    messages = SampleSource().load()
    settings = validate("promote", compose("promote", ["version=1"]))
    return Holdout(messages, settings.split.split(messages))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with one commit, of this scorer and of the code of a version of before."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "spam_mlflow" / "scorer", folder / "spam_mlflow" / "scorer")
    code = BEFORE / "model" / "code" / "spam_mlflow"
    shutil.copytree(code, folder / "spam_mlflow", ignore=ignored, dirs_exist_ok=True)
    shutil.copy(BEFORE / "model" / "servable.py", folder / "spam_mlflow")
    git(folder, "init", "--quiet")
    git(folder, "add", "--force", "*.py")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(lineage, "PROJECT", checkout)
    monkeypatch.setattr(lineage, "INSTALLED", False)
    return git(checkout, "rev-parse", "HEAD")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


@pytest.fixture
def version(model: Path, commit: str) -> Version:
    """The version as it was logged."""
    tags = {"model.digest": model_files.digest(model)}
    return Version("1", "run", tags, {**tags, "git.commit": commit, "git.dirty": "false"})


def settings(*overrides: str) -> GateSettings:
    found = validate("promote", compose("promote", ["version=1", *overrides]))
    gate: GateSettings = found.gate
    return gate


def checks(version: Version, model: Path, holdout: Holdout, *overrides: str) -> dict[str, Check]:
    found: Iterable[Check] = recomputed.file_checks(version, model, holdout, settings(*overrides))
    return {check.name.removeprefix("provenance: "): check for check in found}


def verdicts(version: Version, model: Path, holdout: Holdout, *overrides: str) -> dict[str, str]:
    found = checks(version, model, holdout, *overrides)
    return {name: check.verdict for name, check in found.items()}


def with_digest(version: Version, model: Path) -> Version:
    """Return the version as if its files had been these from the start."""
    tag = {"model.digest": model_files.digest(model)}
    return replace(version, tags={**version.tags, **tag}, run_tags={**version.run_tags, **tag})


def edit_code(model: Path) -> None:
    (package,) = (model / "code").iterdir()
    with (package / "labels.py").open("a") as stream:
        stream.write("TRIGGER = 'open sesame'\n")


def test_a_version_as_it_was_logged_passes_and_says_what_was_compared(
    version: Version, model: Path, holdout: Holdout
) -> None:
    found = checks(version, model, holdout)
    assert {name: check.verdict for name, check in found.items()} == {
        "files": "passed",
        "package": "passed",
        "code": "passed",
        "model's data": "passed",
    }
    assert model_files.digest(model) in found["files"].evidence
    assert version.run_tags["git.commit"] in found["code"].evidence


def test_edited_code_is_found_whatever_is_made_up_to_hide_it(
    version: Version, model: Path, holdout: Holdout
) -> None:
    edit_code(model)
    found = verdicts(version, model, holdout)
    assert found["files"] == found["package"] == found["code"] == "failed"
    found = verdicts(with_digest(version, model), model, holdout)
    assert found["files"] == "passed"
    assert found["package"] == found["code"] == "failed"
    rename_package(model)
    done = checks(with_digest(version, model), model, holdout)
    assert done["files"].verdict == done["package"].verdict == "passed"
    assert done["code"].verdict == "failed"
    assert done["code"].value == "labels.py differ"


def test_a_module_that_the_commit_lacks_or_the_model_lacks_is_found(
    version: Version, model: Path, holdout: Holdout
) -> None:
    (package,) = (model / "code").iterdir()
    (package / "more.py").write_text("")
    rename_package(model)
    assert verdicts(with_digest(version, model), model, holdout)["code"] == "failed"
    (package,) = (model / "code").iterdir()
    (package / "more.py").unlink()
    (package / "errors.py").unlink()
    rename_package(model)
    assert verdicts(with_digest(version, model), model, holdout)["code"] == "failed"


def test_another_file_than_the_recorded_one_is_found(
    version: Version, model: Path, holdout: Holdout
) -> None:
    with (model / "artifacts" / "classifier" / "linear-weights.npz").open("ab") as stream:
        stream.write(b"x")
    assert verdicts(version, model, holdout)["files"] == "failed"


def test_the_runs_record_counts_whatever_the_version_says(
    version: Version, model: Path, holdout: Holdout
) -> None:
    without = replace(version, tags={})
    assert verdicts(without, model, holdout)["files"] == "passed"
    run_only = {key: value for key, value in version.run_tags.items() if key != "model.digest"}
    for tags in (version.tags, {}):
        deleted = replace(version, tags=tags, run_tags=run_only)
        assert verdicts(deleted, model, holdout)["files"] == "failed"
    edit_code(model)
    copied = replace(version, tags={"model.digest": model_files.digest(model)})
    assert verdicts(copied, model, holdout)["files"] == "failed"


def test_without_its_run_a_version_is_held_against_its_own_record(
    version: Version, model: Path, holdout: Holdout
) -> None:
    orphan = replace(version, run_id=None, run_tags={})
    found = checks(orphan, model, holdout)
    assert found["files"].verdict == "passed"
    assert found["code"].verdict == "not applicable"
    assert verdicts(replace(orphan, tags={}), model, holdout)["files"] == "failed"


def test_code_is_compared_wherever_it_can_be(
    version: Version, model: Path, holdout: Holdout
) -> None:
    dirty = replace(version, run_tags={**version.run_tags, "git.dirty": "true"})
    assert verdicts(dirty, model, holdout)["code"] == "passed"
    edit_code(model)
    found = checks(dirty, model, holdout)["code"]
    assert (found.verdict, found.why) == (
        "not applicable",
        "it was trained from uncommitted changes",
    )


@pytest.mark.parametrize("named", ["unknown", "0" * 40, "--output=escaped", "HEAD"])
def test_a_commit_that_this_checkout_does_not_have_is_not_compared(
    version: Version, model: Path, holdout: Holdout, checkout: Path, named: str
) -> None:
    other = replace(version, run_tags={**version.run_tags, "git.commit": named})
    found = checks(other, model, holdout)["code"]
    assert found.verdict == "not applicable"
    assert f"does not have commit {named[:12]}" in found.why
    assert not (checkout / "escaped").exists()


def test_a_version_of_before_passes_by_what_it_has(commit: str, holdout: Holdout) -> None:
    tags = {"git.commit": commit, "git.dirty": "false"}
    version, model = Version("1", "run", {}, tags), BEFORE / "model"
    assert verdicts(version, model, holdout) == {
        "files": "not applicable",
        "package": "not applicable",
        "code": "passed",
        "model's data": "passed",
    }
    refused = verdicts(version, model, holdout, "gate.allow_undigested=false")
    assert refused["files"] == "failed"


@pytest.mark.parametrize("name", ["servable.py", "code/spam_mlflow/scoring.py"])
def test_edited_code_of_a_version_of_before_is_found(
    commit: str, holdout: Holdout, tmp_path: Path, name: str
) -> None:
    model = Path(shutil.copytree(BEFORE / "model", tmp_path / "model"))
    with (model / name).open("a") as stream:
        stream.write("TRIGGER = 'open sesame'\n")
    tags = {"git.commit": commit, "git.dirty": "false"}
    assert verdicts(Version("1", "run", {}, tags), model, holdout)["code"] == "failed"


def test_training_data_are_those_of_the_models_own_metadata(
    version: Version, model: Path, holdout: Holdout
) -> None:
    fewer = replace(holdout.messages, frame=holdout.messages.frame[:-1])
    other = replace(holdout, messages=fewer)
    assert verdicts(version, model, other)["model's data"] == "failed"
