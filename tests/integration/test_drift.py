"""`drift`: stored predictions of a version against what its training has logged."""

import re

import mlflow
import pandas as pd
import pytest
from support.inferences import inference
from support.project import Project, Trained, require_one_line

from spam_mlflow.drift.reference import FILE, Reference
from spam_mlflow.drift.signals import signals
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.texts import TextPolicy


@pytest.fixture(scope="module")
def scored(trained: Trained) -> list[tuple[str, float]]:
    """Messages that the version was not trained on, with its scores."""
    table = pd.read_csv(trained.artifacts / "predictions.csv", keep_default_na=False)
    return list(zip(table["text"], table["spam_probability"], strict=True))


def store(
    project: Project, trained: Trained, scored: list[tuple[str, float]], only_below: float = 2
) -> str:
    known = Reference.read(trained.artifacts / FILE)
    opened = SqliteStore(project.folder / "i.db", TextPolicy("off"), 30, "normal")
    opened.add(
        [
            inference(
                *(text, TextPolicy("off")),
                spam_probability=score,
                signals=signals(text, known.words).to_json(),
            )
            for text, score in 4 * scored
            if score < only_below
        ]
    )
    opened.close()
    return f"store.path={project.folder / 'i.db'}"


def test_no_drift_is_no_alarm_and_is_logged(
    trained: Trained, trained_project: Project, scored: list[tuple[str, float]]
) -> None:
    path = store(trained_project, trained, scored)
    model = "model_uri=models:/spam-classifier/1"
    done = trained_project.run("drift", model, path, f"output_dir={trained_project.folder / 'o'}")
    assert done.returncode == 0, done.stderr
    run = trained_project.last_run()
    assert run.data.tags["drift.status"] == "no drift found"
    assert run.data.metrics["drift_messages"] == 4 * len(scored)
    assert run.data.metrics["drift_alarms"] == 0
    page = (trained_project.folder / "o" / "drift.html").read_text()
    assert "no drift found" in page
    assert len(re.findall("data:image/png;base64", page)) == 2
    version = trained_project.client.get_model_version("spam-classifier", "1")
    assert version.tags["drift.status"].startswith("no drift found (20")
    assert "drift.html" in [
        file.path for file in trained_project.client.list_artifacts(run.info.run_id)
    ]


def test_drift_is_an_alarm_with_an_exit_status_of_its_own(
    trained: Trained, trained_project: Project, scored: list[tuple[str, float]]
) -> None:
    path = store(trained_project, trained, scored, only_below=0.5)
    done = trained_project.run("drift", "model_uri=models:/spam-classifier/1", path)
    assert done.returncode == 3
    assert "alarm: scores, spam share" in done.stderr
    run = trained_project.last_run()
    assert run.info.status == "FINISHED"
    assert run.data.tags["drift.status"].startswith("alarm: ")


def test_nothing_stored_and_nothing_to_compare_with_are_said(trained_project: Project) -> None:
    path = f"store.path={trained_project.folder / 'i.db'}"
    model = "model_uri=models:/spam-classifier/1"
    require_one_line(trained_project.run("drift", model, path), "there is no inference store")
    assert trained_project.run("inferences", "create", path).returncode == 0
    done = trained_project.run("drift", model, path)
    assert done.returncode == 0
    assert "0 messages are too few" in done.stderr
    require_one_line(
        trained_project.run("drift", "model_uri=models:/m-1", path),
        "must name a registered version",
    )
    with trained_project.store_here(), mlflow.start_run() as run:
        pass
    client = trained_project.client
    source = client.get_model_version("spam-classifier", "1").source
    with trained_project.store_here():
        made = client.create_model_version("spam-classifier", str(source), run.info.run_id)
    require_one_line(
        trained_project.run("drift", f"model_uri=models:/spam-classifier/{made.version}", path),
        "has no reference to compare with",
    )
