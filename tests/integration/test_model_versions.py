"""A version is only ever scored by the code that it was logged with."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from support.model_folder import BEFORE, logged_model
from support.project import ROOT, Project, Trained
from support.servers import S3Server

from spam_mlflow.errors import UserError
from spam_mlflow.registry import loading, model_logging
from spam_mlflow.scorer.classifier import METADATA_FILE, Classifier

EXPECTED = json.loads((BEFORE / "expected.json").read_text())
TEXTS = [*EXPECTED["texts"], "win a prize call 09061701461", "P.R.I.Z.E 4 you", "ok l8r"]

LOAD = """
import json, sys
from pathlib import Path
from spam_mlflow.registry import loading
texts = json.loads(sys.argv[1])
models = [loading.load_folder(Path(folder)) for folder in sys.argv[2:]]
print(json.dumps([model.spam_probability(texts).tolist() for model in models]))
"""
PLAIN_LOAD = """
import json, sys, mlflow
texts = json.loads(sys.argv[1])
models = [mlflow.pyfunc.load_model(folder) for folder in sys.argv[2:]]
print(json.dumps([model.predict(texts)["spam_probability"].tolist() for model in models]))
"""


def scores(script: str, folders: Sequence[Path], project: Project) -> list[list[float]]:
    """Return what the models in `folders` answer in one fresh process that loads them in order."""
    command = [sys.executable, "-c", script, json.dumps(TEXTS), *map(str, folders)]
    done = subprocess.run(
        command, cwd=project.folder, env=project.env(), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[list[float]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def with_other_normalizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained and logged by a project whose normalizer masks digits."""
    checkout = tmp_path_factory.mktemp("other")
    for name in ("spam_mlflow", "conf"):
        shutil.copytree(ROOT / name, checkout / name)
    file = checkout / "spam_mlflow" / "scorer" / "normalization.py"
    code = file.read_text()
    changed = code.replace('NORMALIZER_VERSION = "2"', 'NORMALIZER_VERSION = "3"').replace(
        'return " ".join(words)', 'return _DIGITS.sub("9", " ".join(words))'
    )
    assert changed.count("_DIGITS") == code.count("_DIGITS") + 1
    file.write_text(changed)
    project = Project(tmp_path_factory.mktemp("logged"), {"PYTHONPATH": str(checkout)})
    done = project.execute("main", "data=sample", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    return logged_model(project)


@pytest.fixture(scope="module")
def folders(trained: Trained, with_other_normalizer: Path) -> list[Path]:
    return [logged_model(trained.project), with_other_normalizer, BEFORE / "model"]


def test_the_code_in_a_logged_model_is_the_whole_scorer_under_a_name_of_its_own(
    folders: list[Path],
) -> None:
    ours, other, _ = folders
    scorer = ROOT / "spam_mlflow" / "scorer"
    (package,) = (ours / "code").iterdir()
    assert package.name == model_logging.scorer_package()
    files = {file.relative_to(scorer) for file in scorer.rglob("*.py")}
    assert {file.relative_to(package) for file in package.rglob("*.py")} == files
    (another,) = (other / "code").iterdir()
    assert another.name != package.name


@pytest.fixture(scope="module")
def alone(folders: list[Path], trained: Trained) -> list[list[float]]:
    """What each model answers in a process that loads no other."""
    return [scores(LOAD, [folder], trained.project)[0] for folder in folders]


def test_versions_loaded_in_one_process_score_as_each_does_alone(
    folders: list[Path], alone: list[list[float]], trained: Trained
) -> None:
    together = scores(LOAD, folders, trained.project)
    reverse = scores(LOAD, folders[::-1], trained.project)[::-1]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
    np.testing.assert_allclose(reverse, alone, rtol=0, atol=1e-12)
    # They do differ, so that a mix-up would be seen.
    for one, another in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(np.subtract(alone[one], alone[another])).max() > 0.01


def test_so_do_those_that_mlflow_loads_by_itself(
    folders: list[Path], alone: list[list[float]], trained: Trained
) -> None:
    for step in (1, -1):
        found = scores(PLAIN_LOAD, folders[:2][::step], trained.project)
        np.testing.assert_allclose(found, alone[:2][::step], rtol=0, atol=1e-12)


def test_a_version_of_before_answers_what_it_always_did() -> None:
    modules, path = set(sys.modules), list(sys.path)
    model = loading.load_folder(BEFORE / "model")
    found = model.spam_probability(EXPECTED["texts"])
    np.testing.assert_allclose(found, EXPECTED["spam_probability"], rtol=0, atol=1e-12)
    assert sys.path == path
    new = {name.partition(".")[0] for name in set(sys.modules) - modules}
    assert not {name for name in new if name == "spam_mlflow"}


# What changed files and other formats give


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """A copy of a logged model that may be damaged."""
    return Path(shutil.copytree(logged_model(trained.project), tmp_path / "model"))


def rewrite_metadata(folder: Path, **changes: object) -> None:
    """Change the metadata in `folder`, and the checksum that they are held against."""
    file = folder / METADATA_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    checksums = folder / "checksums.json"
    if checksums.is_file():
        from spam_mlflow.scorer.scorers import sha256

        known = json.loads(checksums.read_text())
        checksums.write_text(json.dumps({**known, METADATA_FILE: sha256(file)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 4}, "has format version 4, but this code reads 3"),
        ({"format_version": None}, "has format version None, but this code reads 3"),
        ({"normalizer_version": "3"}, "has normalizer version 3, but this code reads 2"),
    ],
)
def test_every_loader_refuses_another_format_in_one_line(
    copied: Path, trained: Trained, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    rewrite_metadata(copied / "artifacts" / "classifier", **changes)
    with pytest.raises(Exception, match=message) as caught:
        loading.load_folder(copied)
    assert "\n" not in str(caught.value)
    keras = Path(shutil.copytree(trained.artifacts / "keras", tmp_path / "keras"))
    rewrite_metadata(keras, **changes)
    with pytest.raises(UserError, match=message) as refused:
        Classifier.load(keras)
    assert "\n" not in str(refused.value)


# Versions of before, through the commands


@pytest.fixture(scope="module")
def with_old_version(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tracking store in which version 1 was logged before the scorer was a package."""
    project = Project(tmp_path_factory.mktemp("before"))
    client: MlflowClient = project.client
    experiment = client.create_experiment("spam-classifier", str(project.folder / "artifacts"))
    run = client.create_run(experiment, tags=EXPECTED["run_tags"], run_name="tiny")
    run_id = run.info.run_id
    client.log_artifacts(run_id, str(BEFORE / "keras"), "keras")
    model = project.folder / "model"
    shutil.copytree(BEFORE / "model", model)
    described = model / "MLmodel"
    lines = [
        f"run_id: {run_id}" if line.startswith("run_id:") else line
        for line in described.read_text().splitlines()
    ]
    described.write_text("\n".join(lines) + "\n")
    client.create_registered_model("spam-classifier")
    client.create_model_version("spam-classifier", str(model), run_id, EXPECTED["version_tags"])
    client.set_terminated(run_id)
    return project


def test_it_is_evaluated_with_the_metrics_of_its_training(with_old_version: Project) -> None:
    done = with_old_version.run("evaluate", "data=sample", "model_uri=models:/spam-classifier/1")
    assert done.returncode == 0, done.stderr
    logged = with_old_version.last_run().data.metrics
    assert logged["test_f1"] == pytest.approx(EXPECTED["test_f1"], abs=1e-12)


def test_it_passes_the_gate_and_becomes_champion(with_old_version: Project) -> None:
    gate = ("data=sample", "gate=sample", "gate.slice_balanced_accuracy=0.5")
    done = with_old_version.run("promote", "version=1", "allow_no_champion=true", *gate)
    assert done.returncode == 0, done.stderr
    assert "service: parity" in done.stderr
    assert "champion moved from nothing to version 1" in done.stderr


def test_it_is_still_compared_with_a_version_of_today(with_old_version: Project) -> None:
    assert with_old_version.run("main", "data=sample").returncode == 0
    gate = ("data=sample", "gate=sample", "dry_run=true")
    done = with_old_version.run("promote", "version=2", *gate, "override='only compared'")
    assert done.returncode == 0, done.stderr
    assert "champion: f1 not worse" in done.stderr


def test_it_is_published_with_its_own_code(with_old_version: Project, moto: S3Server) -> None:
    bucket = "exports-of-before"
    moto.client().create_bucket(Bucket=bucket)
    store = Project(with_old_version.folder, {**with_old_version.environment, **moto.credentials})
    location = (f"bucket={bucket}", "storage=local", f"endpoint_url={moto.url}")
    done = store.run("publish", "model_uri=models:/spam-classifier/1", *location)
    assert done.returncode == 0, done.stderr
    output = with_old_version.folder / "pulled"
    done = store.run("pull", *location, f"output={output}")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["source"]["code_package"] == "spam_mlflow"
    names = zipfile.ZipFile(output / "spam-classifier-code.zip").namelist()
    assert "spam_mlflow/scoring.py" in names
