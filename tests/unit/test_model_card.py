"""The model card, read as the hub of Hugging Face reads it."""

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard, ModelCardData

from spam_mlflow.data.messages import Messages
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation import model_card
from spam_mlflow.scorer.classifier import Metadata
from spam_mlflow.tracking import run_logging

ENGLISH = ["see you at home", "call me now please", "is it free", "win the prize"]
RUSSIAN = ["привет как дела", "увидимся завтра дома", "вы выиграли приз", "спасибо большое"]
METRICS = {
    "test_f1": 0.96071,
    "test_mcc": 0.95,
    "test_recall_at_fpr_0_2pct": 0.9,
    "test_ham_fpr": 0.0065,
    "test_f1__a|b": 0.9,
    "fit_seconds": 4.2,
}


def card(name: str = "uci", source: str = "uci_sms", uri: str | None = "runs:/1/model") -> str:
    frame = pd.DataFrame(
        {"text": ["a", "b"], "label": ["ham", "spam"], "source": source, "group": [0, 1]}
    )
    split = Split(frame.assign(part=["train", "test"]), name="grouped", leaky=False, duplicates=0)
    metadata = Metadata(
        architecture="ngram_linear",
        threshold=0.5758,
        threshold_at_fpr_0_2pct=0.9,
        max_words=1,
        max_sequence=1,
        data_digest="d",
    )
    return model_card.write(metadata, Messages(frame, name), split, METRICS, "by a policy", uri)


def hub_data(text: str) -> ModelCardData:
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_hub_reads_the_header_and_the_metrics() -> None:
    data = hub_data(card())
    assert (data.license, data.language) == ("mit", ["en"])
    assert data.pipeline_tag == "text-classification"
    results = {result.metric_name: result for result in data.eval_results or ()}
    assert results["f1"].metric_value == 0.9607
    assert results["mcc"].metric_type == "matthews_correlation"
    assert results["f1"].dataset_name == "uci"
    assert data.metrics == ["f1", "matthews_correlation"]


def test_language_and_license_of_other_data_are_not_made_up() -> None:
    data = hub_data(card("csv"))
    assert data.language is None
    assert (data.license, data.license_name) == ("other", "not-stated")


@pytest.mark.parametrize("part", ["Use", "Training data", "Metrics", "Time and carbon", "Limits"])
def test_every_section_is_there(part: str) -> None:
    assert f"\n## {part}" in card()
    assert "Training took 4.2 s" in card()


def test_its_code_loads_the_model_of_its_own_run_whether_or_not_it_is_registered() -> None:
    assert 'load_model("runs:/1/model")' in card()
    untracked = card(uri=None)
    assert "mlflow.pyfunc" not in untracked
    assert 'Classifier.load(Path("keras"))' in untracked


def test_only_a_model_of_the_old_collections_is_said_to_be_of_old_messages() -> None:
    assert "years 2004 to 2014" in card()
    assert "2014" not in card("csv", "mine")


def test_the_bundled_set_is_english_and_under_the_project_s_license() -> None:
    data = hub_data(card("modern", "modern"))
    assert (data.license, data.language) == ("mit", ["en"])


def test_sources_that_are_only_tested_on_are_not_named_as_trained_on() -> None:
    frame = pd.DataFrame({"text": ENGLISH, "label": ["ham", "spam"] * 2})
    frame = frame.assign(source=["uci_sms"] * 2 + ["uci_youtube"] * 2, group=range(4))
    split = Split(
        frame.assign(part=["train", "validation", "test", "test"]), "cross_source", False, 0
    )
    metadata = Metadata("m", 0.5, 0.9, 0, None, "0")
    written = model_card.write(metadata, Messages(frame, "uci"), split, {}, "so", None)
    assert "Trained on: 2 messages of uci_sms." in written


def test_pages_of_mlflow_show_it_without_the_header_and_with_room_between_cells() -> None:
    shown = run_logging.for_page(card())
    assert shown.startswith("F1 0.9607, recall 0.9000 at 0.2 % ham FPR, ham FPR 0.0065, threshold")
    assert "| ham &nbsp; |" in " ".join(shown.split()).replace("ham  ", "ham ")
    assert run_logging.for_page("# A card of before\n\n---\n\ntext") == (
        "# A card of before\n\n---\n\ntext"
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(ENGLISH, ("Latin 100.0%", "mostly English")), (RUSSIAN, ("Cyrillic 100.0%", "mostly not"))],
    ids=["English", "Russian"],
)
def test_the_card_names_what_was_trained_on(texts: list[str], expected: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"text": texts * 5, "label": ["ham", "spam"] * 10, "source": "mine"})
    frame = frame.assign(group=np.arange(20), part=["train", "test"] * 10)
    split = Split(frame, "grouped", leaky=False, duplicates=0)
    written = model_card.write(
        Metadata("m", 0.5, 0.9, 0, None, "0"), Messages(frame, "csv"), split, {}, "so", None
    )
    assert "English only" not in written
    for text in expected:
        assert text in written
