"""`retrain`, where it ends before the gate has a verdict."""

import json
from typing import Any

import pytest
from support.inferences import feedback, inference
from support.project import Project, require_one_line

from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.texts import TextPolicy
from spam_mlflow.jobs import promote, retrain


@pytest.fixture
def command(trained_project: Project, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What retrains with one label; training, which takes long, gives version 1 at once."""
    store = SqliteStore(trained_project.folder / "i.db", TextPolicy("plain"), 30, "normal")
    row = inference("a message that nobody has seen before")
    store.add([row])
    store.add_feedback(feedback(row.id, "ham"))
    store.close()
    trained_project.client.set_registered_model_alias("spam-classifier", "champion", "1")
    monkeypatch.setattr(retrain, "_train", lambda *_: "1")
    return ("retrain", "data=sample", "gate=sample", f"store.path={store.path}")


def test_a_fault_before_the_verdict_is_tried_again(
    trained_project: Project, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: type[UserError]) -> None:
        def run(*_: Any) -> None:
            raise error("the bucket does not answer")

        monkeypatch.setattr(promote, "run", run)

    fail(UserError)
    require_one_line(trained_project.run(*command), "the bucket does not answer")
    fail(promote.RejectedError)
    done = trained_project.run(*command)
    assert done.returncode == retrain.NOT_PROMOTED
    assert json.loads(done.stdout)["status"] == "not promoted"
    assert json.loads(trained_project.run(*command).stdout)["status"] == "nothing new"
