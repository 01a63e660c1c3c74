"""What is recorded of versions old and new, without a server."""

import contextlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.pyfunc import scoring_server
from support.project import ROOT, Project, Trained

from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import id_seconds, timestamp
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.store import inferences
from spam_mlflow.inference_store.texts import TextPolicy
from spam_mlflow.jobs import serve
from spam_mlflow.serving import served_model
from spam_mlflow.serving.explanations import explained
from spam_mlflow.serving.recorder import Recorder
from spam_mlflow.serving.served_model import ServedModel

TEXTS = ["Ok, see you at seven then", "half of a pair: \ud83d"]


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing of a server behind in this process."""
    monkeypatch.setitem(sys.modules, served_model._APP, types.ModuleType(served_model._APP))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "i.db", TextPolicy("plain"), 30, "normal")
    yield opened
    opened.close()


def ask(recorder: Recorder, body: object) -> tuple[int, str]:
    answer = recorder(json.dumps(body).encode(), "application/json", None, None)
    return int(answer.status), answer.response


def test_a_version_of_before_the_scorer_is_recorded_too(
    store: SqliteStore, project: Project
) -> None:
    """MLflow's own code answers for it, and takes what is recorded without its text."""
    old = ROOT / "tests" / "fixtures" / "version_before_scorer" / "model"
    served = ServedModel(project.client, str(old))
    recorder = Recorder(served, store)
    status, said = ask(recorder, {"dataframe_split": {"columns": ["text"], "data": [[TEXTS[0]]]}})
    assert status == 200
    answer = json.loads(said)
    assert answer["model"]["version"] == served.current.number
    (row,) = inferences(store)
    assert answer["inference_ids"] == [row.id]
    assert (row.text, row.label) == (TEXTS[0], answer["predictions"][0]["label"])
    odd = {"dataframe_records": [{"text": TEXTS[0]}], "nonsense": 1}
    assert ask(recorder, odd)[0] == 200
    newest = next(inferences(store))
    assert (newest.text, newest.text_form) == (None, "off")


def test_a_version_without_contributions_of_words_says_so(project: Project) -> None:
    old = ROOT / "tests" / "fixtures" / "version_before_scorer" / "model"
    found = explained(ServedModel(project.client, str(old)).current, TEXTS[0])
    assert (found["words"], found["others"]) == (None, None)
    assert "was logged before" in found["reason"]
    assert "intercept" in [part["feature"] for part in found["features"]]


def test_a_text_with_half_a_surrogate_pair_is_explained_as_it_is_scored(trained: Trained) -> None:
    served = ServedModel(trained.project.client, str(trained.model_folder))
    body = {"inputs": TEXTS[1:], "params": {"explain": True}}
    _, said = ask(Recorder(served, None), body)
    (row,) = json.loads(said)["predictions"]
    assert explained(served.current, TEXTS[1])["features"] == row["explanation"]


def test_a_store_that_fails_costs_no_answer(
    trained: Trained, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = ServedModel(trained.project.client, str(trained.model_folder))
    recorder = Recorder(served, store)
    status, said = ask(recorder, {"inputs": TEXTS})
    assert (status, len(json.loads(said)["inference_ids"])) == (200, 2)
    assert [row.text for row in inferences(store)] == [TEXTS[1].replace("\ud83d", "?"), TEXTS[0]]

    def full(_: object) -> None:
        raise UserError("no space is left")

    monkeypatch.setattr(store, "add", full)
    status, said = ask(recorder, {"inputs": TEXTS})
    assert status == 200
    assert len(json.loads(said)["predictions"]) == 2
    assert json.loads(said)["inference_ids"] is None
    assert (recorder.counts.recorded, recorder.counts.unrecorded) == (2, 2)


def test_without_a_store_an_answer_is_the_models_own(trained: Trained) -> None:
    served = ServedModel(trained.project.client, str(trained.model_folder))
    status, said = ask(Recorder(served, None), {"inputs": TEXTS})
    assert status == 200
    assert set(json.loads(said)) == {"predictions", "model"}
    assert ask(Recorder(served, None), {"inputs": [None]})[0] == 400


def test_a_clients_threshold_does_not_change_what_was_predicted(
    trained: Trained, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row has the day of its own ID, too, although the answer takes a while."""
    recorder = Recorder(ServedModel(trained.project.client, str(trained.model_folder)), store)
    days = iter(["01936000", "01937000"])
    monkeypatch.setattr(
        "spam_mlflow.serving.recorder.new_id", lambda: f"{next(days)}-0000-7000-8000-000000000000"
    )
    usual = json.loads(ask(Recorder(recorder._served, None), {"inputs": TEXTS})[1])["predictions"]
    ask(recorder, {"inputs": TEXTS, "params": {"threshold": 0.0}})
    rows = store.oldest(2)
    assert [(row.label, row.threshold) for row in rows] == [("spam", 0.0)] * 2
    assert [row.predicted for row in rows] == [row["label"] for row in usual]
    assert [row.at for row in rows] == [timestamp(id_seconds(row.id)) for row in rows]
    assert len({row.day for row in rows}) == 2


def test_the_recorder_is_in_its_place_before_any_other_version_is_loaded(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is loaded puts back what stood in the place before."""
    places = []
    before = vars(scoring_server)["invocations"]

    @contextlib.contextmanager
    def repeated(function: Any, seconds: float) -> Iterator[None]:
        places.append(vars(scoring_server)["invocations"])
        yield

    monkeypatch.setattr(serve, "_repeated", repeated)
    monkeypatch.setattr(serve, "_serve", lambda *_: None)
    given = (f"model_uri={trained.model_folder}", "port=0", f"store.path={tmp_path / 'new.db'}")
    done = trained.project.run("serve", *given)
    assert done.returncode == 0, done.stderr
    assert [type(place) for place in places] == [Recorder, Recorder]
    assert vars(scoring_server)["invocations"] is before


def test_an_error_while_serving_is_not_one_of_the_address() -> None:
    with pytest.raises(OSError, match="no space"), serve._listener("127.0.0.1", 0):
        raise OSError("no space")
