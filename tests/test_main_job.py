import csv
import json
import signal
import zipfile
from pathlib import Path

import pytest
from conftest import Project, Trained, serve

from spam_mlflow.config import choices, compose
from spam_mlflow.scoring_server import free_port

METRICS = (
    *("accuracy", "precision", "recall", "f1", "mcc", "pr_auc", "roc_auc"),
    *("ham_fpr", "recall_at_fpr_0_2pct", "ece", "brier"),
)
MESSAGES = ("Ok, see you at seven then", "Subscribe to my channel for free gift cards")
SMALL_LSTM = ("model.units=4", "model.embedding=4", "model.max_sequence=20", "train.epochs=1")


def test_the_run_is_finished_and_in_its_experiment(trained: Trained) -> None:
    experiment = trained.project.client.get_experiment(trained.run.info.experiment_id)
    assert trained.run.info.status == "FINISHED"
    assert experiment.name == "spam-classifier"
    assert trained.run.info.run_name == "ngram_linear on sample"


def test_nothing_is_printed_that_a_user_cannot_act_on(trained: Trained) -> None:
    assert "arning" not in trained.errors + trained.output
    assert "Traceback" not in trained.errors
    known = ("Successfully registered model", "Created version", "Run ")
    assert all(line.startswith(known) for line in trained.errors.splitlines())
    assert len(trained.output.splitlines()) == 2 * 5  # two lines for each epoch


def test_every_figure_is_logged(trained: Trained) -> None:
    logged = trained.run.data.metrics
    sources = ("", "__sample_sms", "__sample_comment")
    wanted = [f"{part}_{m}{s}" for part in ("test", "val") for m in METRICS for s in sources]
    assert not set(wanted) - set(logged)
    assert {"fit_seconds", "train_messages_per_second"} <= set(logged)
    assert logged["test_f1"] > 0.8


def test_every_epoch_is_logged_on_its_own_step(trained: Trained) -> None:
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        history = trained.project.client.get_metric_history(trained.run.info.run_id, name)
        assert sorted({point.step for point in history}) == [1, 2, 3, 4, 5]


def test_parameters_are_flattened_and_tags_tell_the_provenance(trained: Trained) -> None:
    parameters, tags = trained.run.data.params, trained.run.data.tags
    assert parameters["train.epochs"] == "5"
    assert parameters["seed"] == "0"
    assert parameters["model.name"] == "ngram_linear"
    assert len(tags["data.digest"]) == len(tags["split.digest"]) == 64
    assert (tags["data.name"], tags["data.fallback"]) == ("sample", "false")
    assert (tags["split.name"], tags["split.leaky"]) == ("grouped", "false")
    assert tags["git.commit"]


def test_the_parts_are_logged_as_dataset_inputs(trained: Trained) -> None:
    assert trained.run.inputs
    inputs = trained.run.inputs.dataset_inputs
    contexts = {tag.value for entry in inputs for tag in entry.tags}
    assert contexts == {"train", "validation", "test"}


def test_figures_are_linked_to_the_model_and_the_messages_they_were_taken_on(
    trained: Trained,
) -> None:
    (model,) = trained.project.client.search_logged_models([trained.run.info.experiment_id])
    assert model.metrics
    scored_on = {(figure.key, figure.dataset_name) for figure in model.metrics}
    assert {("test_f1", "sample-test"), ("val_f1", "sample-validation")} <= scored_on


def test_the_machine_is_watched(trained: Trained) -> None:
    logged = trained.run.data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(
        logged
    )


def test_rows_are_counted_by_part_source_and_label(trained: Trained) -> None:
    counts = {n: int(v) for n, v in trained.run.data.params.items() if n.startswith("rows.")}
    assert counts.pop("rows.read") == 2379
    assert counts.pop("rows.rejected") == 0
    assert 2379 - counts.pop("rows.duplicate") == sum(counts.values())
    assert len(counts) == 3 * 2 * 2


def test_artifacts(trained: Trained) -> None:
    files = {str(p.relative_to(trained.artifacts)) for p in trained.artifacts.rglob("*")}
    figures = ("confusion_matrix", "roc", "precision_recall", "calibration", "learning_curves")
    assert {f"figures/{name}.png" for name in figures} <= files
    names = ("spam-model.keras", "spam-classifier-tokenizer.json", "spam-classifier-metadata.json")
    assert {f"keras/{name}" for name in names} <= files
    assert {"config.yaml", "split.csv", "errors.json", "model_card.md"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]


def test_figures_are_pictures_of_a_readable_size(trained: Trained) -> None:
    for picture in (trained.artifacts / "figures").glob("*.png"):
        header = picture.read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
        assert width >= 600
        assert height >= 500


def test_the_metadata_say_what_a_reader_needs(trained: Trained) -> None:
    file = trained.artifacts / "keras" / "spam-classifier-metadata.json"
    metadata = json.loads(file.read_text())
    assert metadata["labels_legend"] == {"ham": 0, "spam": 1}
    assert metadata["labels_legend_inverted"] == {"0": "ham", "1": "spam"}
    assert 0 < metadata["threshold"] < 1
    assert metadata["data_digest"] == trained.run.data.tags["data.digest"]
    assert {"max_words", "max_sequence", "normaliser_version"} <= set(metadata)
    assert zipfile.is_zipfile(file.with_name("spam-model.keras"))


def test_the_split_file_shows_that_no_key_crosses_parts(trained: Trained) -> None:
    parts: dict[str, set[str]] = {}
    with (trained.artifacts / "split.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            parts.setdefault(row["key"], set()).add(row["part"])
            parts.setdefault(f"group {row['group']}", set()).add(row["part"])
    assert all(len(found) == 1 for found in parts.values())


def test_the_version_is_registered_with_its_provenance(trained: Trained) -> None:
    version = trained.project.client.get_model_version("spam-classifier", "1")
    assert version.run_id == trained.run.info.run_id
    assert version.tags["data.digest"] == trained.run.data.tags["data.digest"]
    assert version.tags["data.fallback"] == "false"


def test_the_model_card_is_shown_with_run_and_version(trained: Trained) -> None:
    card = (trained.artifacts / "model_card.md").read_text()
    assert trained.run.data.tags["mlflow.note.content"] == card
    version = trained.project.client.get_model_version("spam-classifier", "1")
    assert version.description == card
    assert f"{trained.run.data.metrics['test_f1']:.4f}" in card
    assert "Synthetic sample" in card


def test_evaluating_the_version_gives_the_figures_of_training(trained: Trained) -> None:
    project = trained.project
    done = project.run("evaluate", "data=sample", "model_uri=models:/spam-classifier/1")
    assert done.returncode == 0, done.stderr
    evaluated = project.last_run()
    assert evaluated.info.run_id != trained.run.info.run_id
    for name in METRICS:
        expected = trained.run.data.metrics[f"test_{name}"]
        assert evaluated.data.metrics[f"test_{name}"] == pytest.approx(expected, abs=1e-6)
    assert "| f1 |" in done.stderr


def test_a_model_can_be_evaluated_on_all_of_another_file(trained: Trained, tmp_path: Path) -> None:
    rows = "".join(f'"{text}",{label}\n' for text, label in zip(MESSAGES, ["0", "1"], strict=True))
    (tmp_path / "own.csv").write_text(f"text,label\n{rows},1\n")
    project = trained.project
    done = project.run(
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
    assert project.last_run().data.metrics["test_accuracy"] == 1


def test_the_same_command_gives_the_same_figures(trained: Trained, project: Project) -> None:
    assert project.run("main", "data=sample", "register=false").returncode == 0
    again = project.last_run().data.metrics
    for name, value in trained.run.data.metrics.items():
        if not name.startswith(("system/", "fit_seconds", "train_messages_per_second")):
            assert again[name] == value


def test_without_network_the_run_ends_well_on_the_sample_and_is_tagged(project: Project) -> None:
    cache = project.folder / "cache"
    unreachable = ("data.files.base_url=http://127.0.0.1:9", "data.files.retries=0")
    done = project.run("main", f"data.files.cache_dir={cache}", *unreachable)
    assert done.returncode == 0, done.stderr
    assert "TRAINING ON THE BUNDLED SYNTHETIC SAMPLE" in done.stderr
    run = project.last_run()
    assert (run.info.status, run.data.tags["data.fallback"]) == ("FINISHED", "true")
    assert run.data.tags["data.name"] == "sample"
    version = project.client.get_model_version("spam-classifier", "1")
    assert version.tags["data.fallback"] == "true"


def test_an_interrupted_run_is_killed_and_keeps_what_was_logged(project: Project) -> None:
    project.client.search_experiments()  # makes the store, which two processes must not do at once
    process = project.start("main", "data=sample", "train.epochs=100000")
    try:
        project.wait_for_epoch()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    run = project.last_run()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert run.info.status == "KILLED"
    assert run.data.params["train.epochs"] == "100000"
    assert run.data.metrics["loss"] > 0


def test_without_tracking_nothing_is_logged(project: Project) -> None:
    done = project.run("main", "debug=no_tracking", "output_dir=out")
    assert done.returncode == 0, done.stderr
    assert "Not tracked: test_f1" in done.stderr
    assert {file.name for file in project.folder.iterdir()} == {"out"}
    assert (project.folder / "out" / "keras" / "spam-model.keras").is_file()


def test_the_profiler_says_what_took_the_time(project: Project) -> None:
    done = project.run("main", "debug=profiler")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    profile = Path(project.client.download_artifacts(run.info.run_id, "profile.txt")).read_text()
    assert "cumtime" in profile
    assert "spam_mlflow/training.py" in profile


def test_ten_messages_are_learnt_by_heart(project: Project) -> None:
    done = project.run("main", "debug=overfit")
    assert done.returncode == 0, done.stderr
    figures = project.last_run().data.metrics
    assert figures["test_accuracy"] == 1
    assert figures["loss"] < 0.05


@pytest.mark.parametrize("preset", ["fast", "one_batch"])
def test_quick_checks_run_and_register_nothing(project: Project, preset: str) -> None:
    done = project.run("main", f"debug={preset}")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert run.info.status == "FINISHED"
    assert not project.client.search_model_versions()
    history = project.client.get_metric_history(run.info.run_id, "loss")
    assert len(history) == 1


def test_there_is_a_test_for_every_debug_preset() -> None:
    assert choices("debug") == ["fast", "no_tracking", "one_batch", "overfit", "profiler"]


# What a preset asks of UCI's sources, said of the sample's.
ON_SAMPLE = {
    "sms_only": ("sources=[sample_sms]",),
    "youtube_only": ("sources=[sample_comment]",),
    "cross_domain": ("split.held_out=sample_comment",),
}


@pytest.mark.parametrize("preset", [name for name in choices("experiment") if name != "seed"])
def test_every_experiment_preset_runs(project: Project, preset: str) -> None:
    done = project.run("main", f"experiment={preset}", "data=sample", *ON_SAMPLE.get(preset, ()))
    assert done.returncode == 0, done.stderr
    assert project.last_run().data.tags["preset"] == preset


def test_presets_have_the_last_word() -> None:
    assert compose("main", ["debug=fast"]).register is False
    assert compose("main", ["experiment=seed"]).seed == 42


def test_the_tutorial_preset_runs_on_its_own_data(project: Project, uci_dir: Path) -> None:
    done = project.run("main", "experiment=seed", f"data_dir={uci_dir}", *SMALL_LSTM)
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert (run.data.tags["split.name"], run.data.tags["split.leaky"]) == ("seed", "true")
    assert run.data.params["rows.read"] == "7762"
    assert run.data.metrics["val_accuracy"] == run.data.metrics["test_accuracy"]


def test_the_default_model_reaches_its_quality_on_uci(project: Project, uci_dir: Path) -> None:
    done = project.run("main", f"data_dir={uci_dir}")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    metrics = run.data.metrics
    assert run.data.params["rows.read"] == str(5574 + 1956)
    assert metrics["test_f1"] >= 0.94
    assert metrics["test_f1__uci_sms"] >= 0.93
    assert metrics["test_f1__uci_youtube"] >= 0.93


def test_runs_can_be_logged_to_a_tracking_server(project: Project) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    artifacts = project.folder / "artifacts"
    store = ["--backend-store-uri", project.store, "--artifacts-destination", str(artifacts)]
    for _ in serve([*command, *store], project.folder, project.env(), f"{address}/health"):
        remote = Project(project.folder, {"MLFLOW_TRACKING_URI": address})
        done = remote.run("main", "data=sample", "train.epochs=1")
        assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert run.info.status == "FINISHED"
    assert list(artifacts.rglob("spam-model.keras"))


def test_the_tutorial_preset_is_faithful() -> None:
    cfg = compose("main", ["experiment=seed"])
    assert (cfg.split.test, cfg.split.seed, cfg.train.epochs, cfg.train.batch_size) == (
        0.33,
        42,
        5,
        32,
    )
    assert {**cfg.model} == {
        "_target_": "spam_mlflow.models.seed_lstm.SeedLstm",
        "name": "seed_lstm",
        "max_words": 280,
        "max_sequence": 280,
        "embedding": 128,
        "spatial_dropout": 0.4,
        "units": 196,
        "dropout": 0.3,
        "recurrent_dropout": 0.3,
        "batch_size": 32,
        "learning_rate": 0.001,
    }
