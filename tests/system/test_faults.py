"""What happens to a training run when a store fails: each row of the README's table is a test."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.fault_proxy import SLOW_DOWN, Answer, Call, Proxy, Reset, Stall, between
from support.project import (
    STORE_FILE,
    Project,
    Trained,
    require_one_line,
    without_progress,
)
from support.servers import S3Server, new_database, stack_command

from scripts.stack import Stack
from spam_mlflow.registry import loading, model_files

QUICK = ("main", "data=sample", "train.epochs=1")
KEPT = re.compile(r"the trained model is kept in (\S+):")


@pytest.fixture
def on_s3(tmp_path: Path, rclone: S3Server) -> Iterator[tuple[Project, Proxy]]:
    """A project whose experiment lies in a bucket, and the proxy in front of that store."""
    with between(rclone.url) as proxy:
        project = Project(tmp_path, {**rclone.credentials, "TMPDIR": str(tmp_path)})
        options = ("storage=local", f"endpoint_url={proxy.url}", f"bucket={rclone.new_bucket()}")
        done = project.run("bucket", *options)
        assert done.returncode == 0, done.stderr
        proxy.requests.clear()
        yield project, proxy


@pytest.fixture
def on_server(tmp_path: Path, stack: Stack) -> Iterator[tuple[Project, Proxy]]:
    """A project that logs to the stack, in an experiment of its own, and a proxy for the server."""
    with between(stack.state.url("mlflow"), rename_host=True) as proxy:
        variables = {"MLFLOW_TRACKING_URI": stack.state.url("mlflow"), "TMPDIR": str(tmp_path)}
        yield Project(tmp_path, {**variables, "MLFLOW_EXPERIMENT_NAME": tmp_path.name}), proxy


def store(proxy: Proxy, **changes: Any) -> tuple[str, ...]:
    values = {"attempts": 3, **changes}
    given = (f"storage.{key}={value}" for key, value in values.items())
    return ("storage=local", f"storage.endpoint_url={proxy.url}", *given)


def versions_of(project: Project, run_id: str) -> list[Any]:
    return list(project.client.search_model_versions(f"run_id='{run_id}'"))


def assert_complete(project: Project, run_id: str) -> None:
    """The run has all its artifacts, one finished model and one version, whose files are whole."""
    run = project.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    with project.environment_here():
        names = {file.path for file in project.client.list_artifacts(run_id)}
        assert {"config.yaml", "errors.json", "figures", "keras", "model_card.md"} <= names
        assert run.data.metrics["test_f1"] > 0.5
        (version,) = versions_of(project, run_id)
        with project.store_here():
            folder = project.folder / "downloaded"
            model = loading.download(f"models:/spam-classifier/{version.version}", folder)
        assert model_files.digest(model) == run.data.tags["model.digest"]
    models = project.client.search_logged_models([run.info.experiment_id])
    statuses = [str(model.status) for model in models if model.source_run_id == run_id]
    assert statuses == ["READY"]


def beside(project: Project, server: S3Server) -> Project:
    """The same project, which reaches the store without the proxy."""
    variables = {"MLFLOW_S3_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1"}
    return Project(project.folder, {**project.environment, **variables})


# A store that recovers in time: the user sees nothing


@pytest.mark.parametrize(
    "fault", [SLOW_DOWN, Reset(), Stall(4)], ids=["503 SlowDown", "reset", "stall"]
)
def test_a_short_failure_of_s3_is_waited_for(
    on_s3: tuple[Project, Proxy], fault: Any, rclone: S3Server
) -> None:
    project, proxy = on_s3
    rule = proxy.inject(fault, "PUT", "MLmodel", times=2)
    done = project.run(*QUICK, *store(proxy, read_timeout=2))
    assert done.returncode == 0, done.stderr
    assert rule.times == 0
    assert_complete(beside(project, rclone), project.last_run().info.run_id)


# A store that stays away: the run fails, nothing is registered, `resume` completes it


@pytest.mark.parametrize("path", ["model_card.md", "linear-weights.npz"], ids=["files", "model"])
def test_a_failed_upload_keeps_the_model_and_is_resumed_without_training(
    on_s3: tuple[Project, Proxy], rclone: S3Server, path: str
) -> None:
    project, proxy = on_s3
    proxy.inject(SLOW_DOWN, "PUT", path)
    done = project.run(*QUICK, *store(proxy))
    run = project.last_run()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the store is overloaded (SlowDown")
    assert run.info.status == "FAILED"
    assert "SlowDown" in run.data.tags["error"]
    assert versions_of(project, run.info.run_id) == []

    proxy.heal()
    kept = KEPT.search(done.stderr)
    assert kept, done.stderr
    printed = shlex.split(done.stderr.split("`")[-2])  # the command, with the store it went to
    assert printed[:4] == ["python", "-m", "spam_mlflow", "resume"]
    resumed = project.run(*printed[3:])
    assert resumed.returncode == 0, resumed.stderr
    assert "Epoch" not in resumed.stdout
    assert not Path(kept[1]).exists()
    assert_complete(beside(project, rclone), run.info.run_id)


def test_a_store_that_takes_nothing_is_found_out_before_training(
    on_s3: tuple[Project, Proxy],
) -> None:
    project, proxy = on_s3
    proxy.inject(Answer(403, "AccessDenied"), "PUT")
    done = project.run(*QUICK, *store(proxy))
    assert done.returncode == 1
    assert "Epoch" not in done.stdout
    assert done.stderr.startswith("error: the key may not do that (AccessDenied)")
    assert project.last_run().info.status == "FAILED"


def test_a_finished_run_is_not_resumed_twice(on_s3: tuple[Project, Proxy]) -> None:
    project, proxy = on_s3
    folder = project.folder / "out"
    done = project.run(*QUICK, f"output_dir={folder}", *store(proxy))
    assert done.returncode == 0, done.stderr
    proxy.requests.clear()
    again = project.run("resume", f"folder={folder}", *store(proxy))
    assert again.returncode == 0, again.stderr
    assert "is complete already" in again.stderr
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: None, "does not hold a finished training"),
        (lambda folder: (folder / "results.json").write_text("{}"), "does not hold a finished"),
    ],
)
def test_a_folder_that_holds_no_training_is_not_resumed(
    project: Project, make: Callable[[Path], None], expected: str
) -> None:
    make(project.folder)
    done = project.run("resume", f"folder={project.folder}")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


# The tracking server


def kill(stack: Stack, service: str) -> None:
    current = Stack.open(stack.folder, {}, auth=False).process(service)
    assert current is not None
    os.killpg(current.pid, signal.SIGKILL)
    current.wait(10)


def restart(stack: Stack) -> None:
    done = stack_command(stack.folder, "start")
    assert done.returncode == 0, done.stderr


def through(project: Project, proxy: Proxy) -> Project:
    return Project(project.folder, {**project.environment, "MLFLOW_TRACKING_URI": proxy.url})


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [("mlflow", "PUT", "linear-weights.npz"), ("postgresql", "POST", "log-batch")],
    ids=["server, while the model is logged", "database, during training"],
)
def test_what_is_killed_and_restarted_is_waited_for(
    on_server: tuple[Project, Proxy], stack: Stack, service: str, method: str, path: str
) -> None:
    project, proxy = on_server

    def crash() -> None:
        kill(stack, service)
        restart(stack)

    rule = proxy.inject(Call(crash), method, path, times=1)
    done = through(project, proxy).run(*QUICK)
    assert done.returncode == 0, done.stderr
    assert rule.times == 0
    assert_complete(project, project.last_run().info.run_id)


# The database of a sweep's study


def sweep(database: str) -> tuple[str, ...]:
    space = "search.parameters=[{name: train.epochs, type: int, low: 1, high: 3}]"
    return ("sweep", "data=sample", space, "trials=1", f"study_db={database}")


def in_the_first_trial(proxy: Proxy, function: Callable[[], None]) -> list[str]:
    """Have something happen while a trial logs, and return a list that tells whether it has."""
    happened: list[str] = []

    def happen() -> None:
        created = [path for _, path in proxy.requests if path.endswith("runs/create")]
        if len(created) == 2 and not happened:  # the parent run, and the trial's
            happened.append("once")
            function()

    proxy.inject(Call(happen), "POST", "log-batch")
    return happened


def test_a_database_that_restarts_does_not_end_a_sweep(
    on_server: tuple[Project, Proxy], stack: Stack
) -> None:
    project, proxy = on_server

    def crash() -> None:
        kill(stack, "postgresql")
        restart(stack)

    happened = in_the_first_trial(proxy, crash)
    done = through(project, proxy).run(*sweep(new_database(stack, "restarted")))
    assert done.returncode == 0, done.stderr
    assert happened
    assert "Best of 1 trials" in done.stderr


def test_a_database_that_is_gone_ends_a_sweep_in_one_line(
    on_server: tuple[Project, Proxy], stack: Stack
) -> None:
    project, proxy = on_server
    database = new_database(stack, "dropped")

    def drop() -> None:
        with psycopg.connect(stack.state.database("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE dropped WITH (FORCE)")

    happened = in_the_first_trial(proxy, drop)
    done = through(project, proxy).run(*sweep(database))
    assert happened
    require_one_line(done, "the same command goes on with the sweep")
    assert 'database "dropped" does not exist' in done.stderr
    assert stack.state.database_password not in done.stderr


def test_a_server_that_stays_away_while_the_model_is_logged(
    on_server: tuple[Project, Proxy], stack: Stack
) -> None:
    project, proxy = on_server
    variables = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
    impatient = Project(project.folder, {**through(project, proxy).environment, **variables})
    proxy.inject(Call(lambda: kill(stack, "mlflow")), "PUT", "linear-weights.npz", times=1)
    done = impatient.run(*QUICK)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    kept = KEPT.search(done.stderr)
    assert kept, done.stderr

    restart(stack)
    run = project.last_run()
    assert run.info.status != "FINISHED"
    assert versions_of(project, run.info.run_id) == []
    resumed = project.run("resume", f"folder={kept[1]}")
    assert resumed.returncode == 0, resumed.stderr
    assert_complete(project, run.info.run_id)


def test_a_server_that_stops_during_training_holds_up_nothing_and_nothing_is_lost(
    on_server: tuple[Project, Proxy], stack: Stack
) -> None:
    project, proxy = on_server
    variables = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",  # which are logged at any time
    }
    impatient = Project(project.folder, {**through(project, proxy).environment, **variables})

    # The training begins after the data are logged, and logs its epochs.
    def stop_at_the_next_epoch() -> None:
        proxy.inject(Call(lambda: kill(stack, "mlflow")), "POST", "log-batch", times=1)

    proxy.inject(Call(stop_at_the_next_epoch), "POST", "log-inputs", times=1)
    done = impatient.run(*QUICK, "train.epochs=3")
    assert done.returncode == 1
    silent = f"tracking server {proxy.url} does not answer"
    usual = ("Epoch ", "The threshold is ")
    told = [line for line in without_progress(done.stderr) if not line.startswith(usual)]
    goes_on, waiting, error = told
    assert goes_on.startswith(f"the {silent} (")
    assert "; the training goes on, and what is not logged yet is logged later" in goes_on
    assert waiting == f"The {silent}; waiting for it for up to 4 s"
    assert error.startswith(f"error: the {silent} (")
    kept = KEPT.search(error)
    assert kept, done.stderr

    restart(stack)
    resumed = project.run("resume", f"folder={kept[1]}")
    assert resumed.returncode == 0, resumed.stderr
    run_id = project.last_run().info.run_id
    assert_complete(project, run_id)
    history = project.client.get_metric_history(run_id, "loss")
    assert [metric.step for metric in history] == [1, 2, 3]


# The client's disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 110 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=110m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a database may be open


def fill(folder: Path, leave: int) -> None:
    with (folder / "filler").open("wb") as file:
        for _ in range((shutil.disk_usage(folder).free - leave) // 2**16):
            file.write(bytes(2**16))


@pytest.mark.parametrize("setting", ["TMPDIR", "output_dir"])
def test_a_disk_without_room_is_found_out_before_training(
    tmp_path: Path, small_disk: Path, setting: str
) -> None:
    fill(small_disk, 10 * 2**20)
    project = Project(tmp_path, {"TMPDIR": str(small_disk)} if setting == "TMPDIR" else {})
    overrides = [f"output_dir={small_disk}"] if setting == "output_dir" else []
    done = project.run(*QUICK, *overrides)
    assert done.returncode == 1
    assert re.search(rf"error: only \d+ MB are free .* with {setting}", done.stderr), done.stderr
    assert "Epoch" not in done.stdout


def test_a_disk_without_room_for_the_database(project: Project, small_disk: Path) -> None:
    shutil.copy(project.folder / STORE_FILE, small_disk)
    fill(small_disk, 0)
    with (small_disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(512))
    elsewhere = {"MLFLOW_TRACKING_URI": f"sqlite:///{small_disk / STORE_FILE}"}
    done = Project(project.folder, elsewhere).run(*QUICK)
    require_one_line(done, "the database has no space left on its disk")
    assert len(without_progress(done.stderr)) == 1


def test_a_disk_without_room_for_a_model(
    trained: Trained, tmp_path: Path, small_disk: Path
) -> None:
    fill(small_disk, 2**18)
    project = trained.copy(tmp_path)
    (tmp_path / "messages.csv").write_text("text\nhello\n")
    full = Project(tmp_path, {**project.environment, "TMPDIR": str(small_disk)})
    model = "model_uri=models:/spam-classifier/1"
    done = full.execute("score", model, "input=messages.csv", "output=scores")
    require_one_line(done, "cannot be downloaded: no space is left on this machine's disk")


def test_a_disk_that_fills_up_during_training(project: Project, small_disk: Path) -> None:
    process = project.start(*QUICK, "train.epochs=20", f"output_dir={small_disk}")
    try:
        project.wait_for_epoch()
        fill(small_disk, 2**18)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    run = project.last_run()
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: no space is left on the disk of"), errors
    assert run.info.status == "FAILED"
    assert "no space is left" in run.data.tags["error"]
    assert versions_of(project, run.info.run_id) == []
