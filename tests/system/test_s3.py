import hashlib
import io
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.fault_proxy import SLOW_DOWN, Answer, Reset, Stall, between
from support.project import ROOT, Project, require_one_line
from support.servers import S3Server, storage

from spam_mlflow.batch_scoring import listing
from spam_mlflow.batch_worker.folders import Folder
from spam_mlflow.batch_worker.jobs import Part
from spam_mlflow.errors import UserError
from spam_mlflow.registry import loading
from spam_mlflow.storage import s3

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.new_bucket()


# Access


def test_a_check_of_access_passes_and_leaves_nothing_behind(
    s3_server: S3Server, bucket: str
) -> None:
    s3.check_access(s3_server.project_client(), bucket, "runs")
    assert s3_server.keys(bucket) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"access_key": "AKIAUNKNOWN"}, "the access key is unknown there (InvalidAccessKeyId)"),
        ({"secret_key": "wrong"}, "the secret key is wrong (SignatureDoesNotMatch)"),
    ],
)
def test_wrong_keys_are_told_apart(
    rclone: S3Server, change: Mapping[str, str], expected: str
) -> None:
    server = S3Server(**{**vars(rclone), **change})
    with pytest.raises(UserError, match=re.escape(expected)):
        s3.check_access(server.project_client(), rclone.new_bucket(), "runs")


def test_a_missing_bucket_is_said_to_be_missing(s3_server: S3Server) -> None:
    with pytest.raises(UserError, match=r"the bucket does not exist \(NoSuchBucket\)"):
        s3.check_access(s3_server.project_client(), "no-such-bucket", "runs")


def test_an_unreachable_endpoint_is_named(rclone: S3Server) -> None:
    with pytest.raises(UserError, match=rf"the endpoint cannot be reached .*{UNREACHABLE}"):
        s3.check_access(rclone.project_client(UNREACHABLE, attempts=1), "any-bucket", "runs")


SKEWED = Answer(403, "RequestTimeTooSkewed", (("Date", "Wed, 25 Nov 2020 00:00:00 GMT"),))
REGION = Answer(400, "AuthorizationHeaderMalformed", more="<Region>eu-central-1</Region>")


@pytest.mark.parametrize(
    ("fault", "method", "expected"),
    [
        (Answer(403, "AccessDenied"), "PUT", "cannot write .* its policy must allow PutObject"),
        (Answer(403, "AccessDenied"), "GET", "cannot read .* its policy must allow GetObject"),
        (Answer(403, "AccessDenied"), "DELETE", "cannot delete .* must allow DeleteObject"),
        (REGION, "PUT", "the region is wrong .*: the bucket is in eu-central-1; set region"),
        (SKEWED, "PUT", r"this machine's clock is off by \+\d+,\d+,\d+ s"),
        (Answer(403, "ExpiredToken"), "PUT", "the session token is no longer valid"),
        (SLOW_DOWN, "PUT", r"the store is overloaded \(SlowDown, 2 attempts\)"),
        (Answer(507, "QuotaExceeded"), "PUT", "PutObject failed: QuotaExceeded"),
        (Stall(3), "PUT", "cannot be reached .*[Rr]ead timeout"),
        (Reset(), "PUT", "cannot be reached .*(reset|closed)"),
    ],
)
def test_a_store_that_refuses_is_explained(
    rclone: S3Server, fault: Any, method: str, expected: str
) -> None:
    bucket = rclone.new_bucket()
    with between(rclone.url) as proxy:
        proxy.inject(fault, method)
        with pytest.raises(UserError, match=expected):
            s3.check_access(
                rclone.project_client(proxy.url, attempts=2, read_timeout=1), bucket, "runs"
            )


def test_a_listing_that_may_not_be_read_leaves_no_probe_behind(rclone: S3Server) -> None:
    bucket = rclone.new_bucket()
    with between(rclone.url) as proxy:
        proxy.inject(Answer(403, "AccessDenied"), "GET", "list-type")
        with pytest.raises(UserError, match=r"cannot list .* must allow ListObjectsV2"):
            s3.check_access(rclone.project_client(proxy.url), bucket, "runs")
    assert rclone.keys(bucket) == set()


def test_what_is_no_store_is_found_out(rclone: S3Server) -> None:
    bucket = rclone.new_bucket()
    with between(rclone.url) as proxy:
        proxy.inject(Answer(200, "Hello"), "GET")
        with pytest.raises(UserError, match=r"gives back b'<.*not what was written"):
            s3.check_access(rclone.project_client(proxy.url), bucket, "runs")


def test_a_short_overload_is_waited_for(rclone: S3Server) -> None:
    bucket = rclone.new_bucket()
    with between(rclone.url) as proxy:
        proxy.inject(SLOW_DOWN, "PUT", times=2)
        s3.check_access(rclone.project_client(proxy.url), bucket, "runs")
        assert proxy.count("PUT") == 3


# Buckets, sizes, addressing, checksums


def test_a_bucket_is_created_once(s3_server: S3Server) -> None:
    name = f"new-{uuid.uuid4().hex[:12]}"
    for _ in range(2):
        s3.create_bucket(s3_server.project_client(), name, "us-east-1")
    s3.check_access(s3_server.project_client(), name, "runs")


def test_a_bucket_is_created_in_its_region(moto: S3Server) -> None:
    name = f"new-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(moto.project_client(region="eu-central-1"), name, "eu-central-1")
    location = moto.client().get_bucket_location(Bucket=name)
    assert location["LocationConstraint"] == "eu-central-1"


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_large_files_go_in_parts_and_come_back_whole(
    s3_server: S3Server, bucket: str, tmp_path: Path, checksums: str
) -> None:
    content = os.urandom(20 * 2**20)
    (tmp_path / "large").write_bytes(content)
    with between(s3_server.url) as proxy:
        store = s3_server.project_client(proxy.url, checksums=checksums)
        store.upload_file(str(tmp_path / "large"), bucket, "large")
        assert sum("partNumber=" in path for _, path in proxy.requests) == 3
    store = s3_server.project_client(checksums=checksums)
    store.download_file(bucket, "large", str(tmp_path / "again"))
    found = hashlib.sha256((tmp_path / "again").read_bytes()).digest()
    assert found == hashlib.sha256(content).digest()


def test_both_addressing_styles(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve: Callable[..., Any] = socket.getaddrinfo

    def with_subdomains(host: str, *arguments: Any, **more: Any) -> Any:
        """Resolve bucket.localhost, which not every machine does."""
        return resolve("127.0.0.1" if host.endswith(".localhost") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", with_subdomains)
    bucket = moto.new_bucket()
    url = moto.url.replace("127.0.0.1", "localhost")
    for style in ("path", "virtual"):
        s3.check_access(moto.project_client(url, addressing_style=style), bucket, "runs")


# The command that makes an experiment's artifacts go to a bucket


def use_bucket(project: Project, url: str, *overrides: str) -> Any:
    return project.run("bucket", "storage=local", f"endpoint_url={url}", *overrides)


def test_an_experiment_is_bound_to_a_bucket(tmp_path: Path, rclone: S3Server) -> None:
    project = Project(tmp_path, rclone.credentials)
    name = f"new-{uuid.uuid4().hex[:12]}"
    for _ in range(2):
        done = use_bucket(project, rclone.url, f"bucket={name}", "create=true")
        assert done.returncode == 0, done.stderr
    experiment = project.client.get_experiment_by_name("spam-classifier")
    assert experiment is not None
    assert experiment.artifact_location == f"s3://{name}/mlflow"
    assert f"export MLFLOW_S3_ENDPOINT_URL={rclone.url}" in done.stderr
    assert rclone.secret_key not in done.stderr + done.stdout
    assert rclone.keys(name) == set()


def test_an_experiment_that_lies_elsewhere_is_not_moved(tmp_path: Path, rclone: S3Server) -> None:
    project = Project(tmp_path, rclone.credentials)
    project.client.create_experiment("spam-classifier", str(tmp_path / "local"))
    done = use_bucket(project, rclone.url, f"bucket={rclone.new_bucket()}")
    require_one_line(done, "puts its artifacts into")
    command = done.stderr.split("`")[-2]
    assert "name=spam-classifier-s3" in command
    pasted = project.call("bash", "-c", command)
    assert pasted.returncode == 0, pasted.stderr
    assert "export MLFLOW_EXPERIMENT_NAME=spam-classifier-s3" in pasted.stderr


def test_the_guide_works_after_the_quick_start(
    trained_project: Project, rclone: S3Server, tmp_path: Path
) -> None:
    """The first block of the guide as it is written, but for the store and the data."""
    name = rclone.new_bucket()
    block = (ROOT / "docs" / "how-to" / "s3.md").read_text().split("```sh\n")[1].split("```")[0]
    for written, ours in (
        ("bucket=my-bucket", f"bucket={name}"),
        ("storage=linode region=nl-ams-1", f"storage=local endpoint_url={rclone.url}"),
        (
            "storage=linode storage.region=nl-ams-1",
            f"storage=local storage.endpoint_url={rclone.url} debug=fast",
        ),
    ):
        assert written in block
        block = block.replace(written, ours)
    project = Project(tmp_path, rclone.credentials)
    before = len(project.runs())
    done = project.call("bash", "-ec", block)
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert len(project.runs()) == before + 1
    assert run.info.artifact_uri.startswith(f"s3://{name}/mlflow/")
    assert f"mlflow/{run.info.run_id}/artifacts/config.yaml" in rclone.keys(name)
    trained = f"main storage=local storage.endpoint_url={rclone.url}"
    assert done.stderr.split("Then train: ")[1].splitlines()[0].endswith(trained)


def test_without_credentials_the_user_is_told_which_are_missing(
    tmp_path: Path, rclone: S3Server
) -> None:
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    done = use_bucket(Project(tmp_path, nowhere), rclone.url, "bucket=any-bucket")
    assert done.returncode == 1
    assert "there are no S3 credentials; set AWS_ACCESS_KEY_ID" in done.stderr
    assert not Project(tmp_path).client.search_experiments(filter_string="name = 'spam-classifier'")


def test_an_unknown_profile_is_named(tmp_path: Path, rclone: S3Server) -> None:
    project = Project(tmp_path, {"AWS_PROFILE": "nobodys", "HOME": str(tmp_path)})
    done = use_bucket(project, rclone.url, "bucket=any-bucket")
    assert done.returncode == 1
    assert "(nobodys) could not be found; check AWS_PROFILE" in done.stderr


# Bulk scoring


def test_a_pattern_names_objects_as_it_names_files(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in s3_server.credentials.items():
        monkeypatch.setenv(key, value)
    for name in ("a.csv", "_b.csv", ".c.csv", "sub/d.csv", "sub/_e.csv", "_old/f.csv"):
        s3_server.client().put_object(Bucket=bucket, Key=f"in/{name}", Body=b"text\na")
    expected = {"*.csv": ["a.csv"], "**/*.csv": ["a.csv", "sub/d.csv"], "_*/*": ["_old/f.csv"]}
    for pattern, names in expected.items():
        address = f"s3://{bucket}/in/{pattern}"
        found = listing.find(address, storage(s3_server.url), Folder(f"{bucket}/out"))[1]
        assert [file.path for file in found] == [f"in/{name}" for name in names]


def test_messages_are_scored_from_and_to_a_store(
    trained_project: Project, s3_server: S3Server, bucket: str
) -> None:
    project = Project(trained_project.folder, s3_server.credentials)
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="in/a.csv", Body=b"text\nhello\nWINNER\n")
    client.put_object(Bucket=bucket, Key="in/more/b.jsonl", Body=b'{"text": "hi"}\n{"text": null}')
    table = pd.DataFrame({"text": [f"text {n}" for n in range(50)]})
    client.put_object(Bucket=bucket, Key="in/c.parquet", Body=table.to_parquet())
    command = ("score", "model_uri=models:/spam-classifier/1", "storage=local", "format=jsonl")
    address = f"storage.endpoint_url={s3_server.url}"
    source, output = f"input=s3://{bucket}/in", f"output=s3://{bucket}/scores"
    more = (address, "part_rows=20", "workers=1", "storage.attempts=1")
    done = project.run(*command, source, output, *more)
    assert done.returncode == 0, done.stderr
    names = sorted(key for key in s3_server.keys(bucket) if re.match(r"scores/(part|rej)", key))
    assert names == [f"scores/part-0000{n}.jsonl" for n in range(5)] + [
        "scores/rejects/_part-00004.jsonl"
    ]
    content = [client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in names]
    ids = [json.loads(line)["id"] for part in content[:5] for line in part.splitlines()]
    assert ids == [
        "a.csv:2",
        "a.csv:3",
        *(f"c.parquet:{n}" for n in range(1, 51)),
        "more/b.jsonl:1",
    ]
    # The same command finds that nothing is left to do, and a part that was lost is scored again.
    client.delete_object(Bucket=bucket, Key=names[1])
    assert project.run(*command, source, output, *more).returncode == 0
    body = client.get_object(Bucket=bucket, Key="scores/_manifest.json")["Body"].read()
    assert json.loads(body)["scored_by_this_call"] == 20
    assert client.get_object(Bucket=bucket, Key=names[1])["Body"].read() == content[1]
    unreachable = f"storage.endpoint_url={UNREACHABLE}"
    for where in (f"input=s3://{bucket}/*.gone", f"input=s3://{bucket}-gone/in"):
        refused = project.run(*command, where, output, *more)
        require_one_line(refused, "names no file" if "*" in where else "bucket does not exist")
    (project.folder / "a.csv").write_text("text\nx")
    refused = project.run(*command, "input=a.csv", output, *more[1:], unreachable)
    require_one_line(refused, f"output='s3://{bucket}/scores': ")


@pytest.mark.extended
@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")
def test_a_killed_spark_job_is_completed_on_this_machine_from_and_to_a_store(
    trained_project: Project, rclone: S3Server
) -> None:
    bucket = rclone.new_bucket()
    project, client = Project(trained_project.folder, rclone.credentials), rclone.client()
    texts = [f"Claim prize {n} now" if n % 5 else None for n in range(6000)]
    frame = pd.DataFrame({"id": range(6000), "text": texts})
    client.put_object(Bucket=bucket, Key="in/a.parquet", Body=frame.to_parquet())
    # As Hadoop's jars call it, which are not needed.
    addresses = (f"input=s3a://{bucket}/in", f"output=s3a://{bucket}/scores")
    store = ("storage=local", f"storage.endpoint_url={rclone.url}")
    settings = ("id_column=id", "part_rows=200", *addresses, *store)
    command = ("score", "model_uri=models:/spam-classifier/1", *settings)
    job = project.start(*command, "engine=spark", "spark.master=local[2]")
    threading.Thread(target=job.communicate, daemon=True).start()
    while job.poll() is None and f"scores/{Part(3, 0).record}" not in rclone.keys(bucket):
        time.sleep(0.1)
    job.kill()
    job.wait(60)
    assert "scores/_manifest.json" not in rclone.keys(bucket)
    done = project.run(*command, "workers=1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored_by_this_call"] <= 4800 - 3 * 160
    parts = sorted(key for key in rclone.keys(bucket) if key.startswith("scores/part-"))
    assert len(parts) == 30
    bodies = (client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in parts)
    found = pd.concat([pd.read_parquet(io.BytesIO(body)) for body in bodies])
    kept = frame.dropna()
    with project.store_here():
        expected = loading.load_model("models:/spam-classifier/1").spam_probability(
            list(kept["text"])
        )
    assert list(found["id"]) == list(kept["id"])
    assert list(found["spam_probability"]) == list(expected)
