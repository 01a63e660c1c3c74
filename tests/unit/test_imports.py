import subprocess
import sys
from pathlib import Path

from support.project import ROOT

CODE = """
import importlib, pkgutil, sys
import spam_mlflow

for module in pkgutil.walk_packages(spam_mlflow.__path__, "spam_mlflow."):
    if module.name != "spam_mlflow.__main__":
        importlib.import_module(module.name)
import mlflow

print(mlflow.is_tracking_uri_set(), mlflow.active_run())
print(*sorted({"tensorflow", "keras", "sklearn", "matplotlib"} & set(sys.modules)))
"""


def test_importing_the_package_touches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False None", ""]
    assert not list(tmp_path.iterdir())
