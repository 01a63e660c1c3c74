"""The default model with data.extra: two experts and a gate, trained on the sample and modern."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.sources import modern
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.data.splitters import GroupedSplitter
from spam_mlflow.scorer import scorers
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.scorer.scorers import LinearScorer, sigmoid
from spam_mlflow.training.fit import Fit, fit

TEXTS = ["", "Ok, see you at 7", "WIN a £1000 prize now!!! call 09061701461", "\U0001f600"]


@pytest.fixture(scope="module")
def fitted() -> tuple[Fit, Fit]:
    """The same model without and with additional messages."""
    settings = validate("main", compose("main", ["data=sample", "train.epochs=3"]))
    splitter = GroupedSplitter(test=0.2, validation=0.15, jaccard=0.6, seed=0)
    without = splitter.split(SampleSource().load())
    extended = dataclasses.replace(without, extra=modern.training(["modern"]))
    alone, both = (
        fit(settings.model, split, settings.train, 0, "digest", lambda *_: None)
        for split in (without, extended)
    )
    return alone, both


def test_scorer_keras_and_explanations_agree(fitted: tuple[Fit, Fit], tmp_path: Path) -> None:
    both = fitted[1]
    texts = TEXTS + modern.held_out()["text"].tolist()[::10]
    scorers.export(both.classifier, both.linear_weights, tmp_path / "served")
    scorer = scorers.load(tmp_path / "served")
    scores = scorer.spam_probability(texts)
    np.testing.assert_allclose(scores, both.classifier.spam_probability(texts), atol=1e-5)
    logits = [sum(part["contribution"] for part in e) for e in scorer.explanations(texts)]
    np.testing.assert_allclose(sigmoid(np.array(logits)), scores, rtol=1e-6, atol=1e-12)
    (found,) = scorer.word_contributions(texts[:1])
    assert found.words.sum() + sum(found.others.values()) == pytest.approx(logits[0], abs=1e-5)
    assert both.linear_weights is not None
    unsaved = LinearScorer.of(both.classifier, both.linear_weights)
    assert unsaved.threshold == scorer.threshold
    assert unsaved.explanations(texts) == scorer.explanations(texts)
    both.classifier.save(tmp_path / "keras")
    loaded = Classifier.load(tmp_path / "keras").spam_probability(texts)
    np.testing.assert_allclose(loaded, scores, atol=1e-5)


def test_messages_of_templates_that_were_held_out_are_told_apart(fitted: tuple[Fit, Fit]) -> None:
    held_out = modern.held_out()
    spam = (held_out["label"] == "spam").to_numpy()
    rates = []
    for found in fitted:
        predicted = found.classifier.spam_probability(held_out["text"].tolist()) >= 0.5
        rates.append(predicted[spam].mean() - predicted[~spam].mean())
    assert rates[1] > max(0.6, rates[0] + 0.1)


def test_thresholds_and_held_out_scores_are_of_the_messages_alone(fitted: tuple[Fit, Fit]) -> None:
    alone, both = fitted
    assert len(both.held_out_scores) == len(alone.held_out_scores)
    np.testing.assert_array_equal(both.held_out_spam, alone.held_out_spam)


def test_learning_curves_have_an_entry_for_each_epoch(fitted: tuple[Fit, Fit]) -> None:
    for found in fitted:
        losses = [epoch["loss"] for epoch in found.epochs]
        assert len(losses) == 3
        assert losses[0] >= losses[-1]
        assert set(found.epochs[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
