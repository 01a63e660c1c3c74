"""Fixtures that several files of tests share."""

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.shared import made_once

# What is slow to import is imported where it is used: most tests of units do not need it.
if TYPE_CHECKING:
    from support.project import Project, Trained
    from support.servers import S3Server

    from scripts.stack import Stack


_KINDS = ("system", "integration", "unit")
_TOGETHER = {
    # They build environments with MLflow, which two processes must not do at the same time.
    "environments": ("test_docs.py", "test_mlflow_run.py"),
    # They need the stack; test_faults.py, which kills its servers, starts another one.
    "stack": (
        *("test_stack.py", "test_export.py", "test_s3.py", "test_two_stores.py"),
        "test_shared_sweep.py",
    ),
}
_GROUPS = {file: group for group, files in _TOGETHER.items() for file in files}
# What takes longest comes first, so that the workers end at about the same time.
_SLOWEST = (*_TOGETHER["environments"], "test_faults.py", *_TOGETHER["stack"], "test_promotion.py")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, and what shares a fixture on one worker."""
    items.sort(key=_order)
    for item in items:
        group = _group(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _order(item: pytest.Item) -> tuple[int, int]:
    kind, name = _kind(item), item.path.name
    place = _SLOWEST.index(name) if name in _SLOWEST else len(_SLOWEST)
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS), place


def _kind(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def _group(item: pytest.Item) -> str | None:
    """Return the name of the tests that must run in the same process, None for a test by itself."""
    if item.path.name in _GROUPS:
        return _GROUPS[item.path.name]
    fixtures: dict[str, Sequence[pytest.FixtureDef[object]]]
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    scopes = {definitions[-1].scope for definitions in fixtures.values()}
    shared = "stack" in fixtures or "module" in scopes or _kind(item) == "unit"
    return f"{_kind(item)}/{item.path.stem}" if shared else None


@pytest.fixture(scope="session", autouse=True)
def programs_are_found() -> Iterator[None]:
    """Put this environment's programs on the path, whether it is activated or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_store_by_default() -> Iterator[None]:
    """Have MLflow refuse where a test names no store: one in the checkout would be everybody's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "no-store://a-test-names-its-own")
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking store: making one takes MLflow some seconds."""
    from mlflow import MlflowClient
    from support.project import STORE_FILE

    def make(folder: Path) -> None:
        with contextlib.chdir(folder):  # where MLflow makes a folder for artifacts
            MlflowClient(f"sqlite:///{folder / STORE_FILE}").search_experiments()

    return made_once(tmp_path_factory, "empty store", make) / STORE_FILE


@pytest.fixture
def bare_project(tmp_path: Path) -> "Project":
    """The project in an empty folder."""
    from support.project import Project

    return Project(tmp_path)


@pytest.fixture
def project(bare_project: "Project", empty_store: Path) -> "Project":
    """The project in a folder with an empty tracking store."""
    shutil.copy(empty_store, bare_project.folder)
    return bare_project


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "Trained":
    """A finished main job on the sample; every test reads the same one."""
    from support.project import Project, Trained

    def make(folder: Path) -> None:
        done = Project(folder).execute("main", "data=sample")
        assert done.returncode == 0, done.stderr
        (folder / "output").write_text(done.stdout)
        (folder / "errors").write_text(done.stderr)

    folder = made_once(tmp_path_factory, "trained", make)
    project = Project(folder)
    output, errors = ((folder / name).read_text() for name in ("output", "errors"))
    return Trained(project, project.last_run(), output, errors)


@pytest.fixture
def trained_project(trained: "Trained", tmp_path: Path) -> "Project":
    """A project of the test's own with the finished main job in its store."""
    return trained.copy(tmp_path)


@pytest.fixture(scope="session")
def uci_dir() -> Path:
    folder = os.environ.get("SPAM_UCI_DIR")
    if not folder:
        pytest.skip("SPAM_UCI_DIR does not name a folder with the UCI files")
    return Path(folder)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Stack]":
    """PostgreSQL, S3 and MLflow, as `python -m scripts.stack start` leaves them."""
    from support.servers import running_stack

    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def rclone(stack: "Stack") -> "S3Server":
    """The stack's own S3 server, which checks keys and signatures."""
    from support.servers import S3Server

    state = stack.state
    return S3Server("rclone", state.url("s3"), state.access_key, state.secret_key)


@pytest.fixture(scope="session")
def moto() -> "Iterator[S3Server]":
    """A second S3 server, written by other people in another language."""
    from moto.server import ThreadedMotoServer
    from support.servers import S3Server

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server("moto", f"http://{host}:{port}", "any", "any")
    server.stop()


@pytest.fixture(params=["rclone", "moto"])
def s3_server(request: pytest.FixtureRequest) -> "S3Server":
    """Each S3 server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server
