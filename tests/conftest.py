import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = "spam-classifier"
SERVER_START_SECONDS = 120


@dataclass(frozen=True)
class Project:
    """The project as a user runs it: real processes, and a tracking store of their own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.store)

    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SPAM_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ours = {"MLFLOW_TRACKING_URI": self.store, "PYTHONPATH": str(ROOT), "PATH": path}
        return {**kept, **ours, **self.environment}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "spam_mlflow", *arguments],
            cwd=self.folder,
            env=self.env(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.call(sys.executable, "-m", "spam_mlflow", *arguments)

    def call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=self.folder, env=self.env(), text=True, capture_output=True, check=False
        )

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return list(self.client.search_runs(ids, order_by=["attributes.start_time DESC"]))

    def last_run(self) -> Run:
        return self.runs()[0]


@dataclass(frozen=True)
class Trained:
    """A finished main job on the sample, with the model it registered as version 1."""

    project: Project
    run: Run
    output: str
    errors: str

    @property
    def artifacts(self) -> Path:
        return Path(self.project.client.download_artifacts(self.run.info.run_id, ""))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    project = Project(tmp_path_factory.mktemp("trained"))
    done = project.run("main", "data=sample")
    assert done.returncode == 0, done.stderr
    return Trained(project, project.last_run(), done.stdout, done.stderr)


@pytest.fixture(scope="session")
def uci_dir() -> Path:
    folder = os.environ.get("SPAM_UCI_DIR")
    if not folder:
        pytest.skip("SPAM_UCI_DIR does not name a folder with the UCI files")
    return Path(folder)


def serve(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], health: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a server in a process group of its own, wait until it answers, and end it after use."""
    log = cwd / "server.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        wait_for(health, server, log)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):  # a test may have ended it already
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"{url} does not answer:\n{log.read_text()}")
