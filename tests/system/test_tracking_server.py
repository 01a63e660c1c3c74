"""A plain `mlflow server`, as users start one."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fault_proxy import Call, between
from support.project import Project
from support.servers import serve

from spam_mlflow.gate.scoring_server import free_port


@dataclass(frozen=True)
class Server:
    """url: its address. store: a project that reaches its database without it."""

    url: str
    store: Project
    artifacts: Path
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = Project(tmp_path_factory.mktemp("server"))
    port = free_port()
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    artifacts = store.folder / "artifacts"
    options = ["--backend-store-uri", store.store, "--artifacts-destination", str(artifacts)]
    url = f"http://127.0.0.1:{port}"
    for process in serve([*command, *options], store.folder, store.env(), f"{url}/health"):
        yield Server(url, store, artifacts, process)


def test_runs_can_be_logged_to_a_tracking_server(server: Server, tmp_path: Path) -> None:
    remote = Project(tmp_path, {"MLFLOW_TRACKING_URI": server.url})
    done = remote.run("main", "data=sample", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    run = server.store.last_run()
    assert run.info.status == "FINISHED"
    assert list(server.artifacts.rglob("spam-model.keras"))


def test_a_server_that_stops_during_training_is_waited_for_in_one_line(
    server: Server, tmp_path: Path
) -> None:
    """The last test: the server is gone after it."""

    def stop() -> None:
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(30)

    with between(server.url, rename_host=True) as proxy:
        variables = {"MLFLOW_TRACKING_URI": proxy.url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
        rule = proxy.inject(Call(stop), "POST", "log-batch", times=1)
        output = tmp_path / "kept"
        done = Project(tmp_path, variables).run(
            "main", "data=sample", "train.epochs=2", f"output_dir={output}"
        )
    assert rule.times == 0
    assert done.returncode == 1
    silent = f"tracking server {proxy.url} does not answer"
    waiting, error = done.stderr.splitlines()
    assert waiting == f"The {silent}; waiting for it for up to 4 s"
    assert re.fullmatch(rf"error: the {silent} \([\w .]+\); start it again", error)
    assert (output / "config.yaml").is_file()
