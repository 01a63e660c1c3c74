import numpy as np

from spam_mlflow.evaluation import checklist


def test_behavioral_checks_find_what_they_look_for() -> None:
    def by_full_stop(texts: object) -> np.ndarray:
        return np.array([float(text.endswith(".")) for text in texts])  # type: ignore[attr-defined]

    found = dict(checklist.failure_rates(by_full_stop, 0.5, ["hello", "free prize."]))
    assert found["minimum: plain spam"] == 1.0
    assert found["minimum: plain ham"] == 0.0
    assert found["invariance: full stop at the end"] == 0.5
    assert found["invariance: soft hyphens"] == 0.0
    assert found["direction: +' Text WIN to 80086' is no less spam"] == 0.5
