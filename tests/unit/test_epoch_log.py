"""Logging epochs to a store that is away for a while."""

import os

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from spam_mlflow.tracking.run_logging import EpochLog


def test_epochs_that_a_store_does_not_take_are_logged_with_later_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = [False, True, True, False, True]
    taken: list[tuple[int, dict[str, float]]] = []

    def log_metrics(values: dict[str, float], step: int) -> None:
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        if away[epoch]:
            raise MlflowException("away")
        taken.append((step, values))

    # A real store cannot be away for single epochs of a training without a server.
    monkeypatch.setattr(mlflow, "log_metrics", log_metrics)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    log = EpochLog()
    for epoch in range(5):
        log(epoch, {"loss": 1.0 / (epoch + 1)})
    assert taken == [(n, {"loss": 1.0 / n}) for n in (1, 2, 3, 4)]
    assert log.unlogged == [(5, {"loss": 0.2})]
    assert len(caplog.messages) == 2  # one line for each time that it went away
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
