"""What the tags of a run say of its data."""

import pytest
from mlflow.entities import LifecycleStage, Run, RunData, RunInfo, RunTag

from spam_mlflow.evaluation import run_data
from spam_mlflow.tracking.run_logging import TRAINED_ON_TAG


def tagged(value: str) -> Run:
    info = RunInfo("0", "1", "u", "FINISHED", 0, 1, LifecycleStage.ACTIVE)
    return Run(info, RunData(tags=[RunTag(TRAINED_ON_TAG, value)]))


@pytest.mark.parametrize(
    ("value", "count"),
    [("150", 150), ("0", 0), ("", 0), ("some", 0), ("9" * 5000, 0), ("-3", 0)],
)
def test_a_tag_that_is_no_count_counts_as_unknown(value: str, count: int) -> None:
    assert run_data.trained_on(tagged(value)) == count
