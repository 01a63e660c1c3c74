"""The wheel: built, installed beside no checkout, and used in an empty directory."""

import os
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.project import ROOT

UV = (sys.executable, "-m", "uv")


def call(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files that a clone has."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", "MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, source)
    shutil.copy(ROOT / "requirements.txt", source)
    for name in ("conf", "spam_mlflow"):
        shutil.copytree(ROOT / name, source / name)
    call(*UV, "build", "--quiet", "--out-dir", str(built), cwd=source)
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel; its requirements are lent to it."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    call(*UV, "venv", "--python", sys.executable, str(environment), cwd=wheel.parent)
    python = environment / "bin" / "python"
    install = ("pip", "install", "--quiet", "--no-deps", "--python", str(python))
    call(*UV, *install, str(wheel), cwd=wheel.parent)
    (packages,) = environment.glob("lib/*/site-packages")
    lent = [path for path in (*site.getsitepackages(), *sys.path) if "site-packages" in path]
    (packages / "requirements.pth").write_text("\n".join(dict.fromkeys(lent)) + "\n")
    return python.parent


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def environment(scripts: Path, folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "SPAM_", "PYTHONPATH", "VIRTUAL_ENV"))
    }
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": str(folder.parent), "TMPDIR": str(folder.parent)}


def test_the_wheel_holds_all_that_the_commands_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"spam_mlflow/{file.relative_to(ROOT)}" for file in (ROOT / "conf").rglob("*.yaml")}
    assert conf <= names
    assert {
        "spam_mlflow/py.typed",
        "spam_mlflow/data/sources/sample.csv",
        "spam_mlflow/evaluation/report.html",
    } <= names
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"spam_mlflow"}


def test_it_trains_and_saves_presets_where_it_is_called(scripts: Path, empty: Path) -> None:
    env = environment(scripts, empty)
    where = call(
        "python", "-c", "import spam_mlflow; print(spam_mlflow.__file__)", cwd=empty, env=env
    )
    assert str(scripts.parent) in where
    told = call("spam-mlflow", "main", "data=sample", "train.epochs=1", cwd=empty, env=env)
    assert "registered as models:/spam-classifier/1" in told
    assert {path.name for path in empty.iterdir()} == {"mlflow.db", "mlruns"}
    client = MlflowClient(f"sqlite:///{empty / 'mlflow.db'}")
    run = client.get_run(str(client.get_model_version("spam-classifier", "1").run_id))
    assert run.info.status == "FINISHED"
    assert run.data.tags["git.commit"] == "unknown"  # an environment is no checkout

    small = "search.parameters=[{name: train.epochs, type: int, low: 1, high: 2}]"
    swept = ("sweep", "data=sample", "trials=1", "save_as=tuned", "train.epochs=1", small)
    told = call("spam-mlflow", *swept, cwd=empty, env=env)
    assert "spam-mlflow main experiment=tuned" in told
    assert (empty / "conf" / "experiment" / "tuned.yaml").is_file()
    shown = call("spam-mlflow", "main", "experiment=tuned", "--config", cwd=empty, env=env)
    assert "preset: tuned" in shown
    assert "experiment=best|cross_domain|" in call(
        "spam-mlflow", "main", "--help", cwd=empty, env={**env, "COLUMNS": "200"}
    )


def test_the_shell_completes_commands_and_keys(scripts: Path, empty: Path) -> None:
    line = "spam-mlflow main model="
    env = environment(scripts, empty) | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(empty / "found"),
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    subprocess.run(["spam-mlflow"], cwd=empty, env=env, check=False, capture_output=True)
    found = (empty / "found").read_text().replace("\013", "\n").split()
    assert {"model=cnn", "model=ngram_linear", "model=tutorial_lstm"} <= set(found)
