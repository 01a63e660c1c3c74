import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag
from scipy import stats
from support.predictions import predictions

from spam_mlflow.errors import UserError
from spam_mlflow.evaluation import bootstrap, comparison, report
from spam_mlflow.evaluation.comparison import Scored


def scored(name: str, table: pd.DataFrame, **tags: str) -> Scored:
    info = RunInfo(name, "0", "me", "FINISHED", 0, 0, "active")
    of_run = [RunTag(key.replace("_", "."), value) for key, value in tags.items()]
    return Scored(name, Run(info, RunData(tags=of_run)), table)


def test_other_holdouts_have_no_difference() -> None:
    ours, theirs = scored("a", predictions(95, 0)), scored("b", predictions(95, 0, messages=202))
    with pytest.raises(UserError, match="a and b were scored on different messages"):
        comparison.difference(ours, theirs, "F1")


def test_the_order_of_messages_and_their_labels_are_part_of_a_holdout() -> None:
    table = predictions(95, 0)
    other = table.assign(label=table["label"].where(table.index > 0, "ham"))
    digests = {scored("x", t).digest for t in (table, other, table[::-1], table.copy())}
    assert len(digests) == 3


def test_an_interval_is_the_percentile_bootstraps() -> None:
    table = predictions(60, 1).assign(group=np.arange(200))
    one = scored("a", table)
    value, low, high = one.intervals[list(comparison.METRICS).index("recall")]
    spam = np.isin(table["predicted"][one.spam], "spam").astype(float)
    expected = stats.bootstrap(
        (spam,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert value == pytest.approx(0.6)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_copies_of_a_message_widen_the_interval() -> None:
    """Ten copies of a message are not ten messages."""
    table = predictions(60, 1)
    copied = pd.concat([table.assign(group=np.arange(200))] * 10, ignore_index=True)
    f1 = list(comparison.METRICS).index("F1")
    _, low, high = scored("a", copied).intervals[f1]
    _, low_alone, high_alone = scored("a", copied.assign(group=np.arange(2000))).intervals[f1]
    assert high - low > 2 * (high_alone - low_alone)


def test_a_metric_that_is_not_defined_has_no_interval() -> None:
    nothing = predictions(0, 0)  # nothing is predicted spam
    counts = bootstrap.resampled(
        nothing["group"].to_numpy(), (nothing["label"] == "spam").to_numpy(), np.zeros(200, bool)
    )[0]
    assert np.isnan(bootstrap.interval(bootstrap.precision, counts)).all()
    assert "not defined" in [
        v for v, _ in map(comparison.formatted_interval, scored("a", nothing).intervals)
    ]


def test_the_threshold_is_that_of_the_run_and_said_to_be_estimated_where_it_has_none() -> None:
    """Scores are 0.1 and 0.9, so that any threshold between them gives the same labels."""
    exact = report.model_scores(
        scored("a", predictions(95, 0), threshold_value="0.7071067811865476")
    )
    assert (exact.threshold, exact.estimated) == (0.7071067811865476, False)
    for tags in ({}, {"threshold_value": "nan"}, {"threshold_value": "high"}):
        found = report.model_scores(scored("a", predictions(95, 0), **tags))
        assert (found.threshold, found.estimated) == (0.5, True)


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        *((name, True) for name in ("test_ham_fpr", "test_ham_fpr__uci_sms", "val_ece", "loss")),
        *((name, True) for name in ("test_brier", "val_loss", "fit_seconds", "held_out_ham_fpr")),
        *((name, False) for name in ("test_f1", "test_recall_at_fpr_0_2pct", "test_f1__loss")),
        *((name, False) for name in ("train_messages_per_second", "test_pr_auc", "val_accuracy")),
    ],
)
def test_the_best_run_comes_first_whether_high_or_low_values_are_good(
    metric: str, lower: bool
) -> None:
    values = {"middle": 0.5, "low": 0.1, "odd": np.nan, "high": 0.9}
    runs = [
        Run(
            RunInfo(name, "0", "me", "FINISHED", 0, 0, "active"),
            RunData(metrics=[Metric(metric, value, 0, 0)]),
        )
        for name, value in values.items()
    ]
    names = [run.info.run_id for run in comparison.ranked(runs, metric)]
    assert names == [*(("low", "middle", "high") if lower else ("high", "middle", "low")), "odd"]


def test_messages_that_are_labeled_differently_come_by_their_gap_in_scores() -> None:
    ours, theirs = np.array([0.9, 0.2, 0.6, 0.9]), np.array([0.8, 0.9, 0.4, 0.1])
    rows = comparison.disagreements([ours >= 0.5, theirs >= 0.5], [ours, theirs])
    assert rows.tolist() == [3, 1, 2]
    assert comparison.disagreements([ours >= 0.5] * 2, [ours, ours]).size == 0
