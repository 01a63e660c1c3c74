"""The structure of the code: which room may import which, and what lies in them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT

PACKAGE = ROOT / "spam_mlflow"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_data_flows_one_way_through_the_rooms() -> None:
    """The layers are declared in pyproject.toml; import-linter reads the imports."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 1 kept, 0 broken." in done.stdout


def rooms() -> set[str]:
    return {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}


def test_every_room_is_in_the_declared_layers() -> None:
    declared = set(re.findall(r"spam_mlflow\.(\w+)", (ROOT / "pyproject.toml").read_text()))
    assert rooms() - {"__init__"} <= declared
    assert len(rooms()) <= 25


def imported(module: Path) -> set[str]:
    """Return the absolute names that a module imports, and relative ones with their dots."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("module", sorted((PACKAGE / "scorer").rglob("*.py")), ids=lambda p: p.stem)
def test_the_scorer_imports_nothing_of_the_project_but_itself(module: Path) -> None:
    names = imported(module)
    assert not {name for name in names if name.startswith("spam_mlflow")}
    depth = len(module.relative_to(PACKAGE / "scorer").parts)
    assert all(len(name) - len(name.lstrip(".")) <= depth for name in names)


def functions() -> list[int]:
    """Return the number of lines of every function of the package."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_functions_are_short() -> None:
    lengths = sorted(functions())
    assert lengths[len(lengths) // 2] <= 15
    assert lengths[-1] <= 60


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {module.stem for module in MODULES} & {"utils", "helpers", "common", "misc"}


def test_tests_do_not_import_each_other() -> None:
    for module in (ROOT / "tests").rglob("test_*.py"):
        assert not [n for n in imported(module) if n.rpartition(".")[2].startswith("test_")], module


def test_one_spelling() -> None:
    british = re.compile(
        r"normalis|vectoris|colour|behaviour|optimis|serialis|initialis|labell", re.I
    )
    files = [*MODULES, *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "scripts").rglob("*.py")]
    assert not [file for file in files if british.search(file.read_text())]
