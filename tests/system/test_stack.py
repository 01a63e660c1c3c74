import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag
from mlflow.entities.model_registry import ModelVersion
from support import in_process
from support.fault_proxy import between
from support.processes import ready_processes
from support.project import ROOT, Project, Trained
from support.servers import PORTS, S3Server, running_stack, serve, stack_command, stack_line

from scripts.stack import BUCKET, Stack
from spam_mlflow.gate.scoring_server import free_port
from spam_mlflow.tracking.runs import retry_on_conflict

TEXT = "URGENT! You have won a £1000 prize, call 09061701461 now"


@pytest.fixture(scope="module")
def on_stack(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A main job by a client that knows the server's address and no S3 keys."""
    folder = tmp_path_factory.mktemp("client")
    project = Project(folder, {**stack.state.client_environment(), "HOME": str(folder)})
    done = project.run("main", "data=sample", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    return Trained(project, project.last_run(), done.stdout, done.stderr)


# The stack itself


def test_starting_again_changes_nothing(stack: Stack) -> None:
    before = (stack.folder / "stack.json").read_text()
    done = stack_command(stack.folder, "start")
    assert done.returncode == 0, done.stderr
    assert (stack.folder / "stack.json").read_text() == before
    assert f"export MLFLOW_TRACKING_URI={stack.state.url('mlflow')}" in done.stdout


def test_status_tells_what_runs(stack: Stack, tmp_path: Path) -> None:
    done = stack_command(stack.folder, "status")
    assert done.returncode == 0
    assert done.stdout.count("runs, process") == 3
    missing = stack_command(tmp_path, "status")
    assert missing.returncode == 1
    assert "there is no stack in" in missing.stdout


def test_it_listens_on_the_loopback_interface_only(stack: Stack) -> None:
    processes = [
        child
        for service in stack.state.ports
        if (process := Stack.open(stack.folder, {}, auth=False).process(service))
        for child in [process, *process.children(recursive=True)]
    ]
    listening = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_secrets_are_readable_by_their_owner_only(stack: Stack) -> None:
    for name in ("stack.json", "client.env", "s3.env"):
        assert stat.S_IMODE((stack.folder / name).stat().st_mode) == 0o600
    commands = " ".join(
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    )
    assert stack.state.secret_key not in commands
    assert stack.state.database_password not in commands


def test_the_database_asks_for_the_password(stack: Stack) -> None:
    import psycopg

    address = stack.state.database("mlflow").replace(stack.state.database_password, "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(address)


def test_other_hosts_and_origins_are_refused(stack: Stack) -> None:
    url = f"{stack.state.url('mlflow')}/api/2.0/mlflow/experiments/create"
    name = {"name": "created by a stranger"}
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert requests.post(url, json=name, headers=headers, timeout=10).status_code == 403


def test_a_port_that_is_taken_is_named(stack: Stack, tmp_path: Path) -> None:
    taken = str(stack.state.ports["postgresql"])
    ports = ("--postgresql-port", taken, "--s3-port", "0", "--port", "0")
    done = stack_command(tmp_path, "start", *ports)
    assert done.returncode == 1
    assert f"error: port {taken} of postgresql is taken by another program" in done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_runs(tmp_path)


def nothing_runs(folder: Path) -> bool:
    """Return whether all services of a stack have been stopped, by the processes it recorded."""
    return Stack.open(folder, {}, auth=False).running() == []


def test_a_start_that_fails_in_the_middle_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "s3").touch()  # where the store has its folder
    done = stack_command(tmp_path, "start", *PORTS)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert set(Stack.open(tmp_path, {}, auth=False).state.processes) == {"postgresql"}
    assert nothing_runs(tmp_path)


def test_a_start_that_is_ended_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        stack_line(tmp_path, "start", *PORTS), cwd=ROOT, text=True, stderr=subprocess.PIPE
    )
    log = tmp_path / "postgresql.log"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.is_file() and log.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted"
    assert "postgresql" in Stack.open(tmp_path, {}, auth=False).state.processes
    assert nothing_runs(tmp_path)


def test_a_stack_that_runs_keeps_its_settings(stack: Stack) -> None:
    for options, named in ((("--s3-port", "9"), "--s3-port"), (("--auth",), "--auth")):
        done = stack_command(stack.folder, "start", *options)
        assert done.returncode == 1
        assert f"runs with other settings; stop it before it gets {named}" in done.stderr


@pytest.mark.parametrize("command", [("tool", "run"), ("run", "--isolated", "--no-project")])
def test_environments_of_uv_for_one_command_do_not_last(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    code = (
        "import sys; from pathlib import Path; from scripts.stack_environment import lasts; "
        "print(lasts(Path(sys.prefix)))"
    )
    line = ("-m", "uv", *command, "--with", "packaging", "python", "-c", code)
    assert Project(tmp_path).call(sys.executable, *line).stdout.strip() == "False"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("guarded"), "--auth") as stack:
        yield stack


def test_with_auth_only_users_get_in(guarded: Stack, tmp_path: Path) -> None:
    address = {"MLFLOW_TRACKING_URI": guarded.state.url("mlflow")}
    done = Project(tmp_path, address).run("history")
    assert done.returncode == 1
    assert "MLFLOW_TRACKING_USERNAME" in done.stderr
    assert "Traceback" not in done.stderr
    user = Project(tmp_path, guarded.state.client_environment())
    # A whole job asks MLflow some two hundred times to check the password, which is slow by design.
    done = user.open_at_once(1)
    assert done.returncode == 0, done.stderr
    with user.environment_here():
        run = user.last_run()
        assert run.info.status == "FINISHED"
        user.client.log_text(run.info.run_id, "kept", "note.txt")
        assert [file.path for file in user.client.list_artifacts(run.info.run_id)] == ["note.txt"]


# The main job on it


def test_every_artifact_lies_on_s3(on_stack: Trained, rclone: S3Server) -> None:
    listed = rclone.keys(BUCKET)
    run = f"/{on_stack.run.info.run_id}/artifacts/"
    assert on_stack.run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert any(key.endswith(f"{run}keras/spam-model.keras") for key in listed)
    assert any(key.endswith("/artifacts/MLmodel") for key in listed)
    assert not list(on_stack.project.folder.rglob("spam-model.keras"))


def test_a_registered_version_is_served_from_s3(on_stack: Trained) -> None:
    project = on_stack.project
    (version,) = project.client.search_model_versions(f"run_id='{on_stack.run.info.run_id}'")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    model = ("--model-uri", f"models:/spam-classifier/{version.version}")
    command = ("mlflow", "models", "serve", *model, "--env-manager", "local", "--port", str(port))
    for _ in serve(command, project.folder, project.env(), f"{url}/health"):
        answer = requests.post(f"{url}/invocations", json={"inputs": [TEXT]}, timeout=60)
        assert answer.json()["predictions"][0]["label"] == "spam"


def test_artifacts_are_uploaded_once_each(stack: Stack, tmp_path: Path) -> None:
    with between(stack.state.url("mlflow"), rename_host=True) as proxy:
        project = Project(tmp_path, {"MLFLOW_TRACKING_URI": proxy.url})
        done = project.run("main", "debug=fast")
        assert done.returncode == 0, done.stderr
        requested = re.compile(r"/mlflow-artifacts/(?:artifacts|presigned)/(.+)")
        found = [(method, requested.search(path)) for method, path in proxy.requests]
    artifacts = [(method, match[1]) for method, match in found if match]
    uploaded = [path for method, path in artifacts if method == "PUT"]
    read = [path for method, path in artifacts if method == "GET"]
    # Only the model is read back, once, for the digest of its files as the store has them.
    assert sorted(read) == sorted(path for path in uploaded if "/models/" in path)
    twice = {path.rpartition("/")[2] for path in uploaded if uploaded.count(path) > 1}
    assert twice == {"config.yaml"}  # first alone, as a check of access


def test_rows_that_others_insert_first_are_found(stack: Stack, tmp_path: Path) -> None:
    """Of eight that create the same experiment, MLflow tells seven that it exists."""
    client = MlflowClient(stack.state.url("mlflow"))
    frame = pd.DataFrame({"text": ["hello"], "label": ["ham"]})
    dataset = from_pandas(frame, name="data", digest=tmp_path.name[-30:])
    inputs = [DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "test")])]
    together = threading.Barrier(8, timeout=60)

    def insert(_: int) -> None:
        together.wait()
        retry_on_conflict(
            lambda: (
                client.get_experiment_by_name(tmp_path.name)
                or client.create_experiment(tmp_path.name)
            )
        )
        experiment = client.get_experiment_by_name(tmp_path.name)
        assert experiment is not None
        run_id = client.create_run(experiment.experiment_id).info.run_id
        together.wait()
        retry_on_conflict(lambda: client.log_inputs(run_id, inputs))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(insert, range(8)))


def test_eight_first_jobs_at_once_make_the_tables(stack: Stack, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(stack.state.database("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    project = Project(tmp_path, {"MLFLOW_TRACKING_URI": stack.state.database("empty")})
    done = project.open_at_once(8)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [run.info.status for run in project.runs()] == ["FINISHED"] * 8


def test_eight_runs_at_once_lose_nothing(stack: Stack, tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        {**stack.state.client_environment(), "MLFLOW_EXPERIMENT_NAME": tmp_path.name},
    )

    quick = ("main", "data=sample", "train.epochs=1")
    with ready_processes(8) as pool:
        jobs = [
            pool.submit(in_process.run, (*quick, f"seed={seed}"), tmp_path, project.env())
            for seed in range(8)
        ]
        ended = [job.result() for job in jobs]
    assert [done.stderr for done in ended if done.returncode] == []
    experiment = project.client.get_experiment_by_name(tmp_path.name)
    assert experiment is not None
    runs = project.client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == [str(seed) for seed in range(8)]
    sizes = set()
    versions: list[ModelVersion] = []
    for run in runs:
        run_id = run.info.run_id
        assert run.info.status == "FINISHED"
        files = project.client.list_artifacts(run_id)
        sizes.add((len(run.data.params), len(run.data.metrics), len(files)))
        versions += project.client.search_model_versions(f"run_id='{run_id}'")
    assert len(sizes) == 1
    assert len({version.version for version in versions}) == 8
    models = project.client.search_logged_models([experiment.experiment_id])
    assert [str(model.status) for model in models] == ["READY"] * 8


# Secrets


def test_no_secret_is_left_behind(
    on_stack: Trained, stack: Stack, rclone: S3Server, tmp_path: Path
) -> None:
    """Neither in what a run logs (parameters, tags, artifacts) nor in what it prints or writes."""
    project = Project(tmp_path, {**rclone.credentials, "TMPDIR": str(tmp_path)})
    place = ("storage=local", f"endpoint_url={rclone.url}", f"bucket={BUCKET}")
    direct = ("storage=local", f"storage.endpoint_url={rclone.url}")
    output = on_stack.output + on_stack.errors
    for arguments in (
        ("bucket", *place),
        ("main", "debug=fast", "register=true", *direct),
        ("publish", "model_uri=models:/spam-classifier/1", *place),
        ("pull", *place),
        ("main", "debug=fast", *direct, "storage.endpoint_url=http://127.0.0.1:9"),
    ):
        done = project.run(*arguments)
        output += done.stdout + done.stderr
    state = stack.state
    dump = stack_dump(stack)
    objects = [
        rclone.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for key in rclone.keys(BUCKET)
    ]
    local = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(objects) > 70
    assert any(b"endpoint_url" in content for content in local)  # the runs are in there
    for secret in (state.secret_key, state.access_key, state.database_password):
        assert secret not in output
        assert secret not in dump
        assert not any(secret.encode() in content for content in (*objects, *local))


def stack_dump(stack: Stack) -> str:
    """Return every row of every table of the tracking database."""
    import psycopg

    rows = []
    with psycopg.connect(stack.state.database("mlflow")) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (name,) in tables:
            query = psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(name))
            rows += connection.execute(query).fetchall()
    text = "\n".join(map(str, rows))
    assert "train.epochs" in text
    return text


def test_servers_are_told_nothing_by_the_users_environment(tmp_path: Path) -> None:
    from scripts.stack import clean_environment

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_PROFILE", "production")
        patch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
        found = clean_environment({"AWS_DEFAULT_REGION": "us-east-1"})
    assert {name for name in found if name.startswith(("AWS_", "MLFLOW_"))} == {
        "AWS_DEFAULT_REGION"
    }
    assert found["PATH"] == os.environ["PATH"]
