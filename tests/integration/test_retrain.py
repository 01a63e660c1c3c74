"""`retrain`, where it ends before the gate has a verdict."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.inferences import feedback, inference
from support.project import Project, require_one_line

from spam_mlflow.config.schema import PromoteSettings
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.texts import TextPolicy
from spam_mlflow.jobs import promote, retrain
from spam_mlflow.registry import training_messages
from spam_mlflow.scorer.normalization import duplicate_key
from spam_mlflow.tracking.run_folder import SPLIT_FILE


def report(project: Project, text: str, reporter: str = "ann") -> Path:
    """Store a message and that it is ham."""
    store = SqliteStore(project.folder / "i.db", TextPolicy("plain"), 30, "normal")
    row = inference(text)
    store.add([row])
    store.add_feedback(feedback(row.id, "ham", reporter=reporter))
    store.close()
    return store.path


@pytest.fixture
def command(trained_project: Project, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What retrains with one label; training, which takes long, gives a copy of version 1."""
    path = report(trained_project, "a message that nobody has seen before")
    client = trained_project.client
    client.set_registered_model_alias("spam-classifier", "champion", "1")
    first = client.get_model_version("spam-classifier", "1")
    own = client.create_experiment("own", (trained_project.folder / "runs").as_uri())

    def train(_client: object, _cfg: object, data: dict[str, Any]) -> str:
        run_id = client.create_run(own).info.run_id
        with Path(data["snapshot"]).open(encoding="utf-8") as lines:
            said = pd.DataFrame(map(json.loads, lines), columns=["text", "label", "source"])
        split = said.assign(key=said["text"].map(duplicate_key)).drop(columns="text")
        client.log_text(run_id, split.to_csv(index=False), SPLIT_FILE)
        made = client.create_model_version("spam-classifier", str(first.source), run_id)
        return str(made.version)

    monkeypatch.setattr(retrain, "_train", train)
    return ("retrain", "data=sample", "gate=sample", f"store.path={path}")


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


@pytest.fixture
def promoting(trained_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promotion without the gate, which takes long."""

    def promoted(settings: PromoteSettings, _: object) -> None:
        client = trained_project.client
        client.set_registered_model_alias("spam-classifier", "champion", settings.version)

    monkeypatch.setattr(promote, "run", promoted)


def test_labels_count_that_the_champion_was_not_given(
    trained_project: Project, command: tuple[str, ...], promoting: None
) -> None:
    def summary(*given: str) -> Any:
        found = json.loads(trained_project.run(*command, *given).stdout)
        return found["status"], found["labels"], found["new"]

    assert summary("min_labels=2") == ("nothing new", 1, 1)
    assert summary() == ("promoted", 1, 1)
    report(trained_project, "another one, of a different kind entirely")
    assert summary("min_labels=2") == ("nothing new", 2, 1)
    report(trained_project, "a third message, about the weather of the coming week")
    assert summary("min_labels=2", "dry_run=true") == ("dry run", 3, 2)


def test_labels_do_not_count_where_those_of_the_data_stand(
    trained_project: Project, command: tuple[str, ...]
) -> None:
    client = trained_project.client
    run_id = str(client.get_model_version("spam-classifier", "1").run_id)
    table = training_messages.split_table(client, run_id)
    assert table is not None
    spam = table["key"][table["label"] == "spam"]
    report(trained_project, next(key for key in spam if duplicate_key(key) == key))
    report(trained_project, "another one, of a different kind entirely", reporter="bob")
    found = json.loads(trained_project.run(*command, "dry_run=true").stdout)
    assert (found["status"], found["labels"], found["new"]) == ("dry run", 3, 2)
    found = json.loads(trained_project.run(*command, "min_labels=3").stdout)
    assert found["status"] == "nothing new"


def test_labels_count_that_were_withdrawn(
    trained_project: Project, command: tuple[str, ...], promoting: None
) -> None:
    def summary(*given: str) -> Any:
        found = json.loads(trained_project.run(*command, *given).stdout)
        return found["status"], found["labels"], found["new"], found["withdrawn"]

    assert summary() == ("promoted", 1, 1, 0)
    report(trained_project, "what somebody said to do harm", reporter="mallory")
    assert summary() == ("promoted", 2, 1, 0)
    blocked = "feedback.blocked=[mallory]"
    assert summary(blocked, "min_labels=2") == ("nothing new", 1, 0, 1)
    assert summary(blocked) == ("promoted", 1, 0, 1)  # although version 2 had just this label, too
    assert summary(blocked) == ("nothing new", 1, 0, 0)
    assert summary("feedback.blocked=[ann,mallory]") == ("promoted", 0, 0, 1)
