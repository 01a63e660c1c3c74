"""The documentation: its commands are run as they are written, and what it says is true."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pooch
import pytest
import requests
import yaml
from mlflow import MlflowClient
from support.project import ENVIRONMENTS, EXPERIMENT, ROOT

from scripts import make_reference
from scripts.stack import SERVICES, Stack
from spam_mlflow.cli import COMMANDS

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PORTS = (5000, 5001, 5433, 9000)  # as the pages name them
BLOCK_SECONDS = 600
STOP_SECONDS = 30
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRANSCRIPT = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:[^$].*\n)*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
STORE = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/get"


@dataclass
class Reader:
    """Someone who pastes the blocks of a page into terminals.

    Attributes:
        folder: The clone.
        fresh: Variables of a new terminal.
        terminal: Variables of the first terminal, which blocks may change.
        servers: Processes of the other terminals by their port.
        done: Shell blocks so far: what two pages begin with is done once.
    """

    folder: Path
    fresh: Mapping[str, str]
    terminal: dict[str, str] = field(default_factory=dict)
    servers: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def follow(self, page: Path) -> None:
        """Do what the blocks of `page` say, in their order."""
        self.terminal = dict(self.fresh)
        for kind, code in BLOCK.findall(page.read_text(encoding="utf-8")):
            if code in self.done:
                continue
            if kind == "sh":
                self.done.add(code)
            port = re.search(r"--port (\d+)", code)
            if kind == "sh" and port:
                self.serve(code, int(port[1]))
            elif kind == "sh":
                self.run(code)
            elif kind == "console":
                self.ask(code)
            elif kind == "python":
                self.call("python", "-c", code)
        for started in self.servers:
            self.wait_for(started)

    def call(self, *command: str) -> str:
        """Return what a command prints in the first terminal; it has to succeed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.terminal,
            text=True,
            capture_output=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, code: str) -> None:
        """Run shell code in the first terminal, which keeps the variables that it sets."""
        variables = self.folder.parent / "variables.json"
        dump = f"import json, os; json.dump(dict(os.environ), open({str(variables)!r}, 'w'))"
        self.call("bash", "-eo", "pipefail", "-c", f'{code}\n"{sys.executable}" -c "{dump}"')
        self.terminal = json.loads(variables.read_text())

    def serve(self, code: str, port: int) -> None:
        """Start a server in a terminal of its own, in place of one that has the port."""
        self.stop(port)
        with (self.folder.parent / f"{port}.log").open("wb") as log:
            self.servers[port] = subprocess.Popen(
                ["bash", "-c", code],
                cwd=self.folder,
                env=self.fresh,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for(self, port: int) -> None:
        """Return when the server answers."""
        deadline = time.monotonic() + BLOCK_SECONDS
        while time.monotonic() < deadline and self.servers[port].poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    return
            time.sleep(0.2)
        pytest.fail((self.folder.parent / f"{port}.log").read_text(errors="replace"))

    def ask(self, transcript: str) -> None:
        """Run the commands of a transcript and compare the labels in the answers."""
        for command, shown in TRANSCRIPT.findall(transcript):
            for port in re.findall(r"127\.0\.0\.1:(\d+)", command):
                self.wait_for(int(port))
            assert labels(self.call("bash", "-c", command)) == labels(shown)

    def stop(self, port: int) -> None:
        """End the server on that port, if there is one, with all that it started."""
        server = self.servers.pop(port, None)
        if server is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(STOP_SECONDS)


def labels(answer: str) -> list[str]:
    return [row["label"] for row in json.loads(answer)["predictions"]]


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables on a machine with Python and pip only.

    Packages come from the caller's cache, and environments that MLflow builds are kept for other
    tests.
    """
    base = tmp_path_factory.mktemp("machine")
    home = base / "home"
    home.mkdir()
    uv = (sys.executable, "-m", "uv")
    subprocess.run([*uv, "venv", "--quiet", "--seed", str(base / "python")], check=True)
    cache = subprocess.check_output([*uv, "cache", "dir"], text=True).strip()
    dropped = ("MLFLOW_", "SPAM_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    configurations = os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))
    yield {
        **kept,
        "HOME": str(home),
        "PATH": f"{base / 'python' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "UV_CACHE_DIR": cache,
        "XDG_CONFIG_HOME": configurations,  # those of pip and uv: where packages come from
        "MLFLOW_ENV_ROOT": ENVIRONMENTS,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for language models
        "MLFLOW_WORKERS": "1",  # of the server that the pages start with four
        "PYTEST_ADDOPTS": "-n0 tests/unit/test_metrics.py",  # the others are running already
    }
    shutil.rmtree(base)


def fill_cache(home: Path, uci_dir: Path) -> None:
    """Put UCI's files where a user with that home has them after a download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        cache = Path(pooch.os_cache("spam_mlflow"))
    cache.mkdir(parents=True)
    for file in uci_dir.iterdir():
        shutil.copyfile(file, cache / file.name)


@pytest.fixture
def reader(tmp_path: Path, machine: dict[str, str]) -> Iterator[Reader]:
    """Someone in front of a fresh clone, with a fresh home."""
    yield from clone_reader(tmp_path, machine)


@pytest.fixture
def reader_with_data(tmp_path: Path, machine: dict[str, str], uci_dir: Path) -> Iterator[Reader]:
    """The same with UCI's files in the user's cache."""
    fill_cache(Path(machine["HOME"]), uci_dir)
    yield from clone_reader(tmp_path, machine)


def clone_reader(tmp_path: Path, machine: dict[str, str]) -> Iterator[Reader]:
    taken = [port for port in PORTS if is_open(port)]
    if taken:
        pytest.skip(f"something listens on port {taken[0]} already")
    clone = tmp_path / "clone"
    copy_files(clone)
    reader = Reader(clone, machine)
    yield reader
    for port in PORTS:
        reader.stop(port)
    shutil.rmtree(clone)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def copy_files(clone: Path) -> None:
    """Put the project's files into a repository of their own, with one commit."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():  # not what has just been deleted
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (("init", "-q"), ("add", "-A"), (*author, "commit", "-qm", "All files")):
        subprocess.run(["git", *command], cwd=clone, check=True)


def test_the_stack_starts_on_a_bare_machine_as_the_page_says(reader: Reader) -> None:
    blocks = [code for _, code in BLOCK.findall((ROOT / "docs/how-to/s3.md").read_text())]
    begin, end = (
        next(block for block in blocks if f"scripts.stack {name}" in block)
        for name in ("start", "stop")
    )
    folder = reader.folder / ".stack"
    reader.terminal = dict(reader.fresh)
    try:
        reader.run(begin)
        client = MlflowClient(reader.terminal["MLFLOW_TRACKING_URI"])
        assert client.create_experiment("from outside")
        # Nothing of it runs from an environment that belongs to the command alone.
        stack = Stack.open(folder, {}, auth=False)
        for service in SERVICES:
            process = stack.process(service)
            assert process is not None
            assert str(folder) in " ".join(process.cmdline())
        overlay = ("--no-project", "--with-requirements", "requirements-dev.txt")
        status = ("uv", "run", *overlay, "python", "-m", "scripts.stack", "start")
        before = (folder / "stack.json").read_text()
        reader.call(*status)
        assert (folder / "stack.json").read_text() == before
        reader.run(end)
        assert stack.running() == []
    finally:
        Stack.open(folder, {}, auth=False).stop()


def test_the_commands_of_readme_and_tutorial(reader_with_data: Reader) -> None:
    reader = reader_with_data
    reader.follow(README)
    answer = requests.get(STORE, {"experiment_id": "1"}, timeout=30).json()
    assert answer["experiment"]["name"] == EXPERIMENT  # as in the link to the runs
    assert len((reader.folder / "scored.csv").read_text().splitlines()) == 3
    reader.follow(ROOT / "docs" / "tutorial.md")


def test_the_reference_is_up_to_date() -> None:
    """`python -m scripts.make_reference` writes it."""
    for name, text in make_reference.pages().items():
        assert (make_reference.FOLDER / name).read_text(encoding="utf-8") == text


def test_entry_points_and_commands_have_the_same_summaries() -> None:
    text = (ROOT / "MLproject").read_text()
    comments = dict(re.findall(r"^  (\w+): # (.+)$", text, re.MULTILINE))
    assert comments == {name: command.summary for name, command in COMMANDS.items()}


def test_the_readme_is_short_and_names_every_command() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 8192
    assert all(f"`{name}`" in text for name in COMMANDS)


def test_the_pages_name_the_pinned_mlflow() -> None:
    pinned = re.findall(r"^mlflow==(.+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    named = {
        version for page in PAGES for version in re.findall(r"mlflow@([\d.]+)", page.read_text())
    }
    assert named == set(pinned)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in LINK.findall(text) if not link.startswith(("http", "#"))]
    broken = [link for link in links if not (page.parent / link.partition("#")[0]).is_file()]
    assert not broken


def test_every_test_that_the_page_of_threats_names_exists() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    page = ROOT / "docs" / "reference" / "threats.md"
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert len(named) > 50
    assert named <= set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE))


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
