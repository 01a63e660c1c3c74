"""Files of one's own, from where they lie to a run."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
from support.project import ROOT, Project, require_one_line
from support.servers import S3Server

from spam_mlflow.tracking import run_metrics

SOURCES = ("H&M (DE)", "a|b", "a&b")
QUICK = ("train.epochs=1", "train.obfuscated_fraction=0", "train.padded_fraction=0")


def sample() -> pd.DataFrame:
    table = pd.read_csv(ROOT / "spam_mlflow/data/sources/sample.csv", dtype=str).iloc[::3]
    return table.assign(source=[SOURCES[n % len(SOURCES)] for n in range(len(table))])


def test_any_source_has_metrics_and_its_own_name_in_tables(
    project: Project, tmp_path: Path
) -> None:
    sample().to_csv(project.folder / "own.csv", index=False)
    own = ("data=csv", "data.path=own.csv", "data.source_column=source")
    done = project.run("main", *own, *QUICK, "register=false")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    with project.store_here():
        logged = run_metrics.read(run, tmp_path)
    names = [name for name in logged if name.startswith("test_f1__")]
    assert len(names) == len(SOURCES)
    assert any(name.startswith("test_f1__H_M _DE_-") for name in names)
    artifacts = Path(project.client.download_artifacts(run.info.run_id, ""))
    card = (artifacts / "model_card.md").read_text()
    assert "| H&M (DE) |" in card
    assert set(pd.read_csv(artifacts / "predictions.csv")["source"]) == set(SOURCES)


def test_messages_that_are_too_few_for_folds_are_refused_in_one_line(project: Project) -> None:
    texts = {"ham": ("ok see you", "call me", "dinner?"), "spam": ("win", "free cash", "claim it")}
    rows = [f"{text},{label}\n" for label, few in texts.items() for text in few]
    (project.folder / "few.csv").write_text(f"text,label\n{''.join(rows)}")
    done = project.run("main", "data=csv", "data.path=few.csv")
    require_one_line(done, "the 2 messages to train on are too few for 2 folds")


@pytest.mark.parametrize("label", ["ham", "spam"])
def test_messages_of_one_class_are_scored(
    trained_project: Project, moto: S3Server, label: str
) -> None:
    """They are read from an S3 store, as gzipped JSON lines."""
    rows = sample()
    content = rows[rows["label"] == label].to_json(orient="records", lines=True)
    bucket = moto.new_bucket()
    moto.client().put_object(
        Bucket=bucket, Key="sets/own.jsonl.gz", Body=gzip.compress(content.encode())
    )
    project = Project(trained_project.folder, moto.credentials)
    model = ("evaluate", "model_uri=models:/spam-classifier/1", "data=csv")
    store = ("storage=local", f"storage.endpoint_url={moto.url}")
    own = (*model, f"data.path=s3://{bucket}/sets/own.jsonl.gz", *store)
    done = project.run(*own, "part=all")
    assert done.returncode == 0, done.stderr
    metrics = project.last_run().data.metrics
    assert metrics["seen_accuracy"] > 0.5
    assert ("seen_recall" in metrics) == (label == "spam")
    assert ("seen_ham_fpr" in metrics) == (label == "ham")
    assert "seen_roc_auc" not in metrics
    require_one_line(project.run(*own), "both classes, ham and spam, are needed, but the")


def test_an_object_that_is_not_there_is_named(project: Project, moto: S3Server) -> None:
    project = Project(project.folder, moto.credentials)
    path = f"data.path=s3://{moto.new_bucket()}/none.csv"
    store = ("storage=local", f"storage.endpoint_url={moto.url}")
    done = project.run("main", "data=csv", path, *store, "debug=no_tracking")
    require_one_line(done, "cannot read data.path=s3://")
