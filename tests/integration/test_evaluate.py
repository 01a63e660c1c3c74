import json
import re
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from support.metrics import METRICS
from support.project import ROOT, Project, Trained, require_one_line

from spam_mlflow.scorer.normalization import duplicate_key
from spam_mlflow.tracking import run_metrics

SAMPLE = ROOT / "spam_mlflow" / "data" / "sources" / "sample.csv"
PREDICTIONS = "predictions.csv"
MESSAGES = ("Ok, see you at seven then", "Subscribe to my channel for free gift cards")


def test_evaluating_the_version_gives_the_metrics_of_training(
    trained: Trained, trained_project: Project, tmp_path: Path
) -> None:
    done = trained_project.run("evaluate", "data=sample", "model_uri=models:/spam-classifier/1")
    assert done.returncode == 0, done.stderr
    evaluated = trained_project.last_run()
    assert evaluated.info.run_id != trained.run.info.run_id
    with trained_project.store_here():
        expected, found = (
            run_metrics.read(run, tmp_path / run.info.run_id) for run in (trained.run, evaluated)
        )
    for name in METRICS:
        assert found[f"test_{name}"] == pytest.approx(expected[f"test_{name}"], abs=1e-6)
    assert not [name for name in evaluated.data.metrics if run_metrics.is_detail(name)]
    assert evaluated.data.tags["mlflow.note.content"].startswith("F1 ")
    name = "threshold.value"
    assert evaluated.data.tags[name] == trained.run.data.tags[name]
    f1 = f"{evaluated.data.metrics['test_f1']:.4f}"
    assert re.search(rf"^\| f1 +\| {f1} +\|", done.stderr, re.MULTILINE)


def test_a_model_can_be_evaluated_on_all_of_another_file(
    trained: Trained, trained_project: Project, tmp_path: Path
) -> None:
    rows = "".join(f'"{text}",{label}\n' for text, label in zip(MESSAGES, ["0", "1"], strict=True))
    (tmp_path / "own.csv").write_text(f"text,label\n{rows},1\n")
    done = trained_project.run(
        "evaluate",
        f"model_uri=runs:/{trained.run.info.run_id}/model",
        "data=csv",
        "data.path=own.csv",
        f"data_dir={tmp_path}",
        "data.ham_labels=[0]",
        "data.spam_labels=[1]",
        "part=all",
        f"output_dir={tmp_path / 'out'}",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["messages"], told["metrics"]["test_accuracy"]) == (2, 1)
    assert "1 of 3 rows were rejected" in done.stderr
    assert "text is empty" in (tmp_path / "out" / "rejected.csv").read_text()
    assert trained_project.last_run().data.metrics["test_accuracy"] == 1


def test_why_a_score_means_little_stands_in_the_predictions(
    trained_project: Project, tmp_path: Path
) -> None:
    foreign = "Selamat pagi, Anda menang hadiah"
    frame = pd.DataFrame({"text": [*MESSAGES, foreign], "label": ["ham", "spam", "spam"]})
    frame.to_csv(tmp_path / "own.csv", index=False)
    uri, out = "model_uri=models:/spam-classifier/1", tmp_path / "out"
    data = ("data=csv", f"data.path={tmp_path / 'own.csv'}", "part=all", f"output_dir={out}")
    done = trained_project.run("evaluate", uri, *data, "--json")
    assert done.returncode == 0, done.stderr
    told = pd.read_csv(out / PREDICTIONS, keep_default_na=False).set_index("text")["low_confidence"]
    assert told[foreign] == "5 of 5 words are unknown to the model"
    assert json.loads(done.stdout)["low_confidence"] == (told != "").sum()
    assert f"3 messages scored, {(told != '').sum()} of them with low confidence" in done.stderr


def evaluate(project: Project, *arguments: str) -> Run:
    done = project.run("evaluate", "model_uri=models:/spam-classifier/1", *arguments)
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    trained_on = run.data.tags["evaluation.trained_on"]
    assert ("NOT A HOLDOUT" in done.stderr) == (trained_on != "0")
    return run


def test_scores_of_training_messages_are_not_called_test_metrics(
    trained: Trained, trained_project: Project
) -> None:
    run = evaluate(trained_project, "data=sample", "part=all")
    rows = {n: int(v) for n, v in trained.run.data.params.items() if n.startswith("rows.")}
    known = int(run.data.tags["evaluation.trained_on"])
    assert known >= sum(
        count
        for name, count in rows.items()
        if name.startswith(("rows.train.", "rows.validation."))
    )
    assert not [name for name in run.data.metrics if name.startswith("test_")]
    assert run.data.metrics["seen_f1"] > 0.5
    counts = f"{known:,} of {rows['rows.read'] - rows['rows.rejected']:,}"
    assert run.info.run_name == f"models:/spam-classifier/1 on sample, all ({counts} trained on)"
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**NOT A HOLDOUT: the model was trained on ")
    # Another seed gives another split, whose test part the model knows most of.
    reshuffled = evaluate(trained_project, "data=sample", "seed=1")
    assert "test_f1" not in reshuffled.data.metrics
    unseen = evaluate(trained_project, "data=sample", "part=unseen")
    assert unseen.data.tags["evaluation.trained_on"] == "0"
    assert unseen.data.metrics["test_f1"] > 0.5
    assert evaluate(trained_project, "data=sample", "part=validation").data.metrics["val_f1"] > 0.5


def test_training_messages_in_another_file_are_counted(
    trained: Trained, trained_project: Project, tmp_path: Path
) -> None:
    sample = pd.read_csv(SAMPLE)
    split = pd.read_csv(trained.artifacts / "split.csv", keep_default_na=False)
    keys = set(split.loc[split["part"] == "train", "key"])
    known = sample[sample["text"].map(duplicate_key).isin(keys)].head(3)
    new = pd.DataFrame({"text": MESSAGES, "label": ["ham", "spam"]})
    shouted = known.assign(text=known["text"].str.upper())  # copies, as the split sees them
    pd.concat([shouted, new]).to_csv(tmp_path / "own.csv", index=False)
    source = ("data=csv", f"data.path={tmp_path / 'own.csv'}")
    run = evaluate(trained_project, *source, "part=all")
    assert run.data.tags["evaluation.trained_on"] == "3"
    assert "3 of the 5 scored messages" in run.data.tags["mlflow.note.content"]
    rest = evaluate(trained_project, *source, "part=unseen")
    assert rest.data.metrics["test_accuracy"] == 1
    table = pd.read_csv(trained_project.client.download_artifacts(rest.info.run_id, PREDICTIONS))
    assert list(table["text"]) == list(MESSAGES)


def test_without_a_record_of_the_training_that_is_said(trained: Trained, tmp_path: Path) -> None:
    """The model of another tracking store, by its folder."""
    folder = trained.model_folder
    elsewhere = Project(tmp_path)
    done = elsewhere.run("evaluate", "data=sample", f"model_uri={folder}")
    assert done.returncode == 0, done.stderr
    assert "Which messages the model was trained on is unknown" in done.stderr
    run = elsewhere.last_run()
    assert run.data.tags["evaluation.trained_on"] == "unknown"
    assert run.data.metrics["test_f1"] > 0.5
    done = elsewhere.run("evaluate", "data=sample", f"model_uri={folder}", "part=unseen")
    require_one_line(done, "part=unseen: which messages the model was trained on is unknown")


def test_an_alias_is_named_with_its_version(trained_project: Project) -> None:
    trained_project.client.set_registered_model_alias("spam-classifier", "champion", "1")
    done = trained_project.run(
        "evaluate", "data=sample", "model_uri=models:/spam-classifier@champion"
    )
    assert done.returncode == 0, done.stderr
    run = trained_project.last_run()
    assert run.info.run_name == "models:/spam-classifier/1 (@champion) on sample"
    assert run.data.tags["model.uri"] == "models:/spam-classifier/1"


@pytest.mark.parametrize("name", ["spam-classifier@nobody", "nothing/latest", "nothing@champion"])
def test_an_alias_that_points_nowhere_is_named(trained_project: Project, name: str) -> None:
    done = trained_project.run("evaluate", "data=sample", f"model_uri=models:/{name}")
    require_one_line(done, f"model_uri='models:/{name}' names no registered version")
