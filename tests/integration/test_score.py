"""The job `score` with a real model, in processes of its own."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from support.project import Project, require_one_line

from spam_mlflow.registry import loading

MODEL = "model_uri=models:/spam-classifier/1"
TEXTS = [
    *("Ok, see you at seven", "WINNER! Claim your £1000 prize now, call 09061701461"),
    *("", "привет", "x" * 100_000, "a\nb"),
]


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    return found


def write_messages(folder: Path, rows: int) -> pd.DataFrame:
    """Write distinct messages, every fifth of which cannot be scored, and return the others."""
    folder.mkdir()
    texts = [f"{TEXTS[n % 2]} {n}" if n % 5 else None for n in range(rows)]
    frame = pd.DataFrame({"id": range(rows), "text": texts})
    frame.to_parquet(folder / "messages.parquet")
    return frame.dropna()


def test_scores_are_those_of_the_model_and_the_call_is_repeatable(
    trained_project: Project,
) -> None:
    folder = trained_project.folder
    (folder / "in").mkdir()
    pd.DataFrame({"text": [*TEXTS, None]}).to_parquet(folder / "in/a.parquet")
    (folder / "in/b.csv").write_text("message\nno such column")
    command = ("score", MODEL, "input=in", "output=out", "explain=true", "threshold=0.9")
    done = trained_project.run(*command, "part_rows=4", "--json")
    assert done.returncode == 0, done.stderr
    assert "b.csv is not scored: text_column='text' is not a column" in done.stderr
    summary = json.loads(done.stdout)
    assert summary["counts"] == manifest(folder / "out")["counts"]
    assert list(summary["files_not_scored"]) == ["b.csv"]
    found = pd.read_parquet(folder / "out")
    with trained_project.store_here():
        expected = loading.load_model("models:/spam-classifier/1").spam_probability(TEXTS)
    assert list(found["spam_probability"]) == list(expected)
    assert list(found["label"]) == ["spam" if p >= 0.9 else "ham" for p in expected]
    assert set(found["threshold"]) == {0.9}
    assert set(found["model_version"]) == {"spam-classifier/1"}
    assert found["explanation"][1][0]["contribution"] > 0
    spam = int((expected >= 0.9).sum())
    counts = {"scored": 6, "spam": spam, "ham": 6 - spam, "rejected": 2, "without_id": 0}
    counts["parts"] = 3
    counts["low_confidence"] = int(found["low_confidence"].notna().sum())
    assert found["low_confidence"][3] == "the model was not trained on Cyrillic script"
    assert f"{counts['low_confidence']} with low confidence" in done.stderr
    assert manifest(folder / "out")["counts"] == counts
    again = trained_project.run(*command, "part_rows=4")
    assert "out holds 6 scores" in again.stderr
    assert manifest(folder / "out")["scored_by_this_call"] == 0
    require_one_line(trained_project.run(*command), "holds scores with other settings")


def worker(job: int) -> psutil.Process | None:
    return next(iter(psutil.Process(job).children()), None)


def kill_worker(job: int) -> bool:
    """Kill a worker; return whether the job is to be killed, too."""
    process = worker(job)
    if process is not None:
        process.kill()
    return False


def kill_job(job: int) -> bool:
    os.kill(job, signal.SIGKILL)
    return True


def interrupt_job(job: int) -> bool:
    os.kill(job, signal.SIGINT)
    return True


@pytest.mark.parametrize("kill", [kill_worker, kill_job, interrupt_job])
def test_every_message_is_scored_once_whatever_is_killed(
    trained_project: Project, kill: Callable[[int], bool]
) -> None:
    folder = trained_project.folder
    kept = write_messages(folder / "in", 6000)
    command = ("score", MODEL, "input=in", "output=out", "id_column=id", "part_rows=500")
    job = trained_project.start(*command, "workers=1")
    threading.Thread(target=job.communicate, daemon=True).start()
    while job.poll() is None and not list(folder.glob("out/_parts/part-00001.json")):
        time.sleep(0.01)
    killed = kill(job.pid)
    assert (job.wait(60) != 0) == killed
    if killed:
        assert not (folder / "out/_manifest.json").exists()
        done = trained_project.run(*command, "workers=1")
        assert done.returncode == 0, done.stderr
        assert manifest(folder / "out")["scored_by_this_call"] <= 4800 - 800
    found = pd.read_parquet(folder / "out")
    assert list(found["id"]) == list(kept["id"])
    assert manifest(folder / "out")["counts"]["rejected"] == 1200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=in", "output=in/messages.parquet"], "is a file; give a folder"),
        (["input=in", "output=."], "is in the output's folder"),
        (["input=in", "output=out", "text_column=body"], "text_column='body' is not a column"),
        (["input=in", "output=out", "id_column=key"], "id_column='key' is not a column"),
        (["input=in", "output=out", "separator=xx"], "separator='xx' is not auto"),
        (["input=in", "output=out", "encoding=xx"], "encoding='xx' is no encoding"),
        (["input=in", "output=out", "encoding=utf-16"], "convert the files to UTF-8"),
        (["input=gone", "output=out"], "input='gone' does not exist"),
        (["input=gs://a/b", "output=out"], "gs:// addresses are not known"),
        (["input=in", "output=/proc/out"], "output='/proc/out'"),
        (["input=in", "output=out", "engine=flink"], "engine='flink'"),
    ],
)
def test_bad_settings_take_one_line(
    trained_project: Project, arguments: list[str], message: str
) -> None:
    write_messages(trained_project.folder / "in", 2)
    require_one_line(trained_project.run("score", MODEL, *arguments), message)
