"""Names of sources in the names of metrics and parameters."""

import pytest
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from spam_mlflow.tracking.source_names import in_names, metric_name


@pytest.mark.parametrize(
    "source",
    ["H&M (DE)", "a|b", "a/../b", "a//b", "/", "..", "", "x" * 300, "größer 大", "a:b", "%s", "\n"],
)
def test_mlflow_takes_the_name_of_any_source(source: str) -> None:
    _validate_metric_name(metric_name(f"test_recall_at_fpr_0_2pct__{source}"))
    _validate_param_name(f"rows.validation.{in_names(source)}.spam")


def test_usual_names_stay_and_others_stay_different() -> None:
    assert metric_name("test_f1__uci_sms") == "test_f1__uci_sms"
    assert metric_name("test_f1") == "test_f1"
    assert in_names("a|b").startswith("a_b-")
    assert len({in_names(source) for source in ("a|b", "a&b", "a_b", "a b")}) == 4
