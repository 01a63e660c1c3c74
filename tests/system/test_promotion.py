import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from mlflow.exceptions import MlflowException
from support.project import Project, Trained
from support.servers import serve

from spam_mlflow.gate.scoring_server import free_port
from spam_mlflow.registry import aliases

NAME = "spam-classifier"
GATE = ("data=sample", "gate=sample")


def champion(project: Project) -> str | None:
    try:
        return str(project.client.get_model_version_by_alias(NAME, "champion").version)
    except MlflowException:
        return None


def tags(project: Project, version: str) -> dict[str, str]:
    return dict(project.client.get_model_version(NAME, version).tags)


def run_of(project: Project, version: str) -> str:
    return str(project.client.get_model_version(NAME, version).run_id)


def gate_artifacts(project: Project, version: str) -> list[str]:
    found = project.client.list_artifacts(run_of(project, version), "gate")
    return [file.path for file in found]


def another_version(project: Project) -> str:
    """Register the model of version 1 once more."""
    first = project.client.get_model_version(NAME, "1")
    source = project.client.get_model_version_download_uri(NAME, "1")
    done = project.client.create_model_version(
        NAME, source, first.run_id, {**first.tags, "validation_status": "none"}
    )
    return str(done.version)


@pytest.fixture(scope="module")
def own(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A store of its own with version 1 promoted through the whole gate."""
    project = trained.copy(tmp_path_factory.mktemp("promotion"))
    done = project.run("promote", "version=1", "allow_no_champion=true", *GATE)
    assert done.returncode == 0, done.stderr
    assert "champion moved from nothing to version 1" in done.stderr
    return project


@pytest.fixture
def at_one(own: Project) -> Project:
    """The same with the champion back at version 1, whatever an earlier test did."""
    client = own.client
    for key in [k for k in client.get_registered_model(NAME).tags if k.startswith("promotion.")]:
        if key != "promotion.00001":
            client.delete_registered_model_tag(NAME, key)
    client.set_registered_model_alias(NAME, "champion", "1")
    return own


def test_every_check_has_a_named_result_with_the_run_and_in_the_tag(own: Project) -> None:
    run_id = run_of(own, "1")
    results = json.loads(
        Path(own.client.download_artifacts(run_id, "gate/checks.json")).read_text()
    )
    verdicts = {check["name"]: check["verdict"] for check in results["checks"]}
    kinds = {name.partition(":")[0] for name in verdicts}
    assert kinds == {
        *("provenance", "data", "metric", "champion", "baseline", "slice"),
        *("behavior", "modern", "service", "budget"),
    }
    assert set(verdicts.values()) == {"passed", "not applicable"}
    # Those that do not apply are not among those that passed.
    passed = list(verdicts.values()).count("passed")
    assert aliases.events(own.client)[0].reason == f"passed {passed} checks"
    evidence = {check["name"]: check["evidence"] for check in results["checks"]}
    assert tags(own, "1")["model.digest"] in evidence["provenance: files"]
    assert "split.csv" in evidence["provenance: split.csv, parts"]
    assert all(check["why"] and check["bound"] for check in results["checks"])
    assert len(results["holdout_digest"]) == 64
    assert (
        "| provenance: commit"
        in Path(own.client.download_artifacts(run_id, "gate/checks.md")).read_text()
    )
    assert tags(own, "1")["validation_status"] == "passed"


def gate_report(project: Project, version: str) -> str:
    """Return the report that the gate has logged to the run of a version."""
    run_id = run_of(project, version)
    return Path(project.client.download_artifacts(run_id, "gate/report.html")).read_text()


def test_a_better_or_equal_version_takes_over_and_can_be_taken_back(at_one: Project) -> None:
    version = another_version(at_one)
    done = at_one.run("promote", f"version={version}", *GATE)
    assert done.returncode == 0, done.stderr
    assert "champion: f1 not worse" in done.stderr
    # Addresses and commands to copy are not wrapped.
    tables = [line for line in done.stderr.splitlines() if "http://" not in line]
    assert max(map(len, tables)) <= 80
    assert champion(at_one) == version
    report = gate_report(at_one, version)
    assert "Every check that applies has passed." in report
    assert '<a href="#how-champion">champion: f1 not worse</a>' in report
    assert "version 1" in report
    assert f"for ham, by the scores of version {version}." in report
    assert re.search(r'"near":\{"\d+":\[\["', report)
    done = at_one.run("rollback", "reason='too many complaints'")
    assert done.returncode == 0, done.stderr
    assert champion(at_one) == "1"
    told = at_one.run("history").stdout
    assert "complaints" in told
    assert max(map(len, told.splitlines())) <= 80
    moves = json.loads(at_one.run("history", "--json").stdout)["moves"]
    assert [move["action"] for move in moves] == ["promote", "promote", "rollback"]
    assert moves[-1]["reason"] == "too many complaints"


def test_a_dry_run_runs_every_check_and_changes_nothing(at_one: Project) -> None:
    version = another_version(at_one)
    before = (tags(at_one, version), gate_artifacts(at_one, version), champion(at_one))
    runs = len(at_one.runs())
    done = at_one.run("promote", f"version={version}", "dry_run=true", *GATE)
    assert done.returncode == 0, done.stderr
    assert f"dry run: champion would move from version 1 to version {version}" in done.stderr
    assert "budget: latency" in done.stderr
    assert (tags(at_one, version), gate_artifacts(at_one, version), champion(at_one)) == before
    assert len(at_one.runs()) == runs


def test_a_rejected_version_changes_nothing_unless_a_reason_overrides(at_one: Project) -> None:
    """It was made from other data, and is not good enough."""
    version = another_version(at_one)
    at_one.client.set_model_version_tag(NAME, version, "split.digest", "0" * 64)
    at_one.client.set_model_version_tag(NAME, version, "data.fallback", "true")
    bounds = ("gate.floors.f1=0.9999", "gate.allow_fallback=false", "gate.memory_mb=1")
    demanding = ("promote", f"version={version}", *GATE, *bounds)
    done = at_one.run(*demanding, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["verdict"], told["candidate"]) == ("rejected", version)
    assert len([c for c in told["checks"] if c["verdict"] == "failed"]) == 4
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: version {version} is rejected, 4 of ")
    assert "metric: f1 is 0." in last
    assert "budget: memory is " in last
    assert "provenance: split.digest is 000000000000" in last
    assert "provenance: no fallback data is data.fallback=true, not false" in last
    assert "Traceback" not in done.stderr
    assert champion(at_one) == "1"
    assert tags(at_one, version)["validation_status"] == "rejected"

    done = at_one.run(*demanding, "override='the bound was mistyped'")
    assert done.returncode == 0, done.stderr
    assert champion(at_one) == version
    assert tags(at_one, version)["validation_status"] == "overridden"
    assert aliases.events(at_one.client)[-1].reason == "the bound was mistyped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("version=99",), "version='99' of spam-classifier does not exist; existing: 1"),
        (("version=1",), "version 1 is champion already"),
        (("version=1", "alias=challenger"), "there is no challenger to compare version 1 with"),
        (("version=1", "alias=elsewhere"), "alias='elsewhere'"),
        (("version=1", "gate.floors=high"), "gate.floors='high'"),
        (("version=1", "gate.churn=2"), "gate.churn=2"),
        ((), "version must be given"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_run(
    at_one: Project, arguments: Sequence[str], message: str
) -> None:
    done = at_one.run("promote", *arguments, *GATE)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert champion(at_one) == "1"


def test_a_second_first_promotion_is_refused(at_one: Project) -> None:
    version = another_version(at_one)
    done = at_one.run("promote", f"version={version}", "allow_no_champion=true", *GATE)
    assert done.returncode == 1
    assert "allow_no_champion=true, but version 1 is champion" in done.stderr


def test_a_flipped_byte_is_found_before_serving(project: Project) -> None:
    assert project.run("main", "data=sample", "train.epochs=1").returncode == 0
    (weights,) = project.folder.rglob("linear-weights.npz")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    done = project.run("promote", "version=1", "allow_no_champion=true", *GATE)
    assert done.returncode == 1
    assert "linear-weights.npz in " in done.stderr
    assert "has changed since the model was logged" in done.stderr
    assert "Traceback" not in done.stderr
    assert champion(project) is None
    command = ("models", "serve", "-m", "models:/spam-classifier/1", "--env-manager", "local")
    served = project.call(sys.executable, "-m", "mlflow", *command, "--port", str(free_port()))
    assert served.returncode != 0
    assert "has changed since the model was logged" in served.stderr + served.stdout
    weights.unlink()
    done = project.run("promote", "version=1", "allow_no_champion=true", *GATE)
    assert done.returncode == 1
    assert "is incomplete or damaged" in done.stderr


def test_the_champions_version_can_be_deleted_and_is_passed_over(at_one: Project) -> None:
    client = at_one.client
    second, third = another_version(at_one), another_version(at_one)
    for version, before in ((second, "1"), (third, second)):
        client.set_model_version_tag(NAME, version, "validation_status", "passed")
        aliases.move(client, "champion", "promote", version, before, "test")
    client.delete_model_version(NAME, third)
    assert champion(at_one) is None
    done = at_one.run("promote", "version=1", *GATE)
    assert done.returncode == 1
    assert "there is no champion to compare version 1 with" in done.stderr
    assert at_one.run("rollback").returncode == 0
    assert champion(at_one) == second
    client.delete_model_version(NAME, second)
    promoted = another_version(at_one)
    client.set_model_version_tag(NAME, promoted, "validation_status", "passed")
    aliases.move(client, "champion", "promote", promoted, None, "test")
    done = at_one.run("rollback")
    assert done.returncode == 1
    assert f"version {second}, to which champion would go back, was deleted" in done.stderr
    assert champion(at_one) == promoted
    assert at_one.run("rollback", "steps=2").returncode == 0
    assert champion(at_one) == "1"


def test_a_tracking_server_that_stops_in_the_middle_leaves_the_alias_alone(
    at_one: Project, tmp_path: Path
) -> None:
    version = another_version(at_one)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    options = ["--port", str(port), "--workers", "1", "--backend-store-uri", at_one.store]
    environment = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    for server in serve([*command, *options], tmp_path, at_one.env(), f"{address}/health"):
        remote = Project(at_one.folder, environment)
        process = remote.start("promote", f"version={version}", *GATE)
        try:
            _wait_for_scoring_server(process)
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(30)
            _, errors = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(
        f"error: the tracking server {address} does not answer"
    )
    assert "Traceback" not in errors
    assert champion(at_one) == "1"
    assert tags(at_one, version)["validation_status"] == "none"


def _wait_for_scoring_server(process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # git, for the code's version, is quick
                if "uvicorn" in child.cmdline():
                    return
        time.sleep(0.1)
    pytest.fail("the gate started no scoring server")
