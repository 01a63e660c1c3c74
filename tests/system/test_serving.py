import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from support.project import ENVIRONMENTS, MLFLOW, Trained
from support.servers import serve

from scripts import bench_serving
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.gate import scoring_server
from spam_mlflow.gate.scoring_server import free_port
from spam_mlflow.scorer.classifier import Classifier

HAM, SPAM = (
    "Ok, see you at seven then",
    "Subscribe to my channel for free gift cards",
)
HEBREW = "\u05e9\u05dc\u05d5\u05dd \u202exyz"
ODD = ["", " ", "\U0001f600\U0001f4b0", HEBREW, "a b " * 25_000]


@dataclass(frozen=True)
class Endpoint:
    url: str

    def post(self, body: Any, content_type: str = "application/json") -> requests.Response:
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        headers = {"Content-Type": content_type}
        return requests.post(f"{self.url}/invocations", data=data, headers=headers, timeout=60)

    def score(self, body: Any) -> list[dict[str, Any]]:
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["predictions"])


@pytest.fixture(scope="module", params=["local", "uv"])
def endpoint(
    request: pytest.FixtureRequest, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(MLFLOW, "models", "serve"),
        *("-m", "models:/spam-classifier/1", "--env-manager", request.param),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    folder = tmp_path_factory.mktemp("serve")
    # The model must bring its own code: the project is not on the path.
    # Its environment is its own, too: other tests build theirs at the same time.
    own = {"PYTHONPATH": "", "MLFLOW_ENV_ROOT": f"{ENVIRONMENTS}-serving"}
    env = {**trained.project.env(), **own}
    for _ in serve(command, folder, env, f"{url}/ping"):
        yield Endpoint(url)


def payloads(texts: list[str]) -> dict[str, Any]:
    return {
        "dataframe_split": {"dataframe_split": {"columns": ["text"], "data": [[t] for t in texts]}},
        "dataframe_records": {"dataframe_records": [{"text": t} for t in texts]},
        "inputs list": {"inputs": texts},
        "inputs column": {"inputs": {"text": texts}},
        "inputs records": {"inputs": [{"text": t} for t in texts]},
        "instances list": {"instances": texts},
        "instances records": {"instances": [{"text": t} for t in texts]},
    }


@pytest.fixture(scope="module")
def classifier(trained: Trained) -> Classifier:
    """What was trained, to be scored by Keras."""
    return Classifier.load(trained.artifacts / "keras")


@pytest.mark.parametrize("texts", [[HAM, SPAM], [SPAM], [HAM, SPAM, *ODD]], ids=len)
@pytest.mark.parametrize("form", payloads([]))
def test_every_documented_payload_is_answered_alike(
    endpoint: Endpoint, classifier: Classifier, form: str, texts: list[str]
) -> None:
    rows = endpoint.score(payloads(texts)[form])
    expected = classifier.spam_probability(texts)
    assert len(rows) == len(texts)
    keys = {"label", "spam_probability", "ham_probability"}
    doubtful = keys | {"low_confidence"}  # of a text unlike all that the model was trained on
    assert [set(row) for row in rows] == [doubtful if text in ODD else keys for text in texts]
    scores = [row["spam_probability"] for row in rows]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose([row["ham_probability"] for row in rows], 1 - expected, atol=1e-6)
    spam = np.array(scores) >= classifier.metadata.threshold
    assert [row["label"] for row in rows] == np.where(spam, "spam", "ham").tolist()


def test_the_examples_get_the_labels_a_person_would_give(endpoint: Endpoint) -> None:
    assert [row["label"] for row in endpoint.score({"inputs": [HAM, SPAM]})] == ["ham", "spam"]


def test_the_threshold_can_be_given(endpoint: Endpoint) -> None:
    for threshold, label in ((0.0, "spam"), (1.0, "ham")):
        rows = endpoint.score({"inputs": [HAM], "params": {"threshold": threshold}})
        assert rows[0]["label"] == label


def test_an_explanation_sums_to_the_logit(endpoint: Endpoint) -> None:
    texts = [HAM, SPAM, *ODD]
    plain = endpoint.score({"inputs": texts})
    rows = endpoint.score({"inputs": texts, "params": {"explain": True}})
    for row, unexplained in zip(rows, plain, strict=True):
        assert row["spam_probability"] == unexplained["spam_probability"]
        assert "explanation" not in unexplained
        logit = math.log(row["spam_probability"] / row["ham_probability"])
        total = sum(part["contribution"] for part in row["explanation"])
        assert total == pytest.approx(logit, abs=1e-6)
    features = [part["feature"] for part in rows[1]["explanation"]]
    assert features[-2:] == ["all other features", "intercept"]
    assert len(features) == 12
    assert any("subscribe" in name or "channel" in name for name in features)
    moved = [abs(part["contribution"]) for part in rows[1]["explanation"][:10]]
    assert moved == sorted(moved, reverse=True)


BAD: dict[str, tuple[Any, str]] = {
    "1 MB": ({"inputs": [HAM, "a" * 2**20]}, "row 1 is 1,048,576 characters long; at most 200,000"),
    "null": ({"dataframe_records": [{"text": HAM}, {"text": None}]}, "row 1 is null"),
    "number": ({"dataframe_records": [{"text": 5}]}, "row 0 is int: 5"),
    "boolean": ({"dataframe_records": [{"text": True}]}, "row 0 is bool: True"),
    "object": ({"dataframe_records": [{"text": {"a": 1}}]}, "row 0 is dict"),
    "null in inputs": ({"inputs": [HAM, None]}, "row 1 is null"),
    "number in inputs": ({"inputs": [5]}, "row 0 is int: 5"),
    "number in instances": ({"instances": [HAM, 5]}, "row 1 is int: 5"),
    "null in a column": ({"inputs": {"text": [None]}}, "row 0 is null"),
    "missing column": ({"dataframe_records": [{"body": HAM}]}, "text"),
    "missing column, split": ({"dataframe_split": {"columns": ["x"], "data": [["y"]]}}, "text"),
    "threshold": ({"inputs": [HAM], "params": {"threshold": 2}}, "threshold=2 must be a number"),
    "threshold of text": ({"inputs": [HAM], "params": {"threshold": "x"}}, "threshold"),
    "no known key": ({"texts": [HAM]}, "inputs"),
    "misspelled": ({"inputs": [HAM], "params": {"thresold": 1}}, "parameters are threshold and"),
    "not JSON": ("{nonsense", "JSON"),
    "empty body": ("", "JSON"),
    "list": ([HAM], "JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_reason(endpoint: Endpoint, name: str) -> None:
    body, message = BAD[name]
    answer = endpoint.post(body)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["message"]
    assert len(answer.text) < 300
    assert "Traceback" not in answer.text
    assert endpoint.score({"inputs": [HAM]})[0]["label"] == "ham"  # and the next one is served


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", "application/vnd.apache.parquet", ""])
def test_only_json_is_read(endpoint: Endpoint, kind: str) -> None:
    answer = endpoint.post("text\nhello\n", kind)
    assert answer.status_code == 415
    assert "send JSON" in answer.json()["message"]
    assert "Traceback" not in answer.text


def test_an_answer_names_the_version(endpoint: Endpoint, trained: Trained) -> None:
    named = endpoint.post({"inputs": [HAM]}).json()["model"]
    model_id = mlflow.models.Model.load(str(model_folder(trained))).model_id
    assert named == {"name": "spam-classifier", "version": "1", "model_id": model_id}


def test_the_models_environment_is_small_and_pinned(trained: Trained) -> None:
    model = model_folder(trained)
    lines = (model / "requirements.txt").read_text().split()
    names = [line.partition("==")[0] for line in lines]
    assert sorted(names) == ["confusable-homoglyphs", "mlflow", "numpy", "pandas"]
    assert all("==" in line for line in lines)
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle")]


def model_folder(trained: Trained) -> Path:
    uri = trained.project.client.get_model_version_download_uri("spam-classifier", "1")
    return Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=trained.project.store))


def test_in_python_the_answer_is_a_table_equal_to_the_servers(
    endpoint: Endpoint, trained: Trained
) -> None:
    model = mlflow.pyfunc.load_model(str(model_folder(trained)))
    for texts in ([HAM, SPAM, *ODD], []):
        params = {"explain": True}
        table = model.predict(pd.DataFrame({"text": texts}, dtype=object), params=params)
        served = endpoint.score({**payloads(texts)["dataframe_split"], "params": params})
        rows = table.to_dict(orient="records")
        assert [{k: v for k, v in row.items() if v != ""} for row in rows] == served
        assert list(table)[:3] == ["label", "spam_probability", "ham_probability"]


def test_many_clients_with_good_bad_and_heavy_requests_at_once(
    trained: Trained, tmp_path: Path
) -> None:
    texts = SampleSource().load().frame["text"].tolist()[:200]
    with scoring_server.running(model_folder(trained), tmp_path / "server.log") as server:
        found = bench_serving.soak(server, texts, 400)
    assert (found.good, found.bad, found.heavy, found.wrong) == (360, 20, 20, 0)
    assert not found.unrefused
    assert not found.unanswered
    assert found.same_process
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_large_requests_do_not_hold_up_single_messages(trained: Trained, tmp_path: Path) -> None:
    """MLflow has six threads where there are two cores, and these are ten large requests."""
    texts = SampleSource().load().frame["text"].tolist()
    with (
        scoring_server.running(model_folder(trained), tmp_path / "server.log") as server,
        ThreadPoolExecutor(10) as pool,
        server.another_client() as other,
    ):
        other.score({"inputs": [HAM]})  # the server gets more threads with its first answer
        body = {"inputs": texts * 3}
        large = [pool.submit(server.post, body) for _ in range(10)]
        singles = 0
        while not all(request.done() for request in large):
            assert len(other.score({"inputs": [HAM]})) == 1
            singles += 1
        answers = [request.result() for request in large]
    assert [len(answer.json()["predictions"]) for answer in answers] == [3 * len(texts)] * 10
    assert singles > 20


def test_the_install_step_of_the_generated_dockerfile(trained: Trained, tmp_path: Path) -> None:
    version = "models:/spam-classifier/1"
    mlflow_command = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile"]
    made = trained.project.call(*mlflow_command, "-m", version, "-d", str(tmp_path / "image"))
    assert made.returncode == 0, made.stderr
    dockerfile = (tmp_path / "image" / "Dockerfile").read_text()
    (pinned,) = re.findall(r"^RUN pip install (mlflow==[\d.]+)$", dockerfile, re.MULTILINE)
    (install,) = re.findall(r'^RUN python -c "(.*)"$', dockerfile, re.MULTILINE)
    assert "COPY model_dir /opt/ml/model" in dockerfile
    model = tmp_path / "image" / "model_dir"

    def call(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, env=bare)

    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    # As in the image: nothing on the path but this environment and the system's own programs.
    bare = {**os.environ, "PATH": f"{python.parent}:/usr/bin:/bin", "PYTHONPATH": ""}
    uv = [sys.executable, "-m", "uv"]
    call(*uv, "venv", "--seed", "--python", sys.executable, str(environment))
    call(*uv, "pip", "install", "--python", str(python), pinned)
    call(str(python), "-c", install.replace("/opt/ml/model", str(model)))
    installed = subprocess.run(
        [str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True, env=bare
    ).stdout
    assert "tensorflow" not in installed
    port = free_port()
    command = [str(python), "-m", "mlflow", "models", "serve", "-m", str(model)]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    for _ in serve([*command, *options], tmp_path, bare, f"{url}/health"):
        assert Endpoint(url).score({"inputs": [SPAM]})[0]["label"] == "spam"
