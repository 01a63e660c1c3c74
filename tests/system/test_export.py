import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fault_proxy import SLOW_DOWN, Answer, Reset, Truncate, between
from support.project import Project, Trained
from support.servers import S3Server

from spam_mlflow.errors import UserError
from spam_mlflow.scorer.classifier import MODEL_FILE
from spam_mlflow.storage import export
from spam_mlflow.storage.export import S3Location
from spam_mlflow.storage.manifest import FILES, H5_FILE, MANIFEST_FILE

PREFIX = "exports/spam-sms"
TEXTS = ["Ok, see you at seven then", "URGENT! You have won a £1000 prize, call 09061701461 now"]
SOURCE = {"model_uri": "models:/spam-classifier/1"}

# What the README shows: predicting from a pulled folder, without MLflow.
SCRIPT = """
import importlib
import json
import sys
from pathlib import Path
sys.modules["mlflow"] = None

folder = Path("exports/spam-sms")
source = json.loads((folder / "manifest.json").read_text())["source"]
sys.path.insert(0, str(folder / "spam-classifier-code.zip"))
Classifier = importlib.import_module(f"{source['code_package']}.classifier").Classifier

classifier = Classifier.load(folder)
for text, probability in zip(sys.argv[1:], classifier.spam_probability(sys.argv[1:])):
    print(f"{probability:.6f}", text)
"""


@pytest.fixture
def bucket(rclone: S3Server) -> str:
    return rclone.new_bucket()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Small files under the names of an export."""
    return write_files(tmp_path / "files", "first")


def write_files(folder: Path, content: str) -> Path:
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{content} {name}")
    return folder


def location(server: S3Server, bucket: str, url: str | None = None) -> S3Location:
    return S3Location(server.project_client(url, attempts=2), bucket, PREFIX)


def content(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in FILES}


# From the user's side


@pytest.fixture(scope="module")
def publisher(trained: Trained, rclone: S3Server) -> tuple[Project, str]:
    """A project with a trained model and S3 credentials, and the options that name the store."""
    return Project(trained.project.folder, rclone.credentials), rclone.new_bucket()


def on(server: S3Server, bucket: str) -> tuple[str, ...]:
    return ("storage=local", f"endpoint_url={server.url}", f"bucket={bucket}")


@pytest.fixture(scope="module")
def published(publisher: tuple[Project, str], rclone: S3Server) -> str:
    project, bucket = publisher
    model = "model_uri=models:/spam-classifier/1"
    done = project.run("publish", model, "h5=true", *on(rclone, bucket))
    assert done.returncode == 0, done.stderr
    assert f"is published at s3://{bucket}/{PREFIX}" in done.stderr
    return bucket


def test_the_bucket_holds_the_files_and_their_digests(rclone: S3Server, published: str) -> None:
    assert rclone.keys(published) == {f"{PREFIX}/{name}" for name in (*FILES, MANIFEST_FILE)}
    store = rclone.client()
    manifest = store.get_object(Bucket=published, Key=f"{PREFIX}/{MANIFEST_FILE}")["Body"].read()
    for name, file in json.loads(manifest)["files"].items():
        head = store.head_object(Bucket=published, Key=f"{PREFIX}/{name}")
        assert head["ContentLength"] == file["size"]
        assert {k.lower(): v for k, v in head["Metadata"].items()}["sha256"] == file["sha256"]


def test_a_pulled_folder_predicts_without_mlflow(
    tmp_path: Path, rclone: S3Server, published: str, trained: Trained
) -> None:
    done = Project(tmp_path, rclone.credentials).run("pull", *on(rclone, published))
    assert done.returncode == 0, done.stderr
    (tmp_path / "predict.py").write_text(SCRIPT)
    predicted = subprocess.run(
        [sys.executable, "predict.py", *TEXTS],
        cwd=tmp_path,
        env={**Project(tmp_path).env(), "PYTHONPATH": ""},
        text=True,
        capture_output=True,
        check=False,
    )
    assert predicted.returncode == 0, predicted.stderr
    found = [float(line.split()[0]) for line in predicted.stdout.splitlines()]
    served = trained_scores(trained)
    np.testing.assert_allclose(found, served, atol=1e-5)


def trained_scores(trained: Trained) -> np.ndarray:
    from spam_mlflow.scorer import scorers

    return scorers.load(trained.model_folder / "artifacts" / "classifier").spam_probability(TEXTS)


def test_the_old_format_holds_the_same_network(
    tmp_path: Path, rclone: S3Server, published: str
) -> None:
    from spam_mlflow.scorer import keras_backend

    export.pull(location(rclone, published), tmp_path / "pulled")
    models = keras_backend.load().models
    new, old = (
        models.load_model(tmp_path / "pulled" / name, compile=False)
        for name in (MODEL_FILE, H5_FILE)
    )
    for ours, theirs in zip(new.get_weights(), old.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_publishing_the_same_again_uploads_nothing(
    publisher: tuple[Project, str], rclone: S3Server, published: str
) -> None:
    project, bucket = publisher
    with between(rclone.url) as proxy:
        options = (*on(rclone, bucket), f"endpoint_url={proxy.url}", "h5=true")
        done = project.run("publish", "model_uri=models:/spam-classifier/1", *options)
        assert done.returncode == 0, done.stderr
        assert "is published already" in done.stderr
        assert proxy.count("PUT") == 0


def test_what_is_published_by_its_alias_is_the_version(
    trained: Trained, tmp_path: Path, rclone: S3Server
) -> None:
    """The alias may point elsewhere when someone reads the export."""
    bucket = rclone.new_bucket()
    project = Project(trained.copy(tmp_path).folder, rclone.credentials)
    project.client.set_registered_model_alias("spam-classifier", "challenger", "1")
    for name in ("models:/spam-classifier@challenger", "models:/spam-classifier/latest"):
        done = project.run("publish", f"model_uri={name}", *on(rclone, bucket))
        assert done.returncode == 0, done.stderr
        alias = "challenger" if "@" in name else None
        shown = "models:/spam-classifier/1" + (" (@challenger)" if alias else "")
        assert done.stderr.splitlines()[-1].startswith(f"{shown} is published at ")
        pulled = project.run("pull", *on(rclone, bucket))
        assert pulled.returncode == 0, pulled.stderr
        assert "version 1" in pulled.stderr
        manifest = json.loads((tmp_path / "exports/spam-sms/manifest.json").read_text())
        source = manifest["source"]
        assert source["model_uri"] == "models:/spam-classifier/1"
        assert (source["model_name"], source["version"]) == ("spam-classifier", "1")
        assert source.get("alias") == alias


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("model_uri=models:/spam-classifier@nobody",), "names no registered version"),
        (("model_uri=models:/spam-classifier/99",), "is not a model of this project"),
        (("model_uri=models:/spam-classifier/1", "bucket=no-such-bucket"), "does not exist"),
    ],
)
def test_bad_input_is_explained(
    publisher: tuple[Project, str],
    rclone: S3Server,
    overrides: tuple[str, ...],
    expected: str,
) -> None:
    project, bucket = publisher
    done = project.run("publish", *on(rclone, bucket), *overrides)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_was_published_nothing_is_pulled(
    tmp_path: Path, rclone: S3Server, bucket: str
) -> None:
    done = Project(tmp_path, rclone.credentials).run("pull", *on(rclone, bucket))
    assert done.returncode == 1
    assert f"has no {MANIFEST_FILE}" in done.stderr
    assert not (tmp_path / "exports" / "spam-sms").exists()


# Order, interruption, repetition


def test_the_manifest_is_written_last(files: Path, s3_server: S3Server, tmp_path: Path) -> None:
    bucket = s3_server.new_bucket()
    with between(s3_server.url) as proxy:
        assert export.publish(files, SOURCE, location(s3_server, bucket, proxy.url))
        puts = [path for method, path in proxy.requests if method == "PUT"]
    assert puts[-1] == f"/{bucket}/{PREFIX}/{MANIFEST_FILE}"
    assert len(puts) == 2 * len(FILES) + 1
    export.pull(location(s3_server, bucket), tmp_path / "pulled")
    assert content(tmp_path / "pulled") == content(files)


@pytest.mark.parametrize("fault", [Reset(), SLOW_DOWN])
def test_a_broken_upload_leaves_the_old_export_and_is_taken_up_again(
    files: Path, tmp_path: Path, rclone: S3Server, bucket: str, fault: Any
) -> None:
    export.publish(files, SOURCE, location(rclone, bucket))
    newer = write_files(tmp_path / "newer", "second")
    with between(rclone.url) as proxy:
        proxy.inject(fault, "PUT", f"incoming/{FILES[-1]}")
        with pytest.raises(UserError, match="cannot publish to"):
            export.publish(newer, SOURCE, location(rclone, bucket, proxy.url))
        export.pull(location(rclone, bucket), tmp_path / "pulled")
        assert content(tmp_path / "pulled") == content(files)

        proxy.heal()
        proxy.requests.clear()
        assert export.publish(newer, SOURCE, location(rclone, bucket, proxy.url))
        uploads = [
            path for method, path in proxy.requests if "incoming" in path and method == "PUT"
        ]
        assert uploads == [f"/{bucket}/{PREFIX}/incoming/{FILES[-1]}"]
    export.pull(location(rclone, bucket), tmp_path / "pulled")
    assert content(tmp_path / "pulled") == content(newer)
    assert not any("incoming" in key for key in rclone.keys(bucket))


def test_a_half_replaced_export_is_refused_and_can_be_completed(
    files: Path, tmp_path: Path, rclone: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_READ_PAUSE", 0)
    export.publish(files, SOURCE, location(rclone, bucket))
    newer = write_files(tmp_path / "newer", "second")
    with between(rclone.url) as proxy:
        proxy.inject(SLOW_DOWN, "PUT", f"{PREFIX}/{FILES[1]}")
        with pytest.raises(UserError, match="cannot publish to"):
            export.publish(newer, SOURCE, location(rclone, bucket, proxy.url))
    with pytest.raises(UserError, match=f"{FILES[0]} at .* differ from {MANIFEST_FILE}"):
        export.pull(location(rclone, bucket), tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    export.publish(newer, SOURCE, location(rclone, bucket))
    export.pull(location(rclone, bucket), tmp_path / "pulled")
    assert content(tmp_path / "pulled") == content(newer)


def test_files_of_an_earlier_export_do_not_linger(
    files: Path, rclone: S3Server, bucket: str
) -> None:
    export.publish(files, SOURCE, location(rclone, bucket))
    (files / H5_FILE).unlink()
    export.publish(files, SOURCE, location(rclone, bucket))
    assert f"{PREFIX}/{H5_FILE}" not in rclone.keys(bucket)


# Downloads


def test_a_broken_download_is_repeated(
    files: Path, tmp_path: Path, rclone: S3Server, bucket: str
) -> None:
    export.publish(files, SOURCE, location(rclone, bucket))
    with between(rclone.url) as proxy:
        rule = proxy.inject(Truncate(), "GET", FILES[0], times=2)
        export.pull(location(rclone, bucket, proxy.url), tmp_path / "pulled")
        assert rule.times == 0
    assert content(tmp_path / "pulled") == content(files)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Truncate(), "the download broke off|cannot be reached"),
        (Answer(403, "AccessDenied"), "its policy must allow"),
        (Answer(200, "Changed"), "differ from manifest.json"),
    ],
)
def test_a_download_that_fails_leaves_the_folder_as_it_was(
    files: Path,
    tmp_path: Path,
    rclone: S3Server,
    bucket: str,
    fault: Any,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "_READ_PAUSE", 0)
    export.publish(files, SOURCE, location(rclone, bucket))
    export.pull(location(rclone, bucket), tmp_path / "pulled")
    export.publish(write_files(tmp_path / "newer", "second"), SOURCE, location(rclone, bucket))
    with between(rclone.url) as proxy:
        proxy.inject(fault, "GET", FILES[0])
        with pytest.raises(UserError, match=expected):
            export.pull(location(rclone, bucket, proxy.url), tmp_path / "pulled")
    assert content(tmp_path / "pulled") == content(files)
    assert {path.name for path in tmp_path.iterdir()} == {"files", "newer", "pulled"}


def test_what_is_there_already_is_not_downloaded_again(
    files: Path, tmp_path: Path, rclone: S3Server, bucket: str
) -> None:
    export.publish(files, SOURCE, location(rclone, bucket))
    export.pull(location(rclone, bucket), tmp_path / "pulled")
    (tmp_path / "pulled" / FILES[0]).write_text("damaged")
    with between(rclone.url) as proxy:
        export.pull(location(rclone, bucket, proxy.url), tmp_path / "pulled")
        read = [path.rpartition("/")[2] for method, path in proxy.requests if method == "GET"]
    assert read == [MANIFEST_FILE, FILES[0]]
    assert content(tmp_path / "pulled") == content(files)


def test_a_folder_with_anything_else_in_it_is_not_replaced(
    files: Path, tmp_path: Path, rclone: S3Server, bucket: str
) -> None:
    export.publish(files, SOURCE, location(rclone, bucket))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds 'thesis.txt', which is not part of an export"):
        export.pull(location(rclone, bucket), mine)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "manifest",
    [
        "no JSON",
        "[]",
        '{"files": {"../../evil": {"size": 1, "sha256": "%s"}}, "source": {}}' % ("0" * 64),
        '{"files": {"spam-model.keras": {"size": 1, "sha256": "x"}}, "source": {}}',
    ],
)
def test_a_manifest_that_is_none_is_refused(
    tmp_path: Path, rclone: S3Server, bucket: str, manifest: str
) -> None:
    key = f"{PREFIX}/{MANIFEST_FILE}"
    rclone.client().put_object(Bucket=bucket, Key=key, Body=manifest.encode())
    with pytest.raises(UserError, match=f"{MANIFEST_FILE}.*publish again"):
        export.pull(location(rclone, bucket), tmp_path / uuid.uuid4().hex)
    assert not list(tmp_path.iterdir())
