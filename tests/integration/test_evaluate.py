import re
from pathlib import Path

import pytest
from support.metrics import METRICS
from support.project import Project, Trained

MESSAGES = ("Ok, see you at seven then", "Subscribe to my channel for free gift cards")


def test_evaluating_the_version_gives_the_metrics_of_training(
    trained: Trained, trained_project: Project
) -> None:
    done = trained_project.run("evaluate", "data=sample", "model_uri=models:/spam-classifier/1")
    assert done.returncode == 0, done.stderr
    evaluated = trained_project.last_run()
    assert evaluated.info.run_id != trained.run.info.run_id
    for name in METRICS:
        expected = trained.run.data.metrics[f"test_{name}"]
        assert evaluated.data.metrics[f"test_{name}"] == pytest.approx(expected, abs=1e-6)
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
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 3 rows were rejected" in done.stderr
    assert "text is empty" in (tmp_path / "out" / "rejected.csv").read_text()
    assert trained_project.last_run().data.metrics["test_accuracy"] == 1
