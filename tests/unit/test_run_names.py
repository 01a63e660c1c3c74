"""Names of runs."""

import pytest

from spam_mlflow.config.compose import compose
from spam_mlflow.tracking import run_names


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], ""),
        (["data.extra=[]"], ", extra=[]"),
        (["data=sample"], ""),
        (["data=sample", "data.extra=[modern]"], ", extra=[modern]"),
        (["data=csv", "data.path=any.csv", "train.epochs=3"], ", epochs=3"),
        (["data=csv", "data.path=any.csv", "data.extra=[modern]"], ", extra=[modern]"),
        (["experiment=tutorial"], ""),
    ],
)
def test_a_name_says_what_differs_from_the_defaults_of_its_data(
    overrides: list[str], said: str
) -> None:
    assert run_names.differences(compose("main", overrides)) == said
