import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from support.project import ROOT

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.data.splitters import GroupedSplitter, Split, TutorialSplitter
from spam_mlflow.errors import UserError
from spam_mlflow.scorer import batches, scorers
from spam_mlflow.scorer.classifier import METADATA_FILE, Classifier
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.scorer.scorers import KerasScorer, LinearScorer
from spam_mlflow.training.fit import Fit
from spam_mlflow.training.fit import fit as fit_model

TEXTS = ["", "Ok", "WIN a \xa31000 prize now!!! call 09061701461", "\U0001f600", "see you at 7"]
SMALL_LSTM = ("model=tutorial_lstm", "model.units=4", "model.embedding=4", "model.max_sequence=20")


@pytest.fixture(scope="module")
def split() -> Split:
    return GroupedSplitter(test=0.2, validation=0.15, jaccard=0.6, seed=0).split(
        SampleSource().load()
    )


def fit(split: Split, *overrides: str, seed: int = 0) -> Fit:
    settings = validate("main", compose("main", ["data=sample", *overrides]))
    return fit_model(settings.model, split, settings.train, seed, "digest", lambda *_: None)


def margins(fitted: Fit, texts: list[str]) -> np.ndarray:
    """The linear model's scores before calibration, shape (texts,)."""
    kernel, bias = fitted.classifier.network.get_layer("margin").get_weights()
    rows = fitted.classifier.vectorizer.transform(texts)
    return (rows @ kernel + bias)[:, 0]


MODELS = {
    "ngram_linear": ("model=ngram_linear",),
    "tutorial_lstm": SMALL_LSTM,
    "cnn": ("model=cnn",),
    "bilstm": ("model=bilstm", "model.units=4"),
}
RELOAD = """
import json, pathlib, sys
from spam_mlflow.scorer.classifier import Classifier
folder, texts = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
loaded = {saved.name: Classifier.load(saved) for saved in folder.iterdir()}
print(json.dumps({name: c.spam_probability(texts).tolist() for name, c in loaded.items()}))
"""


@pytest.fixture(scope="module")
def all_fitted(split: Split) -> dict[str, Fit]:
    return {name: fit(split, "train.epochs=2", *MODELS[name]) for name in MODELS}


@pytest.fixture(params=MODELS)
def fitted(request: pytest.FixtureRequest, all_fitted: dict[str, Fit]) -> Fit:
    return all_fitted[request.param]


def test_saved_classifiers_score_alike_in_a_new_process(
    all_fitted: dict[str, Fit], tmp_path: Path
) -> None:
    for name, fitted in all_fitted.items():
        fitted.classifier.save(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, str(tmp_path), json.dumps(TEXTS)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert set(found) == set(MODELS)
    for name, fitted in all_fitted.items():
        expected = fitted.classifier.spam_probability(TEXTS)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_the_scorer_agrees_with_keras_on_every_message(
    fitted: Fit, split: Split, tmp_path: Path
) -> None:
    scorers.export(fitted.classifier, fitted.linear_weights, tmp_path)
    scorer = scorers.load(tmp_path)
    assert isinstance(scorer, KerasScorer if fitted.linear_weights is None else LinearScorer)
    texts = split.part("test")["text"].tolist() + TEXTS
    expected = fitted.classifier.spam_probability(texts)
    np.testing.assert_allclose(scorer.spam_probability(texts), expected, atol=1e-5)
    assert scorer.threshold == fitted.classifier.metadata.threshold
    _, doubts = scorer.scores_and_doubts(
        ["call me when you are at home", "\u05e9\u05dc\u05d5\u05dd"]
    )
    assert doubts == [None, "the model was not trained on Hebrew script"]


def test_many_texts_are_scored_in_batches_as_few_are(all_fitted: dict[str, Fit]) -> None:
    classifier = all_fitted["ngram_linear"].classifier
    once = classifier.spam_probability(TEXTS)
    repeats = batches.TEXTS // len(TEXTS) + 1  # more than a batch
    many = classifier.spam_probability(TEXTS * repeats)
    np.testing.assert_allclose(many, np.tile(once, repeats), atol=1e-6)


def test_a_classifier_of_another_normalizer_is_refused(fitted: Fit, tmp_path: Path) -> None:
    fitted.classifier.save(tmp_path)
    file = tmp_path / METADATA_FILE
    file.write_text(file.read_text().replace('"normalizer_version": "', '"normalizer_version": "0'))
    with pytest.raises(UserError, match="has normalizer version 02, but this code reads 2"):
        Classifier.load(tmp_path)


def test_equal_seeds_give_equal_weights_and_others_do_not(split: Split) -> None:
    texts = split.part("test")["text"].tolist()
    first, again, other = (
        fit(split, "train.epochs=1", seed=seed).classifier.spam_probability(texts)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [(["model=ngram_linear"], ["train", "validation"]), (["model=cnn"], ["train"])],
)
def test_the_vocabulary_comes_from_the_parts_trained_on_alone(
    split: Split, overrides: list[str], parts: list[str]
) -> None:
    marked = split.frame.copy()
    held_out = ~marked["part"].isin(parts)
    marked.loc[held_out, "text"] += " zyzzyvaword"
    fitted = fit(Split(marked, "grouped", False, 0), "train.epochs=1", *overrides)
    assert "zyzzyva" not in json.dumps(fitted.classifier.vectorizer.to_dict())


def test_the_test_part_changes_nothing_in_training(split: Split) -> None:
    altered = split.frame.copy()
    test = altered["part"] == "test"
    altered.loc[test, "label"] = altered.loc[test, "label"].map({"ham": "spam", "spam": "ham"})
    texts = split.part("train")["text"].tolist()
    before = fit(split, "train.epochs=2").classifier
    after = fit(Split(altered, "grouped", False, 0), "train.epochs=2").classifier
    np.testing.assert_array_equal(before.spam_probability(texts), after.spam_probability(texts))
    assert before.metadata.threshold == after.metadata.threshold


def test_validation_scores_come_from_weights_that_never_saw_the_validation_labels(
    split: Split,
) -> None:
    flipped = split.frame.copy()
    validation = flipped["part"] == "validation"
    names = {"ham": "spam", "spam": "ham"}
    flipped.loc[validation, "label"] = flipped.loc[validation, "label"].map(names)
    before, after = (
        fit(part, "train.padded_fraction=0", "train.obfuscated_fraction=0")
        for part in (split, Split(flipped, "grouped", False, 0))
    )
    truth = is_spam(split.part("validation")["label"])
    # With labels turned round, calibration turns the scores round; the order stays what it was.
    order = abs(np.corrcoef(*(rankdata(f.validation_scores) for f in (before, after)))[0, 1])
    assert order > 0.99
    assert roc_auc_score(truth, before.validation_scores) > 0.95
    texts = split.part("validation")["text"].tolist()
    margin = [margins(f, texts) for f in (before, after)]
    assert roc_auc_score(truth, margin[0]) > 0.99
    assert roc_auc_score(truth, margin[1]) < 0.5  # the last head did learn from these rows


def test_a_cross_fitted_model_refuses_the_leaky_split() -> None:
    leaky = TutorialSplitter(test=0.33, seed=42).split(SampleSource().load())
    with pytest.raises(UserError, match="split=tutorial scores its validation part as test part"):
        fit(leaky, "train.epochs=1")


def test_training_stops_early_and_keeps_the_best_weights(split: Split) -> None:
    fitted = fit(split, "model=cnn", "train.epochs=30", "train.early_stopping=2")
    losses = [epoch["val_loss"] for epoch in fitted.epochs]
    assert len(losses) == np.argmin(losses) + 3 < 30


def test_a_diverging_loss_is_an_error_that_says_what_to_change(split: Split) -> None:
    with pytest.raises(UserError, match=r"loss became (nan|inf) in epoch \d.*train\.learning_rate"):
        fit(split, "model=cnn", "train.learning_rate=1e30")


def test_balanced_class_weights_raise_recall(split: Split) -> None:
    rare = split.frame[(split.frame["label"] == "ham") | (split.frame["part"] != "train")]
    some = split.frame[split.frame["label"] == "spam"].query("part == 'train'").iloc[::10]
    uneven = Split(pd.concat([rare, some], ignore_index=True), "grouped", False, 0)
    texts = [t for t, y in uneven.part("test")[["text", "label"]].to_numpy() if y == "spam"]
    scores = {}
    for weight in ("none", "balanced"):
        fitted = fit(uneven, f"train.class_weight={weight}", "model.cost=0.01")
        scores[weight] = float(np.mean(margins(fitted, texts)))
    assert scores["balanced"] > scores["none"]


@pytest.mark.parametrize("contradicting", [True, False])
def test_a_source_with_labels_of_another_meaning_is_told(contradicting: bool) -> None:
    messages = SampleSource().load()
    frame = messages.frame.sample(frac=1, random_state=0).reset_index(drop=True)
    other = frame.index % 3 == 0
    turned = frame["label"].map({"ham": "spam", "spam": "ham"})
    label = frame["label"].where(~(other & contradicting), turned)
    frame = frame.assign(source=np.where(other, "theirs", "ours"), label=label)
    split = GroupedSplitter(0.2, 0.15, 0.6, 0).split(dataclasses.replace(messages, frame=frame))
    fitted = fit(split)
    if contradicting:
        assert "costs F1 on the held-out messages of ours (by 0." in str(fitted.better_alone)
        assert ", theirs (by 0." in str(fitted.better_alone)
        assert fitted.tags["sources.better_alone"] == fitted.better_alone
    else:
        assert fitted.better_alone is None
