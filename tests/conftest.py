import contextlib
import logging
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
from moto.server import ThreadedMotoServer
from servers import S3Server, running_stack

from scripts.stack import Stack

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
        return MlflowClient(self.env()["MLFLOW_TRACKING_URI"])

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

    @contextlib.contextmanager
    def environment_here(self) -> Iterator[None]:
        """Give this process the variables that the project's own processes get."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
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


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, S3 and MLflow, as `python -m scripts.stack start` leaves them."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def rclone(stack: Stack) -> S3Server:
    """The stack's own S3 server, which checks keys and signatures."""
    state = stack.state
    return S3Server("rclone", state.url("s3"), state.access_key, state.secret_key)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """A second S3 server, written by other people in another language."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server("moto", f"http://{host}:{port}", "any", "any")
    server.stop()


@pytest.fixture(params=["rclone", "moto"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


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
