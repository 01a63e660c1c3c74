import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from spam_mlflow.evaluation import metrics
from spam_mlflow.evaluation.metrics import expected_calibration_error
from spam_mlflow.scorer.classifier import Thresholds


def frame(labels: str, sources: str | None = None) -> pd.DataFrame:
    names = {"h": "ham", "s": "spam"}
    label = [names[letter] for letter in labels]
    text = [f"text {i}" for i in range(len(labels))]
    return pd.DataFrame({"text": text, "label": label, "source": list(sources or "a" * len(text))})


def test_metrics_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    spam = rng.random(500) < 0.3
    scores = np.clip(spam * 0.4 + rng.random(500) * 0.6, 0, 1)
    table = frame("".join("s" if s else "h" for s in spam))
    found = metrics.compute(table, scores, Thresholds(0.5, 0.6), "test")
    predicted = scores >= 0.5
    expected = {
        "accuracy": sk.accuracy_score(spam, predicted),
        "precision": sk.precision_score(spam, predicted),
        "recall": sk.recall_score(spam, predicted),
        "f1": sk.f1_score(spam, predicted),
        "mcc": sk.matthews_corrcoef(spam, predicted),
        "pr_auc": sk.average_precision_score(spam, scores),
        "roc_auc": sk.roc_auc_score(spam, scores),
        "f1_best": max(sk.f1_score(spam, scores >= score) for score in scores),
        "brier": sk.brier_score_loss(spam, scores),
        "ham_fpr": 1 - sk.recall_score(~spam, ~predicted),
        "recall_at_fpr_0_2pct": sk.recall_score(spam, scores >= 0.6),
    }
    for name, value in expected.items():
        assert found[f"test_{name}"] == pytest.approx(value)


def test_metrics_are_reported_per_source() -> None:
    found = metrics.compute(
        frame("hshs", "aabb"), np.array([0.1, 0.9, 0.9, 0.1]), Thresholds(0.5, 0.5), "val"
    )
    assert found["val_accuracy"] == 0.5
    assert found["val_accuracy__a"] == 1
    assert found["val_accuracy__b"] == 0


def test_metrics_that_are_not_defined_are_left_out() -> None:
    found = metrics.compute(frame("hs", "ab"), np.array([0.1, 0.9]), Thresholds(0.5, 0.5), "test")
    assert "test_roc_auc" in found
    assert "test_roc_auc__a" not in found
    assert "test_ham_fpr__b" not in found
    assert all(np.isfinite(value) for value in found.values())


def test_calibration_error_of_known_cases() -> None:
    spam = np.array([0, 1] * 50)
    assert expected_calibration_error(spam, np.full(100, 0.5)) == pytest.approx(0)
    assert expected_calibration_error(spam, np.full(100, 0.8)) == pytest.approx(0.3)
    assert expected_calibration_error(spam, np.full(100, 1.0)) == pytest.approx(0.5)


def test_misclassified_messages_are_sorted_by_confidence() -> None:
    scores = np.array([0.6, 0.95, 0.2, 0.9])
    report = metrics.report(frame("hhss"), scores, Thresholds(0.5, 0.5), "test")
    table = metrics.misclassified(report)
    assert table["text"].tolist() == ["text 1", "text 2", "text 0"]
    assert table["predicted"].tolist() == ["spam", "ham", "spam"]
