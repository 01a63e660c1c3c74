import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project

from spam_mlflow.cli import COMMANDS
from spam_mlflow.config import CONF, choices, compose, literal, split_overrides
from spam_mlflow.errors import UserError


def test_help_lists_the_commands_and_their_choices(project: Project) -> None:
    top = project.run("--help")
    assert all(name in top.stdout for name in COMMANDS)
    assert project.run().stdout == top.stdout
    main = project.run("main", "--help").stdout
    for group in ("data", "split", "model", "experiment", "debug"):
        assert f"{group}={'|'.join(choices(group))}" in main


def test_importing_the_package_touches_nothing(project: Project) -> None:
    code = (
        "import sys, pkgutil, importlib, spam_mlflow\n"
        "for m in pkgutil.walk_packages(spam_mlflow.__path__, 'spam_mlflow.'):\n"
        "    if m.name not in ('spam_mlflow.__main__', 'spam_mlflow.servable'):\n"
        "        importlib.import_module(m.name)\n"
        "import mlflow; assert 'mlflow.db' not in mlflow.get_tracking_uri() or "
        "mlflow.get_tracking_uri() == sys.argv[1]\n"
        "print(*sorted({'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = project.call(sys.executable, "-c", code, project.store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    assert not list(project.folder.iterdir())


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}")
def test_every_configuration_says_what_it_is(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", []),
        ("", []),
        ("model=seed_lstm train.batch_size=64", ["model=seed_lstm", "train.batch_size=64"]),
        ("  a=1   b=2 ", ["a=1", "b=2"]),
        ("data.path='my file, new.csv' a=1", ["data.path='my file, new.csv'", "a=1"]),
        ("'data.path=my file' a=1", ["data.path=my file", "a=1"]),
        ('a="it\'s" b=[1, 2]', ['a="it\'s"', "b=[1, 2]"]),
        ("a={x: 1, y: 2}", ["a={x: 1, y: 2}"]),
        (
            "a=[{x: [1, 2], y: {z: 3}}, 4] b=[[], {}]",
            ["a=[{x: [1, 2], y: {z: 3}}, 4]", "b=[[], {}]"],
        ),
        ("a=$(touch x) ", ["a=$(touch", "x)"]),
    ],
)
def test_overrides_are_split_at_spaces_outside_quotes(text: str, expected: list[str]) -> None:
    assert split_overrides(text) == expected


@pytest.mark.parametrize("text", ["a='b", "a=[1, 2", 'a="b c', "a=[{x: 1]", "a=]1["])
def test_unbalanced_overrides_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unbalanced"):
        split_overrides(text)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "with space",
        "it's",
        r"back\slash",
        "at the end\\",
        r"it\'s",
        'a "quote"',
        "a,b=[c]{d}",
        "$(x)",
        "\xfcml\xe4ut",
        "null",
    ],
)
def test_a_data_dir_arrives_as_it_is(value: str) -> None:
    assert compose("main", [literal("data_dir", value)]).data_dir == value


def test_ids_that_look_like_numbers_stay_what_they_are() -> None:
    given = "runs=[12e45678, 1234,0012,null0,'a b',cnn on uci]"
    wanted = ["12e45678", "1234", "0012", "null0", "a b", "cnn on uci"]
    assert compose("compare", [given]).runs == wanted


# Errors: one line, a non-zero exit, and the run marked as failed.

BEFORE_A_RUN = [
    (
        ["main", "model=gpt5"],
        "model='gpt5' does not exist; valid: bilstm, cnn, ngram_linear, seed_lstm",
    ),
    (["main", "data=mnist"], "data='mnist' does not exist; valid: csv, "),
    (["main", "experiment=own"], "experiment='own' does not exist; valid: "),
    (["main", "train.epoch=3"], "train.epoch"),
    (["main", "data=csv"], "data.path must be given"),
    (["main", "--overrides", "a='b"], "unbalanced quotes"),
    (["evaluate"], "model_uri must be given"),
]

IN_A_RUN = [
    (["train.epochs=0"], "train.epochs=0: Input should be greater than or equal to 1"),
    (["train.epochs=abc"], "train.epochs='abc': Input should be a valid integer"),
    (["train.disguised=2"], "train.disguised=2: Input should be less than or equal to 1"),
    (["model.folds=1"], "model.folds=1 must be at least 2"),
    (["model.skeleton=[3,9]"], "model.skeleton=[3, 9] must be two lengths"),
    (["split=seed"], "split=seed scores its validation part as test part"),
    (["train.class_weight=some"], "train.class_weight='some'"),
    (["seed=-1"], "seed=-1"),
    (["split.test=1.5"], "split.test=1.5"),
    (["data=uci", "data_dir=/nowhere"], "data_dir='/nowhere' does not exist"),
    (["data=uci", "data_dir=."], "lacks SMSSpamCollection"),
    (["data=csv", "data.path=bad.csv"], "data.text_column='text' is not a column"),
    (["data=csv", "data.path=ham.csv"], "both classes, ham and spam, are needed"),
    (["data=csv", "data.path=few.csv"], "too few messages to split"),
    (["output_dir=/proc/nowhere"], "output_dir='/proc/nowhere' cannot be written"),
    (["train.learning_rate=1e30"], "try a smaller train.learning_rate"),
]


def require_one_line(done: "subprocess.CompletedProcess[str]", message: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("arguments", "message"), BEFORE_A_RUN)
def test_a_bad_configuration_is_an_error_of_one_line(
    project: Project, arguments: list[str], message: str
) -> None:
    done = project.run(*arguments)
    require_one_line(done, message)
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_command_lists_the_valid_ones(project: Project) -> None:
    done = project.run("trian")
    assert done.returncode == 2
    assert "'trian' (choose from" in done.stderr


@pytest.mark.parametrize(("overrides", "message"), IN_A_RUN, ids=lambda v: str(v)[:40])
def test_bad_input_fails_the_run_with_an_error_of_one_line(
    project: Project, overrides: list[str], message: str
) -> None:
    (project.folder / "bad.csv").write_text("body,label\nhi,ham\n")
    (project.folder / "ham.csv").write_text("text,label\nhi,ham\nyou,ham\n")
    (project.folder / "few.csv").write_text("text,label\nhi,ham\nbuy now,spam\n")
    done = project.run("main", "data=sample", *overrides)
    require_one_line(done, message)
    run = project.last_run()
    assert run.info.status == "FAILED"
    assert message in run.data.tags["error"]
    assert run.info.run_name.startswith(("ngram_linear", "cnn"))


@pytest.mark.parametrize("uri", ["models:/spam-classifier/7", "runs:/0123/model", "nonsense"])
def test_an_unknown_model_is_named(project: Project, uri: str) -> None:
    done = project.run("evaluate", "data=sample", f"model_uri={uri}")
    require_one_line(done, f"model_uri='{uri}' is not a model of this project")
    assert project.last_run().info.status == "FAILED"


def test_a_tracking_server_that_is_down_is_named_at_once(tmp_path: Path) -> None:
    project = Project(tmp_path, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    done = project.run("main", "data=sample")
    require_one_line(done, "MLFLOW_TRACKING_URI=http://127.0.0.1:9 does not answer")


def test_the_configuration_can_be_printed(project: Project) -> None:
    shown = project.run("main", "--config", "train.epochs=3", "--overrides", "seed=7").stdout
    assert "epochs: 3" in shown
    assert "seed: 7" in shown
    assert not list(project.folder.iterdir())


def test_the_scripts_explain_themselves() -> None:
    for script in sorted((ROOT / "scripts").glob("[a-z]*.py")):
        done = subprocess.run(
            [sys.executable, "-m", f"scripts.{script.stem}", "--help"],
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "usage:" in done.stdout
