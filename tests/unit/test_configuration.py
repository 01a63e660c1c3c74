"""Configurations: composed, checked whole, explained."""

import functools
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from support.project import ROOT

from spam_mlflow import cli
from spam_mlflow.config import paths, reference, schema
from spam_mlflow.config.compose import compose, flatten
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import CONF, choices
from spam_mlflow.errors import UserError

REQUIRED = {
    "evaluate": ("model_uri=models:/spam-classifier/1",),
    "score": ("model_uri=models:/spam-classifier/1", "input=a.csv", "output=scores"),
    "promote": ("version=1",),
    "resume": ("folder=/somewhere",),
    "publish": ("model_uri=models:/spam-classifier/1", "bucket=my-bucket"),
    "pull": ("bucket=my-bucket",),
    "bucket": ("bucket=my-bucket",),
}


def settings(command: str, *overrides: str) -> Any:
    return validate(command, compose(command, [*REQUIRED.get(command, ()), *overrides]))


@functools.cache
def defaults(command: str) -> DictConfig:
    return compose(command, REQUIRED.get(command, ()))


def with_values(command: str, *overrides: str) -> Any:
    """Return the settings with other values of existing keys, set without composing anew."""
    cfg = defaults(command).copy()
    for override in overrides:
        key, _, value = override.partition("=")
        assert OmegaConf.select(cfg, key.rpartition(".")[0] or key, default="absent") != "absent"
        OmegaConf.update(cfg, key, yaml.safe_load(value), merge=False)
    return validate(command, cfg)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_defaults_of_every_command_are_valid(command: str) -> None:
    assert isinstance(settings(command), schema.JOBS[command])


@pytest.mark.parametrize("command", ["main", "sweep", "promote", "bucket", "serve", "retrain"])
def test_every_choice_of_every_group_is_valid(command: str) -> None:
    valid = {g: choices(g) for g, default in reference.groups(command).items() if default}
    for turn in range(max(map(len, valid.values()))):
        chosen = {group: names[turn % len(names)] for group, names in valid.items()}
        more = ("data.path=own.csv",) if chosen.get("data") == "csv" else ()
        assert settings(command, *(f"{g}={choice}" for g, choice in chosen.items()), *more)


@pytest.mark.parametrize(
    "preset",
    [f"{group}={choice}" for group in reference.OPTIONAL_GROUPS for choice in choices(group)],
)
def test_every_preset_is_valid(preset: str) -> None:
    assert settings("main", preset)


def test_these_commands_have_all_groups() -> None:
    commands = ("main", "sweep", "promote", "bucket", "serve", "retrain", "score")
    groups = {group for command in commands for group in reference.groups(command)}
    assert groups == {path.name for path in CONF.iterdir() if path.is_dir()} - {"base"}


@pytest.mark.parametrize(
    ("given", "form"), [("true", "plain"), ("false", "off"), ("off", "off"), ("hmac", "hmac")]
)
def test_what_is_kept_of_a_text_can_be_said_with_true_and_false(given: str, form: str) -> None:
    for store in ("sqlite", "dynamodb"):
        assert settings("serve", f"store={store}", f"store.text={given}").store.text == form


def test_every_type_of_settings_belongs_to_a_command() -> None:
    assert set(schema.JOBS) == set(cli.COMMANDS)
    for name, kind in schema.JOBS.items():
        top = {key.name for key in reference.command_keys(name)}
        groups = {group for group, chosen in reference.groups(name).items() if chosen}
        assert set(kind.__dataclass_fields__) == top | groups


WRONG = [
    ("main", "model.max_words=abc", "model.max_words='abc': Input should be a valid integer"),
    ("main", "model.style_weight=heavy", "model.style_weight='heavy': Input should be a valid num"),
    ("main", "model.folds=1", "model.folds=1: Input should be greater than or equal to 2"),
    ("main", "model.characters=[5,2]", "model.characters=[5, 2] must be two lengths"),
    ("main", "model.characters=[2]", "model.characters.1 must be given"),
    ("main", "model.skeleton=[3,9]", "model.skeleton.1=9: Input should be less than or equal to 6"),
    ("main", "split.jaccard=high", "split.jaccard='high': Input should be a valid number"),
    ("main", "split.jaccard=1.5", "split.jaccard=1.5: Input should be less than or equal to 1"),
    ("main", "split.test=0.9", "split.test=0.9 and split.validation=0.15 must leave"),
    ("main", "data.fallback=maybe", "data.fallback='maybe': Input should be 'sample' or 'none'"),
    ("main", "data.files.timeout=-1", "data.files.timeout=-1: Input should be greater than 0"),
    ("main", "train.epochs=0", "train.epochs=0: Input should be greater than or equal to 1"),
    ("main", "train.threshold.ham_fpr=x", "train.threshold.ham_fpr='x': Input should be a valid"),
    ("main", "train.threshold.policy=best", "train.threshold.policy='best': Input should be 'auto"),
    ("main", "train.threshold.value=7", "train.threshold.value=7: Input should be less than or eq"),
    ("main", "train.threshold.ham_cost=0", "train.threshold.ham_cost=0: Input should be greater"),
    ("main", "register=maybe", "register='maybe': Input should be True, False or 'always'"),
    ("main", "storage.attempts=99", "storage.attempts=99: Input should be less than or equal to"),
    ("main", "seed=-1", "seed=-1: Input should be greater than or equal to 0"),
    ("main", "sources=uci_sms", "sources='uci_sms': Input should be a valid tuple"),
    ("main", "track=false", "register=true needs track=true"),
    ("evaluate", "part=rest", "part='rest': Input should be 'train', 'validation', 'test', 'all'"),
    ("promote", "gate.churn=2", "gate.churn=2: Input should be less than or equal to 1"),
    ("promote", "gate.floors=high", "gate.floors='high'"),
    ("promote", "alias=elsewhere", "alias='elsewhere': Input should be 'champion' or 'challenger'"),
    ("promote", "version=newest", "version='newest': String should match pattern"),
    ("sweep", "trials=0", "trials=0: Input should be greater than or equal to 1"),
    ("sweep", "search.objective=test_f1", "search.objective='test_f1'"),
    ("inferences", "day='2026-99-99'", "day='2026-99-99': time data"),
    ("bucket", "bucket=No_Bucket", "bucket='No_Bucket': String should match pattern"),
    ("pull", "endpoint_url=ftp://x", "endpoint_url='ftp://x': String should match pattern"),
]


@pytest.mark.parametrize(("command", "override", "message"), WRONG, ids=lambda v: str(v)[:40])
def test_a_bad_value_is_refused_by_key_and_value(command: str, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        with_values(command, override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UserError) as caught:
        with_values("main", "model.max_words=abc", "split.jaccard=high", "train.epochs=0")
    for key in ("model.max_words", "split.jaccard", "train.epochs"):
        assert f"{key}=" in str(caught.value)


UNKNOWN = [
    ("main", "epochs=3", "epochs is not a key of main; did you mean train.epochs?"),
    ("main", "+epochs=3", "epochs is not a key of main; did you mean train.epochs?"),
    ("main", "train.epoch=3", "train.epoch is not a key of main; did you mean train.epochs?"),
    ("main", "+train.epoch=3", "train.epoch is not a key of main; did you mean train.epochs?"),
    ("main", "+train.zzz=3", "train.zzz is not a key of main; "),
    ("main", "+model.fold=3", "model.fold is not a key of model; did you mean model.folds?"),
    ("main", "model.filters=64", "model.filters is not a key of main; it is one with model=cnn"),
    ("main", "data.ham_labels=[0]", "it is one with data=csv or data=kaggle_sms"),
    ("main", "+data.files.proxy=x", "data.files.proxy is not a key of data.files; "),
    ("promote", "+gate.floor={f1: 1}", "gate.floor is not a key of promote; did you mean gate.fl"),
    ("evaluate", "uri=x", "uri is not a key of evaluate; "),
    ("history", "+train.epochs=1", "train is not a key of history; "),
]


@pytest.mark.parametrize(("command", "override", "message"), UNKNOWN, ids=lambda v: str(v)[:40])
def test_an_unknown_key_is_refused_with_similar_ones(
    command: str, override: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        settings(command, override)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "spam_mlflow.tracking.lineage.subprocess.run",
        "spam_mlflow.data.sources.uci.pd.read_pickle",
        "spam_mlflow.models.ngram_linear.np.save",
        "spam_mlflow.models.ngram_linear.nothing",
        "spam_mlflow.models.nothing.NgramLinear",
        "spam_mlflow.data.splitters.GroupedSplitter",
        "spam_mlflow.models.sequence.NgramVectorizer",
        "builtins.eval",
        "",
    ],
)
def test_a_target_must_be_a_class_for_its_section(target: str) -> None:
    with pytest.raises(UserError, match=r"is no class of spam_mlflow\.models that can be"):
        with_values("main", f"model._target_='{target}'")


def test_a_section_that_names_no_class_is_refused() -> None:
    for override in ("+train._target_=os.getcwd", "+storage._target_=os.getcwd"):
        with pytest.raises(UserError, match=r"_target_='os\.getcwd' is no class of"):
            settings("main", override)


RENAMED = [
    ("main", "model=seed_lstm", "model.name", "tutorial_lstm"),
    ("main", "split=seed", "split._target_", "spam_mlflow.data.splitters.TutorialSplitter"),
    ("main", "data=seed", "data._target_", "spam_mlflow.data.sources.tutorial.TutorialSource"),
    ("main", "experiment=seed", "preset", "tutorial"),
    ("main", "train.disguised=0.1", "train.obfuscated_fraction", 0.1),
    ("main", "train.padded=0.1", "train.padded_fraction", 0.1),
    ("main", "train.copies_at_most=7", "train.max_augmented", 7),
    ("main", "train.ham_fpr=0.01", "train.threshold.ham_fpr", 0.01),
    ("main", "train.ham_fpr=0.01", "train.threshold.policy", "target_fpr"),
    ("main", "train.ham_fpr=null", "train.threshold.policy", "fixed"),
    ("sweep", "train.ham_fpr=0.01", "train.threshold.policy", "target_fpr"),
    ("promote", "to=challenger", "alias", "challenger"),
    ("promote", "first=true", "allow_no_champion", True),
    ("rollback", "to=challenger", "alias", "challenger"),
    ("history", "to=challenger", "alias", "challenger"),
]


@pytest.mark.parametrize(("command", "override", "key", "value"), RENAMED)
def test_a_former_name_is_taken_with_one_line_of_notice(
    command: str, override: str, key: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        cfg = compose(command, [*REQUIRED.get(command, ()), override])
    assert flatten(cfg)[key] == value
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{override} is now called ")


@pytest.mark.parametrize(
    ("override", "policy", "rate", "value"),
    [
        ("train.threshold=max_mcc", "max_mcc", 0.006, 0.5),
        ("train.threshold=0.7", "fixed", 0.006, 0.7),
        ("train.threshold={policy: target_fpr, ham_fpr: 0.001}", "target_fpr", 0.001, 0.5),
        ("train.threshold.ham_fpr=0.001", "auto", 0.001, 0.5),
    ],
)
def test_a_threshold_can_be_given_in_short_or_in_full(
    override: str, policy: str, rate: float, value: float
) -> None:
    found = settings("main", override).train.threshold
    assert (found.policy, found.ham_fpr, found.value) == (policy, rate, value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.threshold=best", "train.threshold.policy='best': Input should be 'auto', "),
        ("train.threshold=7", "train.threshold.value=7: Input should be less than or equal to 1"),
        ("train.ham_fpr=x", "train.threshold.ham_fpr='x': Input should be a valid number"),
    ],
)
def test_a_bad_threshold_is_refused_by_its_full_key(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings("main", override)
    assert message in str(caught.value)


def test_former_names_in_a_preset_are_taken_with_one_line_of_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that an earlier sweep saved; the command line counts more than it."""
    preset = tmp_path / "conf" / "experiment" / "mine.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("# @package _global_\ntrain: {ham_fpr: 0.002, padded: 0.1, epochs: 2}\n")
    monkeypatch.setattr(paths, "working_root", lambda: tmp_path)
    with caplog.at_level(logging.WARNING):
        found = settings("main", "experiment=mine", "train.threshold.ham_fpr=0.004").train
    assert (found.threshold.policy, found.threshold.ham_fpr) == ("target_fpr", 0.004)
    assert (found.padded_fraction, found.epochs) == (0.1, 2)
    assert [line.partition(" is now called ")[0] for line in caplog.messages] == [
        "train.padded=0.1",
        "train.ham_fpr=0.002",
    ]


def test_of_several_overrides_of_a_key_the_last_counts() -> None:
    assert compose("main", ["seed=1", "model=cnn", "seed=2", "model=bilstm"]).seed == 2
    assert compose("main", ["model=cnn", "model=bilstm"]).model.name == "bilstm"
    assert compose("promote", ["version=1", "alias=champion", "to=challenger"]).alias == (
        "challenger"
    )


# Documentation where the keys stand


def test_every_key_says_what_it_means() -> None:
    unexplained = {
        key.name
        for command in cli.COMMANDS
        for key in reference.command_keys(command)
        if not key.meaning
    }
    for group in (path.name for path in CONF.iterdir() if path.is_dir()):
        if group in ("base", "experiment", "debug", "search"):
            continue  # overlays of keys that are explained where they stand
        for choice in choices(group):
            unexplained |= {k.name for k in reference.section_keys(group, choice) if not k.meaning}
    assert not unexplained


def test_the_reference_reads_what_hydra_composes() -> None:
    for command in cli.COMMANDS:
        composed = set(flatten(defaults(command)))
        read = {key.name for key in reference.all_keys(command)}
        nested = {name for name in composed if not name.endswith("_target_")}
        parents = {name.rpartition(".")[0] for name in nested}
        assert {n for n in nested if n not in read and n.rpartition(".")[0] not in read} == set()
        assert {name for name in read if name not in nested and name not in parents} == set()


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_lists_every_key_with_its_default(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, command, "--help")
    for key in reference.command_keys(command):
        assert f"  {key.name}={key.default}" in text
    for group, choice in reference.groups(command).items():
        assert f"{group}={'|'.join(choices(group))}" in text.replace("\n    ", "")
        for key in reference.section_keys(group, choice) if choice else ():
            assert f"  {key.name}={key.default}" in text
    assert "example: " in text


def test_what_is_chosen_is_named_as_it_was_given() -> None:
    for given, chosen in (
        (["data=kaggle_sms"], ("kaggle_sms", "ngram_linear")),
        (["experiment=tutorial"], ("tutorial", "tutorial_lstm")),
    ):
        cfg = compose("main", given)
        assert (cfg.chosen_data, cfg.chosen_model) == chosen


def test_the_configuration_is_shown_where_required_values_are_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["main", "--config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["train"]["epochs"] == 5
    assert cli.main(["promote", "--config"]) == 0
    assert "version: ???" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--train.epochs", "3"], {"train.epochs": 3}),
        (["--train.epochs=3", "seed=1"], {"train.epochs": 3, "seed": 1}),
        (
            ["data=sample", "--data-dir", "none", "--overrides", "none", "--train.epochs", "3"],
            {"train.epochs": 3},
        ),
        (["--seed", "4", "--overrides", "train.epochs=2 model=cnn"], {"seed": 4}),
        (["--data-dir", "a b", "--model", "cnn"], {"data_dir": "a b", "model.name": "cnn"}),
    ],
)
def test_undeclared_parameters_of_mlflow_run_are_overrides(
    arguments: list[str], expected: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["main", *arguments, "--config"]) == 0
    cfg = yaml.safe_load(capsys.readouterr().out)
    for key, value in expected.items():
        node = cfg
        for part in key.split("."):
            node = node[part]
        assert node == value


def test_completions_offer_choices_and_keys() -> None:
    found = cli._completions("main")
    assert {"model=cnn", "experiment=tiny", "train.epochs=", "seed="} <= set(found)
    assert {"version=", "gate=sample"} <= set(cli._completions("promote"))


def test_a_bad_configuration_makes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert cli.main(["main", "data=sample", "train.epochs=0"]) == 1
    assert capsys.readouterr().err == (
        "error: train.epochs=0: Input should be greater than or equal to 1\n"
    )
    assert not list(tmp_path.iterdir())


def test_private_files_are_no_choices() -> None:
    private = list((ROOT / "conf").rglob("_*.yaml"))
    assert private
    for path in private:
        assert path.stem not in choices(path.parent.name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["main", "train.epochs=0"],
        ["promote", "version=newest"],
        ["sweep", "--help"],
    ],
    ids=" ".join,
)
def test_nothing_slow_is_imported_before_a_configuration_is_checked(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from spam_mlflow import cli\n"
        "try:\n    cli.main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "slow = {'mlflow', 'tensorflow', 'keras', 'sklearn', 'matplotlib', 'boto3', 'optuna'}\n"
        "print('imported:', *sorted(slow & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.stdout.splitlines()[-1].rstrip() == "imported:"
