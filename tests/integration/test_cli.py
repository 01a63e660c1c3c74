"""The command line: help, and errors of one line with a non-zero exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from support.inferences import inference
from support.project import Project, require_one_line, without_progress

from spam_mlflow.cli import COMMANDS
from spam_mlflow.config.paths import choices
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.texts import TextPolicy


def test_help_lists_the_commands_and_their_choices(bare_project: Project) -> None:
    top = bare_project.run("--help")
    assert all(name in top.stdout for name in COMMANDS)
    assert bare_project.run().stdout == top.stdout
    main = " ".join(bare_project.run("main", "--help").stdout.split())
    for group in ("data", "split", "model", "experiment", "debug"):
        assert f"{group}={'|'.join(choices(group))}" in main


BEFORE_A_RUN = [
    (
        ["main", "model=gpt5"],
        "model='gpt5' does not exist; valid: bilstm, cnn, ngram_linear, tutorial_lstm",
    ),
    (["drift", "history=800000"], "history=800000: Input should be less than or equal to 3650"),
    (["main", "data=mnist"], "data='mnist' does not exist; valid: csv, "),
    (["main", "experiment=own"], "experiment='own' does not exist; valid: "),
    (["main", "train.epoch=3"], "train.epoch is not a key of main; did you mean train.epochs?"),
    (["main", "data=csv"], "data.path must be given"),
    (["main", "--overrides", "a='b"], "unbalanced quotes"),
    (["evaluate"], "model_uri must be given"),
    (["main", "train.epochs=0"], "train.epochs=0: Input should be greater than or equal to 1"),
    (["main", "train.epochs=abc"], "train.epochs='abc': Input should be a valid integer"),
    (
        ["main", "train.obfuscated_fraction=2"],
        "train.obfuscated_fraction=2: Input should be less than or equal to 1",
    ),
    (["main", "model.folds=1"], "model.folds=1: Input should be greater than or equal to 2"),
    (["main", "model.skeleton=[3,9]"], "model.skeleton.1=9: Input should be less than or equal"),
    (["main", "model.skeleton=[4,3]"], "model.skeleton=[4, 3] must be two lengths"),
    (["main", "train.class_weight=some"], "train.class_weight='some'"),
    (["main", "seed=-1"], "seed=-1"),
    (["main", "split.test=1.5"], "split.test=1.5"),
]


@pytest.mark.parametrize(("arguments", "message"), BEFORE_A_RUN, ids=lambda v: str(v)[:40])
def test_a_bad_configuration_is_an_error_of_one_line_and_makes_no_run(
    bare_project: Project, arguments: list[str], message: str
) -> None:
    done = bare_project.run(*arguments)
    require_one_line(done, message)
    assert len(without_progress(done.stderr)) == 1
    assert not list(bare_project.folder.iterdir())  # not even a tracking store


def test_a_process_ends_with_that_line_and_exit_status_1(bare_project: Project) -> None:
    done = bare_project.execute("main", "data=sample", "train.epochs=0")
    require_one_line(done, "train.epochs=0: Input should be greater than or equal to 1")
    assert len(without_progress(done.stderr)) == 1
    assert done.stdout == ""
    assert not list(bare_project.folder.iterdir())


def test_an_unknown_command_lists_the_valid_ones(bare_project: Project) -> None:
    done = bare_project.run("trian")
    assert done.returncode == 2
    assert "'trian' (choose from" in done.stderr


IN_A_RUN = [
    (["split=tutorial"], "split=tutorial scores its validation part as test part"),
    (["data=uci", "data_dir=/nowhere"], "data_dir='/nowhere' does not exist"),
    (["data=uci", "data_dir=."], "lacks SMSSpamCollection"),
    (["data=csv", "data.path=bad.csv"], "data.text_column='text' is not a column"),
    (["data=csv", "data.path=ham.csv"], "both classes, ham and spam, are needed"),
    (["data=csv", "data.path=few.csv"], "too few messages to split"),
    (["output_dir=/proc/nowhere"], "output_dir='/proc/nowhere' cannot be written"),
    (["model=cnn", "train.learning_rate=1e30"], "try a smaller train.learning_rate"),
]


@pytest.mark.parametrize(("overrides", "message"), IN_A_RUN, ids=lambda v: str(v)[:40])
def test_bad_input_fails_the_run_with_an_error_of_one_line(
    project: Project, overrides: list[str], message: str
) -> None:
    write_bad_files(project.folder)
    done = project.run("main", "data=sample", *overrides)
    require_one_line(done, message)
    run = project.last_run()
    assert run.info.status == "FAILED"
    assert message in run.data.tags["error"]
    assert run.info.run_name.startswith(("ngram_linear", "cnn"))


def write_bad_files(folder: Path) -> None:
    (folder / "bad.csv").write_text("body,label\nhi,ham\n")
    (folder / "ham.csv").write_text("text,label\nhi,ham\nyou,ham\n")
    (folder / "few.csv").write_text("text,label\nhi,ham\nbuy now,spam\n")


def test_a_process_whose_run_fails_ends_alike(project: Project) -> None:
    write_bad_files(project.folder)
    done = project.execute("main", "data=csv", "data.path=ham.csv")
    require_one_line(done, "both classes, ham and spam, are needed")
    run = project.last_run()
    assert run.info.status == "FAILED"
    assert "both classes" in run.data.tags["error"]


@pytest.mark.parametrize("uri", ["models:/spam-classifier/7", "runs:/0123/model", "nonsense"])
def test_an_unknown_model_is_named(project: Project, uri: str) -> None:
    done = project.run("evaluate", "data=sample", f"model_uri={uri}")
    require_one_line(done, f"model_uri='{uri}' is not a model of this project")
    assert project.last_run().info.status == "FAILED"


def test_a_tracking_server_that_is_down_is_named_at_once(tmp_path: Path) -> None:
    project = Project(tmp_path, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    done = project.run("main", "data=sample")
    require_one_line(done, "MLFLOW_TRACKING_URI=http://127.0.0.1:9 does not answer")


def test_the_configuration_can_be_printed(bare_project: Project) -> None:
    shown = bare_project.run("main", "--config", "train.epochs=3", "--overrides", "seed=7").stdout
    assert "epochs: 3" in shown
    assert "seed: 7" in shown
    assert not list(bare_project.folder.iterdir())


@pytest.mark.parametrize(
    ("variables", "shown"),
    [({"PYTHONIOENCODING": "ascii"}, "\\u5927"), ({"LC_ALL": "C", "LANG": "C"}, "大")],
    ids=["ASCII", "C"],
)
def test_a_terminal_that_lacks_characters_gets_escapes(
    bare_project: Project, variables: dict[str, str], shown: str
) -> None:
    project = Project(bare_project.folder, variables)
    done = project.execute("rollback", "--config", "reason=größer … 大")
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert project.execute("sweep", "--help").returncode == 0


SIGNS = "caf\xe9 \u5927 \U0001f600"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_lacks_is_printed_all_the_same(
    bare_project: Project, encoding: str
) -> None:
    project = Project(bare_project.folder, {"PYTHONIOENCODING": encoding})
    store = SqliteStore(project.folder / "i.db", TextPolicy("plain"), 30, "normal")
    store.add([inference(SIGNS, TextPolicy("plain"))])
    store.close()
    with project.store_here():
        mlflow.set_experiment("spam-classifier")
        with mlflow.start_run(run_name=SIGNS) as run:
            mlflow.log_metrics({"test_f1": 0.9, "test_mcc": 0.9})
        client = project.client
        client.create_registered_model("spam-classifier")
        source, tags = f"{run.info.artifact_uri}/model", {"data.name": SIGNS}
        client.create_model_version("spam-classifier", source, run.info.run_id, tags=tags)
    path = f"store.path={store.path}"
    for arguments in (
        *(["inferences", "list", path], ["inferences", "export", path]),
        *(["inferences", "export", path, "format=jsonl"], ["compare"], ["compare", "json=true"]),
        *(["history"], ["history", "json=true"]),
    ):
        command = [sys.executable, "-m", "spam_mlflow", *arguments]
        done = subprocess.run(
            command, cwd=project.folder, env=project.env(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        shown = done.stdout.decode(encoding)
        if "json=true" in arguments or "format=jsonl" in arguments:
            assert SIGNS in str(json.loads(shown))
        else:
            assert "\\u5927" in shown


def test_an_argument_in_another_encoding_is_named(bare_project: Project) -> None:
    done = bare_project.call(
        sys.executable, "-m", "spam_mlflow", "main", os.fsdecode(b"data_dir=/caf\xe9")
    )
    require_one_line(done, "'data_dir=/caf\\udce9' is not valid in this terminal's encoding")


def test_a_reader_that_has_seen_enough_is_no_error(bare_project: Project) -> None:
    store = SqliteStore(bare_project.folder / "i.db", TextPolicy("off"), 30, "normal")
    store.add([inference() for _ in range(2000)])
    store.close()
    command = bare_project.start("inferences", "export", f"store.path={store.path}")
    assert command.stdout is not None
    assert command.stdout.readline().startswith('"id"')
    command.stdout.close()
    assert command.stderr is not None
    assert without_progress(command.stderr.read()) == []
    assert command.wait() == 141
