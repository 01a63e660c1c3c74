"""What MLflow's scoring server answers with a model; its app runs in this process."""

import asyncio
import gc
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlflow
import pytest
from mlflow.environment_variables import (
    _MLFLOW_IS_IN_SERVING_ENVIRONMENT,
    MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT,
)
from mlflow.pyfunc import scoring_server
from support.project import Trained

HAM, SPAM = "Ok, see you at seven then", "Subscribe to my channel for free gift cards"
LARGE = {"inputs": ["x" * 20_000]}
APP = "mlflow.pyfunc.scoring_server.app"
JSON = {"content-type": "application/json"}

Answer = tuple[int, Any]


@pytest.fixture(scope="module")
def folder(trained: Trained) -> Path:
    with trained.project.store_here():
        return Path(mlflow.artifacts.download_artifacts("models:/spam-classifier/1"))


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    """A patch that is undone after the test, with all else that the server's app changes."""
    interval = sys.getswitchinterval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_MLFLOW_IS_IN_SERVING_ENVIRONMENT.name, "false")
        patch.setattr(scoring_server, "invocations", scoring_server.invocations)
        yield patch
    gc.unfreeze()
    sys.modules.pop(APP, None)
    sys.setswitchinterval(interval)


def load(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """Return the app of MLflow's server, which loads a model when it is imported."""
    patch.setenv(scoring_server._SERVER_MODEL_PATH, str(folder))
    return importlib.import_module(APP).app


async def ask(app: Any, body: Any, headers: Mapping[str, str] = JSON) -> Answer:
    """Return the status and the JSON of the app's answer to a request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(content)


@pytest.fixture
def post(folder: Path, patch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    app = load(folder, patch)
    return lambda *arguments: asyncio.run(ask(app, *arguments))


def test_an_answer_names_the_model(post: Callable[..., Answer], folder: Path) -> None:
    """This fails, too, where MLflow renames what the model's own way of answering replaces."""
    status, answer = post({"inputs": [HAM, SPAM]})
    assert status == 200
    assert [row["label"] for row in answer["predictions"]] == ["ham", "spam"]
    model_id = mlflow.models.Model.load(str(folder)).model_id
    assert answer["model"] == {"name": "spam-classifier", "version": "1", "model_id": model_id}


def test_a_model_from_a_folder_is_named_by_its_id_alone(
    folder: Path, patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "model"))
    (copied / "registered_model_meta").unlink()
    _, answer = asyncio.run(ask(load(copied, patch), {"inputs": [HAM]}))
    assert set(answer["model"]) == {"model_id"}


REFUSED: dict[str, tuple[Any, Mapping[str, str], int, str]] = {
    "misspelled parameter": (
        {"inputs": [HAM], "params": {"thresold": 0.5}},
        JSON,
        400,
        "'thresold' is no parameter; the parameters are threshold and explain",
    ),
    "misspelled key": ({"inptus": [HAM]}, JSON, 400, "'inptus' is no key of a request"),
    "another key": ({"inputs": [HAM], "prompt": "x"}, JSON, 400, "'prompt' is no key"),
    "two keys": ({"inputs": [HAM], "instances": [HAM]}, JSON, 400, "has inputs and instances"),
    "no texts": ({"params": {}}, JSON, 400, "has no texts"),
    "list as parameters": ({"inputs": [HAM], "params": []}, JSON, 400, "params=[] must be"),
    "explain": ({"inputs": [HAM], "params": {"explain": 1}}, JSON, 400, "explain=1 must be"),
    "threshold": ({"inputs": [HAM], "params": {"threshold": True}}, JSON, 400, "threshold=True"),
    "NaN": (b'{"inputs": ["a"], "params": {"threshold": NaN}}', JSON, 400, "threshold=nan"),
    "null of many": ({"inputs": ["secret"] * 5001 + [None]}, JSON, 400, "row 5001 is null"),
    "long value": ({"inputs": [["secret " * 99] * 99]}, JSON, 400, "row 0 is list: ['"),
    "long name": ({"x" * 999: [HAM]}, JSON, 400, "xxx"),
    "many columns": (
        {"dataframe_split": {"columns": list("abc") * 999, "data": []}},
        JSON,
        400,
        "one column 'text'; got ['a', 'b',",
    ),
    "short row": (
        {"dataframe_split": {"columns": ["id", "text"], "data": [[1, HAM], [2]]}},
        JSON,
        400,
        "row 1 of dataframe_split must be a list of 2 values",
    ),
    "no data": ({"dataframe_split": {"columns": ["text"]}}, JSON, 400, "'columns' and 'data'"),
    "broken JSON": (b"{secret" * 99, JSON, 400, "not valid JSON: Expecting property name"),
    "no UTF-8": (b'{"inputs": ["\xff"]}', JSON, 400, "not valid JSON"),
    "huge number": (b'{"inputs": [' + b"9" * 5000 + b"]}", JSON, 400, "not valid JSON"),
    "nested": (b"[" * 100_000, JSON, 400, "nested too deeply"),
    "string": ("secret " * 99, JSON, 400, "instead of a JSON object"),
    "too many texts": (
        {"inputs": ["a"] * 100_001},
        JSON,
        413,
        "100,001 texts, and at most 100,000",
    ),
    "too long": (b"a" * 20_000_001, JSON, 413, "20,000,001 bytes, and at most 20,000,000"),
    "too many values": (b"[]," * 350_001, JSON, 413, "700,002 commas, quotes and"),
    "many lists": (b'{"inputs": [' + b"[]," * 300_000 + b"[]]}", JSON, 413, "300,001 texts"),
    "no content type": ({"inputs": [HAM]}, {}, 415, "no content type; send JSON"),
    "Parquet": (b"PAR1", {"content-type": "application/vnd.apache.parquet"}, 415, "send JSON"),
    "CSV": (b"text\nsecret", {"content-type": "text/csv"}, 415, "'text/csv' is not read"),
    "charset": (
        {"inputs": [HAM]},
        {"content-type": "application/json; charset=latin-1"},
        415,
        "JSON in UTF-8",
    ),
}


def test_refusals_are_short_and_say_why(post: Callable[..., Answer]) -> None:
    for name, (body, headers, status, message) in REFUSED.items():
        found, answer = post(body, headers)
        assert (found, set(answer)) == (status, {"error_code", "message"}), name
        assert message in answer["message"], name
        assert len(answer["message"]) < 300, name
        assert answer["message"].count("secret") <= 12, name
        for leak in ("Traceback", "site-packages", ".py", "\n"):
            assert leak not in answer["message"], name
    assert post({"inputs": [HAM]}, {"content-type": "application/JSON;charset=UTF-8"})[0] == 200


def test_what_fails_inside_leaves_the_reason_in_the_log(
    folder: Path, patch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = load(folder, patch)
    patch.setattr(_answerer()._model, "_scorer", None)
    status, answer = asyncio.run(ask(app, {"inputs": [HAM]}))
    assert status == 500
    assert answer["error_code"] == "INTERNAL_ERROR"
    assert "NoneType" not in answer["message"]
    assert "NoneType" in caplog.text


def _answerer() -> Any:
    """Return what answers in the place of MLflow's function."""
    return scoring_server.invocations


def test_large_requests_take_turns_and_leave_threads_to_small_ones(
    folder: Path, patch: pytest.MonkeyPatch
) -> None:
    async def serve() -> list[Answer]:
        app = load(folder, patch)
        await ask(app, {"inputs": [HAM]})
        queues = _answerer()._model.queues
        with queues.large:  # as if one were being scored
            waiting = [asyncio.create_task(ask(app, LARGE)) for _ in range(17)]
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            small = await asyncio.gather(*(ask(app, {"inputs": [HAM]}) for _ in range(20)))
            assert [status for status, _ in small] == [200] * 20
            assert sum(task.done() for task in waiting) == 1
        return await asyncio.gather(*waiting)

    answers = asyncio.run(serve())
    statuses = sorted(status for status, _ in answers)
    assert statuses == [200] * 16 + [503]
    (refusal,) = (answer for status, answer in answers if status == 503)
    assert refusal["message"] == "too many large requests are waiting; try again in a few seconds"


def test_small_requests_do_not_hold_up_large_ones(folder: Path, patch: pytest.MonkeyPatch) -> None:
    app = load(folder, patch)
    with _answerer()._model.queues.small:
        assert asyncio.run(ask(app, LARGE))[0] == 200


def test_a_request_is_given_up_when_the_server_has_answered_for_it(
    folder: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setenv(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.name, "0")
    load(folder, patch)
    answerer = _answerer()
    served = SimpleNamespace(unwrap_python_model=lambda: answerer._model)
    data = json.dumps(LARGE).encode()
    answer = answerer(data, "application/json", served, None)
    assert answer.status == 503
    assert "was not scored within 0 s" in answer.response


WRAPPER = """
import mlflow

class Wrapper(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.inner = mlflow.pyfunc.load_model(context.artifacts["inner"])

    def predict(self, context, model_input, params=None):
        return [label.upper() for label in self.inner.predict(list(model_input))["label"]]

mlflow.models.set_model(Wrapper())
"""


def test_a_users_own_model_around_ours_answers_in_its_own_way(
    folder: Path, patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wrapper.py").write_text(WRAPPER)
    own = tmp_path / "own"
    artifacts, code = {"inner": str(folder)}, str(tmp_path / "wrapper.py")
    mlflow.pyfunc.save_model(own, python_model=code, artifacts=artifacts, pip_requirements=[])
    app = load(own, patch)
    assert asyncio.run(ask(app, {"inputs": [HAM, SPAM]})) == (200, {"predictions": ["HAM", "SPAM"]})


class OtherResponse(NamedTuple):
    response: str
    status: int
    mimetype: str
    headers: Any = None


@pytest.mark.parametrize("gone", ["InvocationsResponse", "invocations"])
def test_where_mlflow_has_another_server_the_model_still_scores(
    folder: Path, patch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gone: str
) -> None:
    mlflows: Callable[..., Any] = scoring_server.invocations

    def with_other_arguments(*arguments: Any) -> Any:
        return mlflows(*arguments)

    other = with_other_arguments if gone == "invocations" else OtherResponse
    patch.setattr(scoring_server, gone, other)
    app = load(folder, patch)
    assert "requests are answered in its way" in caplog.text
    status, answer = asyncio.run(ask(app, {"inputs": [HAM, SPAM]}))
    assert status == 200
    assert [row["label"] for row in answer["predictions"]] == ["ham", "spam"]
    status, answer = asyncio.run(ask(app, {"inputs": [5], "params": {"thresold": 1}}))
    assert status == 400
