"""The project as a user runs it, with a tracking store of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pooch
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from support import in_process

ROOT = Path(__file__).resolve().parent.parent.parent
EXPERIMENT = "spam-classifier"
MLFLOW = str(Path(sys.executable).parent / "mlflow")
STORE_FILE = "mlflow.db"
ENVIRONMENTS = str(pooch.os_cache("spam_mlflow-tests"))
"""Where environments that MLflow builds are kept for the next test, and the next test run."""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Project:
    """A folder that commands are run in, and the variables that they get besides the usual ones."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / STORE_FILE}"

    @property
    def client(self) -> MlflowClient:
        # MLflow remembers a store, and where it was first asked for its artifacts go.
        with contextlib.chdir(self.folder):
            return MlflowClient(self.env()["MLFLOW_TRACKING_URI"])

    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SPAM_"))}
        ours = {
            "MLFLOW_TRACKING_URI": self.store,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_ENV_ROOT": ENVIRONMENTS,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for language models
        }
        return {**kept, **ours, **self.environment}

    def run(self, *arguments: str) -> Done:
        """Run a command of the project in this process."""
        return in_process.run(arguments, self.folder, self.env())

    def execute(self, *arguments: str) -> Done:
        """Run a command of the project in a process of its own."""
        return self.call(sys.executable, "-m", "spam_mlflow", *arguments)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a command of the project in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "spam_mlflow", *arguments],
            cwd=self.folder,
            env=self.env(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *command: str) -> Done:
        """Run any program."""
        return subprocess.run(
            command, cwd=self.folder, env=self.env(), text=True, capture_output=True, check=False
        )

    def open_at_once(self, number: int) -> Done:
        """Begin a run in several processes at the same moment."""
        script = ROOT / "tests" / "support" / "open_at_once.py"
        return self.call(sys.executable, str(script), str(number))

    @contextlib.contextmanager
    def environment_here(self) -> Iterator[None]:
        """Give this process the variables that the project's own processes get."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    @contextlib.contextmanager
    def store_here(self) -> Iterator[None]:
        """Have MLflow's functions in this process use the project's tracking store."""
        with self.environment_here(), _use_tracking_uri(self.env()["MLFLOW_TRACKING_URI"]):
            yield

    def wait_for_epoch(self) -> None:
        """Return when the newest run has logged an epoch, or after a minute."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            runs = self.runs()
            if runs and "loss" in runs[0].data.metrics:
                return
            time.sleep(0.1)

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        client = self.client
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(ids, order_by=["attributes.start_time DESC"]))

    def last_run(self) -> Run:
        return self.runs()[0]


@dataclass(frozen=True)
class Trained:
    """A finished main job on the sample, with the model it registered as version 1.

    Other tests see the same one: to log anything, work on a copy.
    """

    project: Project
    run: Run
    output: str
    errors: str

    @property
    def artifacts(self) -> Path:
        return Path(self.project.client.download_artifacts(self.run.info.run_id, ""))

    @property
    def model_folder(self) -> Path:
        """The folder of the logged model in the artifact store."""
        client = self.project.client
        version = client.get_model_version("spam-classifier", "1")
        logged = client.get_logged_model(str(version.source).rpartition("/")[2])
        return Path(logged.artifact_location)

    def copy(self, folder: Path) -> Project:
        """Return a project in `folder` whose store begins with what is in this one's.

        It names the same files of artifacts, which are not to be changed.
        """
        shutil.copy(self.project.folder / STORE_FILE, folder)
        return Project(folder)


def without_progress(errors: str) -> list[str]:
    """Return the lines of standard error that do not depend on how long anything takes."""
    return [line for line in errors.splitlines() if " … " not in line]


def require_one_line(done: Done, message: str) -> None:
    """Assert that a command failed with `message` in its last line and no traceback."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert message in done.stderr.splitlines()[-1]
