"""What a finished training leaves behind: a run, files, a registered version."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.metrics import METRICS
from support.project import Project, Trained, without_progress

from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.registry import loading
from spam_mlflow.tracking import run_logging, run_metrics


def test_the_run_is_finished_and_in_its_experiment(trained: Trained) -> None:
    experiment = trained.project.client.get_experiment(trained.run.info.experiment_id)
    assert trained.run.info.status == "FINISHED"
    assert experiment.name == "spam-classifier"
    assert trained.run.info.run_name == "ngram_linear on sample"


def test_nothing_is_printed_that_a_user_cannot_act_on(trained: Trained) -> None:
    assert "arning" not in trained.errors + trained.output
    assert "Traceback" not in trained.errors
    known = (
        "Epoch ",
        "View: ",
        "The threshold is ",
        "Successfully registered model",
        "Created version",
    )
    told = without_progress(trained.errors)
    assert all(line.startswith((*known, "Run ")) for line in told)
    assert len([line for line in told if line.startswith("Epoch ")]) == 5
    assert trained.output == ""


def test_every_metric_is_logged(trained: Trained, tmp_path: Path) -> None:
    with trained.project.store_here():
        logged = run_metrics.read(trained.run, tmp_path)
    sources = ("", "__sample_sms", "__sample_comment")
    wanted = [f"{part}_{m}{s}" for part in ("test", "val") for m in METRICS for s in sources]
    assert not set(wanted) - set(logged)
    assert {"fit_seconds", "train_messages_per_second", "held_out_ham_fpr"} <= set(logged)
    assert logged["test_f1"] > 0.8


def test_few_metrics_have_charts_and_the_others_are_with_the_model(trained: Trained) -> None:
    charted = [name for name in trained.run.data.metrics if not name.startswith("system/")]
    assert len(charted) <= 25
    assert {"test_f1", "test_ham_fpr", "test_recall_at_fpr_0_2pct", "val_f1"} <= set(charted)
    assert len({name[:12] for name in charted if name.startswith("test_")}) == 9
    (model,) = trained.project.client.search_logged_models([trained.run.info.experiment_id])
    assert 0 < float(model.params["test_f1__sample_sms"]) <= 1
    assert model.tags["architecture"] == "ngram_linear"


def test_the_description_begins_with_what_matters_most(trained: Trained) -> None:
    first, _, rest = trained.run.data.tags["mlflow.note.content"].partition("\n")
    assert first.startswith(f"F1 {trained.run.data.metrics['test_f1']:.4f}, recall ")
    assert first.endswith("; sample, 2,379 messages, split grouped")
    assert "# Spam classifier" in rest


def test_parameters_say_what_is_trained_and_are_alike_however_the_run_began(
    trained: Trained,
) -> None:
    parameters = trained.run.data.params
    entry_point = {name: parameters[name] for name in ("epochs", "model", "data", "data_dir")}
    assert entry_point == {
        "epochs": "5",
        "model": "ngram_linear",
        "data": "sample",
        "data_dir": "none",
    }
    hidden = ("storage.", "data.files", "output_dir", "safe_csv", "track")
    assert not [name for name in parameters if name.startswith(hidden) or "_target_" in name]
    assert json.loads(trained.run.data.tags["storage"])["endpoint_url"] is None


def test_the_pages_of_experiment_and_model_say_how_to_read_them(trained: Trained) -> None:
    experiment = trained.project.client.get_experiment(trained.run.info.experiment_id)
    assert "Look first at `test_f1`" in experiment.tags["mlflow.note.content"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.spam"])
    (losses,) = [chart for chart in view["compareRunCharts"] if chart["type"] == "LINE"]
    assert losses["selectedMetricKeys"] == ["loss", "val_loss"]
    assert "metrics.`test_f1`" in view["selectedColumns"]
    page = f"#/experiments/{experiment.experiment_id}/runs/{trained.run.info.run_id}"
    assert page in trained.errors
    description = trained.project.client.get_registered_model("spam-classifier").description
    assert "None yet." in description


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


def test_metrics_are_linked_to_the_model_and_the_messages_they_were_computed_on(
    trained: Trained,
) -> None:
    (model,) = trained.project.client.search_logged_models([trained.run.info.experiment_id])
    assert model.metrics
    scored_on = {(metric.key, metric.dataset_name) for metric in model.metrics}
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
    plots = (
        "confusion_matrix",
        "roc",
        "precision_recall",
        "calibration",
        "learning_curves",
        "scores",
        "thresholds",
    )
    assert {f"figures/{name}.png" for name in plots} <= files
    names = ("spam-model.keras", "spam-classifier-tokenizer.json", "spam-classifier-metadata.json")
    assert {f"keras/{name}" for name in names} <= files
    assert {"config.yaml", "split.csv", "errors.json", "metrics.csv", "report.html"} <= files
    assert "model_card.md" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]


def test_plots_are_pictures_of_a_readable_size(trained: Trained) -> None:
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
    assert {"max_words", "max_sequence", "normalizer_version", "format_version"} <= set(metadata)
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
    card = run_logging.for_page(card)
    assert trained.run.data.tags["mlflow.note.content"] == card
    version = trained.project.client.get_model_version("spam-classifier", "1")
    assert version.description == card
    assert f"{trained.run.data.metrics['test_f1']:.4f}" in card
    assert "Synthetic sample" in card


def test_the_same_command_gives_the_same_metrics(trained: Trained, project: Project) -> None:
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
    assert not project.client.search_registered_models()
    assert f"logged as runs:/{run.info.run_id}/model; not registered" in done.stderr
    (model,) = project.client.search_logged_models([run.info.experiment_id])
    assert str(model.status) == "READY"


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of messages, each with the label of the one before."""
    rows = SampleSource().load().frame.sample(600, random_state=0)
    file = tmp_path_factory.mktemp("shifted") / "shifted.csv"
    rows.assign(label=np.roll(rows["label"], 1))[["text", "label"]].to_csv(file, index=False)
    return file


QUICK = ("train.epochs=2", "train.obfuscated_fraction=0", "train.padded_fraction=0")


def test_a_model_of_shifted_labels_is_logged_but_not_registered(
    shifted: Path, project: Project
) -> None:
    done = project.run("main", "data=csv", f"data.path={shifted}", *QUICK)
    assert done.returncode == 0, done.stderr
    said = "labels and texts may not belong together"
    run = project.last_run()
    last = done.stderr.splitlines()[-1]
    assert f"{said}: of the held-out messages, a spam scores higher than a ham in" in done.stderr
    assert f"logged as runs:/{run.info.run_id}/model; not registered, since {said}" in last
    assert run.data.tags["labels.doubt"].startswith(said)
    assert not project.client.search_registered_models()
    (model,) = project.client.search_logged_models([run.info.experiment_id])
    assert str(model.status) == "READY"


def test_a_model_of_shifted_labels_is_registered_where_that_is_asked_for(
    shifted: Path, project: Project
) -> None:
    done = project.run("main", "data=csv", f"data.path={shifted}", *QUICK, "register=always")
    assert done.returncode == 0, done.stderr
    assert "labels and texts may not belong together" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("registered as models:/spam-classifier/1")
    assert "labels.doubt" in project.last_run().data.tags


def test_the_run_says_how_the_threshold_was_chosen(trained: Trained, tmp_path: Path) -> None:
    with trained.project.store_here():
        metrics, tags = run_metrics.read(trained.run, tmp_path), trained.run.data.tags
    low, rate, high = (metrics[f"held_out_ham_fpr{end}"] for end in ("_low", "", "_high"))
    assert low < rate < high
    assert tags["threshold.policy"] == "max_f1"  # at 0.6 %, F1 would be much lower
    chosen = loading.thresholds(trained.model_folder).chosen
    assert float(tags["threshold.value"]) == chosen
    assert "labels.doubt" not in tags
    card = (trained.artifacts / "model_card.md").read_text()
    assert f"{rate:.2%}, 95 % interval {low:.2%} to {high:.2%}" in card
    assert metrics["test_f1_best"] >= metrics["test_f1"]
