"""What `deploy/` holds, as far as it can be checked without a cluster or a workspace."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from databricks.bundles.jobs import Job
from mlflow.exceptions import MlflowException
from mlflow.projects import _parse_kubernetes_config
from mlflow.projects.kubernetes import _get_kubernetes_job_definition, _get_run_command
from mlflow.projects.utils import get_entry_point_command, load_project
from mlflow.store.model_registry.databricks_workspace_model_registry_rest_store import (
    DatabricksWorkspaceModelRegistryRestStore,
)
from support.project import ROOT

from spam_mlflow import cli

KUBERNETES = ROOT / "deploy" / "kubernetes"
DATABRICKS = ROOT / "deploy" / "databricks"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # of objects in Kubernetes
JOBS = [
    ("main", "backend.json", {"epochs": "3", "train.batch_size": "64"}),
    ("evaluate", "backend.json", {"model_uri": "models:/spam-classifier@champion"}),
    ("score", "backend.json", {"model_uri": "models:/m/1", "input": "s3://b/x", "output": "out"}),
    ("sweep", "backend-sweep.json", {"study": "night", "trials": "200", "lost_after": "30"}),
]


def rendered(entry_point: str, backend: str, parameters: dict[str, str]) -> Any:
    """Return the job that `mlflow run --backend kubernetes` would create, made by its own code."""
    project = load_project(str(KUBERNETES))
    config = _parse_kubernetes_config(json.loads((KUBERNETES / backend).read_text()))
    command = get_entry_point_command(project, entry_point, parameters, None)
    variables = {"MLFLOW_RUN_ID": "0" * 32, "MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    return _get_kubernetes_job_definition(
        project.name,
        project.docker_env["image"],
        f"sha256:{'0' * 64}",
        _get_run_command(command),
        variables,
        config["kube-job-template"],
    )


@pytest.fixture(params=JOBS, ids=lambda job: job[0])
def job(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(ROOT)  # where `mlflow run` finds the template
    return rendered(*request.param)


def test_kubernetes_takes_the_jobs(job: Any) -> None:
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert NAME.fullmatch(job["metadata"]["name"])
    assert NAME.fullmatch(container["name"])
    assert not re.search(r"replaced by", json.dumps(job))


def test_jobs_have_no_secrets_and_no_rights(job: Any) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "spam-mlflow"}}]
    assert {entry["name"] for entry in container["env"]} == {"MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"}
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {container["workingDir"], "/tmp"} == mounted


def test_the_project_takes_the_jobs_commands(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUDY_DB", "postgresql://ann:s3cr3t@host/db")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["command"]
    assert program == "spam-mlflow"
    assert cli.main([*arguments, "--config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    expected = next(parameters for name, _, parameters in JOBS if name == arguments[0])
    for key, value in expected.items():
        section, _, name = {"epochs": "train.epochs"}.get(key, key).rpartition(".")
        assert str((config[section] if section else config)[name]) == value
    if arguments[0] == "sweep":
        assert config["study_db"] == "${oc.env:STUDY_DB}"


def test_a_sweep_differs_from_other_jobs_in_its_number_of_pods() -> None:
    files = KUBERNETES / "job.yaml", KUBERNETES / "job-sweep.yaml"
    one, several = (yaml.safe_load(file.read_text()) for file in files)
    assert several["spec"].pop("parallelism") > 1
    assert one["spec"].pop("backoffLimit") < several["spec"].pop("backoffLimit")
    assert one == several


def test_the_image_has_all_that_the_package_is_built_from() -> None:
    lines = (KUBERNETES / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    ignored = (KUBERNETES / "Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert all(any(Path(name).match(pattern) for pattern in kept) for name in copied)


# Databricks


@pytest.fixture
def bundle() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DATABRICKS / "databricks.yml").read_text())
    return loaded


def test_databricks_takes_the_job(bundle: dict[str, Any]) -> None:
    (job,) = bundle["resources"]["jobs"].values()
    parsed: Any = Job.from_dict(job).as_dict()  # which refuses unknown keys and values
    assert [task["task_key"] for task in parsed["tasks"]] == ["train", "score"]
    used = set(re.findall(r"\${var\.(\w+)}", json.dumps(bundle)))
    assert used == set(bundle["variables"])
    job["tasks"][0]["max_retry"] = 1
    with pytest.raises(ValueError, match="Unexpected field 'max_retry'"):
        Job.from_dict(job)


def test_the_project_takes_the_commands_of_its_tasks(bundle: dict[str, Any]) -> None:
    (job,) = bundle["resources"]["jobs"].values()
    for task in job["tasks"]:
        script = task["spark_python_task"]
        assert (DATABRICKS / script["python_file"]).is_file()
        words = [w for w in script["parameters"] if not re.match("[A-Z_]+=", w)]
        given = [re.sub(r"\${var\.(\w+)}", lambda m: default(bundle, m[1]), w) for w in words]
        assert cli.main([*given, "--config"]) == 0


def test_the_tasks_need_no_alias_which_their_registry_lacks(bundle: dict[str, Any]) -> None:
    assert "MLFLOW_REGISTRY_URI=databricks" in json.dumps(bundle["resources"])
    registry = DatabricksWorkspaceModelRegistryRestStore("databricks", "databricks")
    with pytest.raises(MlflowException, match="Unity Catalog"):
        registry.get_model_version_by_alias("spam-classifier", "champion")
    assert "@" not in default(bundle, "model_uri")


def default(bundle: dict[str, Any], name: str) -> str:
    return str(bundle["variables"][name]["default"])


def test_a_command_that_fails_ends_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runpy.run_path(str(DATABRICKS / "run_command.py"))["main"]
    monkeypatch.setenv("SPAM_DEPLOYED", "no")
    run(["SPAM_DEPLOYED=yes", "main", "data_dir=${oc.env:SPAM_DEPLOYED}", "--config"])
    with pytest.raises(SystemExit) as ended:
        run(["main", "epochs=many"])
    assert ended.value.code == 1
