"""What the gate finds of a version that is not what its tags say, with a real store."""

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from support.model_folder import BEFORE, describe, logged_model, update_checksums
from support.project import MLFLOW, Project, Trained, require_one_line

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.errors import UserError
from spam_mlflow.gate import child_process, provenance, recomputed, scoring_server
from spam_mlflow.gate.check import Holdout
from spam_mlflow.registry import aliases, loading, versions

NAME = "spam-classifier"
PROMOTE = ("promote", "allow_no_champion=true", "data=sample", "gate=sample")


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    settings = validate("promote", compose("promote", ["version=1", "data=sample"]))
    messages = settings.data.load()
    return Holdout(messages, settings.split.split(messages))


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """A copy of version 1's model that may be changed."""
    return Path(shutil.copytree(logged_model(trained.project), tmp_path / "model"))


def register(project: Project, model: Path, run_id: str | None = None) -> str:
    """Register a model by hand with the tags of version 1, and its run unless another is given."""
    first = project.client.get_model_version(NAME, "1")
    done = project.client.create_model_version(
        NAME, str(model), run_id or first.run_id, dict(first.tags)
    )
    return str(done.version)


def run_of(project: Project, version: str) -> str:
    return str(project.client.get_model_version(NAME, version).run_id)


def module(model: Path) -> Path:
    (package,) = (model / "code").iterdir()
    return package / "pyfunc_model.py"


def append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)


def provenance_verdicts(project: Project, version: str, holdout: Holdout) -> dict[str, str]:
    """Return the verdicts on a version's provenance by the rest of their names."""
    settings = validate("promote", compose("promote", ["version=1", "gate=sample"])).gate
    folder = project.folder / f"of {version}"
    with project.store_here():
        candidate = versions.find_version(project.client, version)
        model = loading.download(candidate.uri, folder)
        checks = [
            *provenance.provenance_checks(candidate, holdout, settings),
            *recomputed.file_checks(candidate, model, holdout, settings),
            *recomputed.split_checks(candidate, model, holdout),
        ]
    return {check.name.removeprefix("provenance: "): check.verdict for check in checks}


def failed(verdicts: dict[str, str]) -> set[str]:
    return {name for name, verdict in verdicts.items() if verdict == "failed"}


def test_a_run_and_its_version_record_the_digest_of_the_files(
    trained_project: Project, holdout: Holdout
) -> None:
    version = trained_project.client.get_model_version(NAME, "1")
    run = trained_project.client.get_run(run_of(trained_project, "1"))
    assert version.tags["model.digest"] == run.data.tags["model.digest"]
    verdicts = provenance_verdicts(trained_project, "1", holdout)
    assert failed(verdicts) == set()
    for name in ("files", "package", "split.csv, rows", "split.csv, parts", "model's data"):
        assert verdicts[name] == "passed"


def replace_weights(model: Path) -> None:
    import numpy as np

    file = model / "artifacts" / "classifier" / "linear-weights.npz"
    with np.load(file) as weights:
        changed = {**weights, "intercept": weights["intercept"] - 5}
    np.savez(file, **changed)
    update_checksums(model)


EDITS: dict[str, Callable[[Path], object]] = {
    "code": lambda model: append(
        module(model), "\nfrom pathlib import Path\nPath('ran').touch()\n"
    ),
    "entry": lambda model: append(model / "spam_model.py", "\nopen('ran', 'w')\n"),
    "weights": replace_weights,
    "packages": lambda model: append(model / "requirements.txt", "\nevil==1\n"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_files_under_copied_tags_are_rejected_without_being_run(
    trained_project: Project, copied: Path, edit: str
) -> None:
    EDITS[edit](copied)
    version = register(trained_project, copied)
    done = trained_project.run(*PROMOTE, f"version={version}")
    require_one_line(done, f"version {version} is rejected")
    assert "provenance: files is" in done.stderr.splitlines()[-1]
    assert "its code was not run" in " ".join(done.stderr.replace("|", " ").split())
    assert not list(trained_project.folder.rglob("ran"))
    tags = trained_project.client.get_model_version(NAME, version).tags
    assert tags["validation_status"] == "rejected"
    with pytest.raises(MlflowException):
        trained_project.client.get_model_version_by_alias(NAME, "champion")


def test_whoever_overrides_that_runs_it_and_reads_in_one_line_why_it_fails(
    trained_project: Project, copied: Path
) -> None:
    append(module(copied), "\nraise RuntimeError('not today')\n")
    version = register(trained_project, copied)
    done = trained_project.run(*PROMOTE, f"version={version}", "override='I wrote it'")
    require_one_line(done, "the scoring server of candidate did not start: ")
    assert "not today" in done.stderr.splitlines()[-1]
    with pytest.raises(UserError, match=r"texts in a fresh interpreter: .*not today"):
        child_process.spam_probability(copied, ["x"], trained_project.folder / "fresh")


class Unpickled:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("ran", "w")


@pytest.mark.parametrize("command", ["promote", "evaluate", "publish"])
def test_a_pickled_model_is_refused_by_every_command(
    trained_project: Project, copied: Path, command: str
) -> None:
    describe(copied, loader_module="mlflow.pyfunc.model", python_model="python_model.pkl")
    (copied / "python_model.pkl").write_bytes(pickle.dumps(Unpickled()))
    uri = f"models:/{NAME}/{register(trained_project, copied)}"
    arguments = {
        "promote": (*PROMOTE, f"version={uri[-1]}"),
        "evaluate": ("evaluate", "data=sample", f"model_uri={uri}"),
        "publish": ("publish", f"model_uri={uri}", "bucket=bucket", "storage=local"),
    }
    done = trained_project.run(*arguments[command])
    require_one_line(done, f"model_uri='{uri}' is not loaded, since mlflow.pyfunc.model would")
    assert not list(trained_project.folder.rglob("ran"))


def test_the_processes_that_run_a_version_get_no_credentials(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (
        "\nimport json, os, pathlib\npathlib.Path('told').write_text(json.dumps({**os.environ}))\n"
    )
    append(module(copied), told)
    secrets = {
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "MLFLOW_TRACKING_URI"),
        *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "PGPASSWORD"),
        *("TF_VAR_password", "HTTPS_PROXY", "GITHUB_TOKEN", "PYTHONPATH", "MLFLOW_RUN_ID"),
    }
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    scores = child_process.spam_probability(copied, ["ok", "win a prize"], tmp_path / "fresh")
    assert scores.shape == (2,)
    (tmp_path / "served").mkdir()
    with scoring_server.running(copied, tmp_path / "served" / "candidate.log") as server:
        assert abs(server.spam_probability(["ok", "win a prize"]) - scores).max() < 1e-9
    for folder in ("fresh", "served"):
        given = json.loads((tmp_path / folder / "told").read_text())
        assert not secrets & set(given)
        assert "secret" not in given.values()
        assert Path(given["HOME"]).is_relative_to(tmp_path / folder)
        assert given["OMP_NUM_THREADS"] == "1"


def test_versions_registered_by_hand_have_the_provenance_of_their_run(
    trained_project: Project, trained: Trained, holdout: Holdout
) -> None:
    with trained_project.store_here():
        by_hand = mlflow.register_model(f"runs:/{trained.run.info.run_id}/model", NAME)
        copy = trained_project.client.copy_model_version(f"models:/{NAME}/1", NAME)
        trained_project.client.create_registered_model("staging")
        elsewhere = trained_project.client.copy_model_version(f"models:/{NAME}/1", "staging")
        back = trained_project.client.copy_model_version(
            f"models:/staging/{elsewhere.version}", NAME
        )
    assert by_hand.tags == {}
    for version in (by_hand, copy, back):
        verdicts = provenance_verdicts(trained_project, str(version.version), holdout)
        assert failed(verdicts) == set()


def other_split(table: str) -> str:
    lines = table.splitlines()
    first_test = next(number for number, line in enumerate(lines) if line.startswith('"test",'))
    lines[first_test] = lines[first_test].replace('"test"', '"train"', 1)
    return "\n".join(lines) + "\n"


def compressed(table: str) -> bytes:
    return gzip.compress(table.encode())


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (other_split, {"split.csv, parts"}),
        (
            lambda table: "".join(table.splitlines(keepends=True)[:-1]),
            {"split.csv, rows", "split.csv, parts"},
        ),
        (lambda table: "no table", {"split.csv, rows", "split.csv, parts"}),
        (lambda table: None, {"split.csv, rows", "split.csv, parts"}),
        (compressed, set()),
        (lambda table: compressed(other_split(table)), {"split.csv, parts"}),
        (lambda table: compressed(table)[:-9], {"split.csv, rows", "split.csv, parts"}),
    ],
    ids=[
        "a test message was trained on",
        "a row is missing",
        "damaged",
        "missing",
        "compressed as it was",
        "compressed with a test message trained on",
        "cut off while compressed",
    ],
)
def test_tags_that_the_runs_rows_do_not_bear_out_are_found(
    trained_project: Project,
    trained: Trained,
    copied: Path,
    holdout: Holdout,
    change: Callable[[str], str | bytes | None],
    failing: set[str],
    tmp_path: Path,
) -> None:
    client = trained_project.client
    experiment = client.create_experiment("other", str(trained_project.folder / "artifacts"))
    run_id = client.create_run(experiment, tags=dict(trained.run.data.tags)).info.run_id
    table = change((trained.artifacts / "split.csv").read_text())
    if isinstance(table, bytes):
        (tmp_path / "split.csv.gz").write_bytes(table)
        client.log_artifact(run_id, str(tmp_path / "split.csv.gz"))
    elif table is not None:
        client.log_text(run_id, table, "split.csv")
    version = register(trained_project, copied, run_id)
    assert failed(provenance_verdicts(trained_project, version, holdout)) == failing


def test_a_run_that_was_deleted_is_unknown_provenance_of_a_candidate_and_nothing_else(
    project: Project, holdout: Holdout
) -> None:
    client = project.client
    experiment = client.create_experiment(NAME, str(project.folder / "artifacts"))
    client.create_registered_model(NAME)
    expected = json.loads((BEFORE / "expected.json").read_text())
    tags = {**expected["version_tags"], "validation_status": "passed"}
    for _ in range(3):
        run_id = client.create_run(experiment, tags=expected["run_tags"]).info.run_id
        client.create_model_version(NAME, str(BEFORE / "model"), run_id, tags)
    aliases.move(client, "champion", "promote", "1", None, "first")
    aliases.move(client, "champion", "promote", "2", "1", "second")
    for version in ("1", "2"):
        client.delete_run(run_of(project, version))
    assert project.call(MLFLOW, "gc", "--backend-store-uri", project.store).returncode == 0
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(run_of(project, "1"))

    done = project.run(
        "promote", "version=1", "alias=challenger", *PROMOTE[1:3], "gate.allow_undigested=false"
    )
    require_one_line(done, "provenance: commit is unknown, changed or unknown, not clean")
    assert client.get_model_version(NAME, "1").tags["validation_status"] == "rejected"
    client.set_model_version_tag(NAME, "1", "validation_status", "passed")

    aliases.move(client, "champion", "promote", "3", "2", "on")
    done = project.run("rollback", "steps=2", "reason=back")
    assert done.returncode == 0, done.stderr
    assert str(client.get_model_version_by_alias(NAME, "champion").version) == "1"
    assert project.run("history").returncode == 0
