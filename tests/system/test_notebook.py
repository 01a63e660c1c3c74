"""The notebook runs from top to bottom."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.project import ROOT, Project


def test_the_quick_start_runs_from_top_to_bottom(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.store)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # The environment's own kernel, whatever others are installed for the user.
    kernels = tmp_path / "kernels" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "Python 3", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "kernels"))
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]  # as it is in the project
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [
        str(output.get("text", output.get("data", "")))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    ]
    assert any("registered as models:/spam-classifier/1" in text for text in shown)
    assert any("'test_f1'" in text for text in shown)
    assert any("image/png" in text for text in shown)
    assert any("spam_probability" in text for text in shown)
