import numpy as np
import pytest

from spam_mlflow.evaluation import bootstrap


def test_the_paired_bootstrap_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    spam = rng.random(300) < 0.3
    ours, theirs = spam ^ (rng.random(300) < 0.05), spam ^ (rng.random(300) < 0.15)
    groups = rng.integers(0, 200, 300)

    def f1(rows: np.ndarray, predicted: np.ndarray) -> float:
        hits = (predicted[rows] & spam[rows]).sum()
        return 2 * hits / (predicted[rows].sum() + spam[rows].sum())

    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = []
    for _ in range(3000):
        rows = np.concatenate([members[at] for at in rng.choice(len(members), len(members))])
        drawn.append(f1(rows, ours) - f1(rows, theirs))
    everything = np.arange(300)
    found = bootstrap.paired_difference(bootstrap.f1, groups, spam, ours, theirs)
    assert found[0] == pytest.approx(f1(everything, ours) - f1(everything, theirs))
    np.testing.assert_allclose(found[1:], np.percentile(drawn, [2.5, 97.5]), atol=0.01)
