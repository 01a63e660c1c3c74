"""Which metrics are in a run, and which in its table."""

from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run, RunData, RunInfo, RunTag

from spam_mlflow.tracking import run_metrics

METRICS = {
    "test_f1": 0.1 + 0.2,
    "test_recall_at_fpr_0_2pct": 0.5,
    "test_ece": 0.01,
    "test_f1__uci_sms": 0.9,
    "test_f1__H&M (DE)": 0.8,
    "val_f1__+cmd": 0.7,
    "seen_f1_best": 0.6,
    "held_out_ham_fpr": 0.005,
    "val_loss": 0.1,
    "fit_seconds": 3.0,
}


def run(tags: dict[str, str], metrics: dict[str, float]) -> Run:
    info = RunInfo("id", "1", "me", "FINISHED", 0, 0, "active")
    data = RunData(tags=[RunTag(name, value) for name, value in tags.items()])
    data.metrics.update(metrics)
    return Run(info, data)


def test_metrics_of_sources_of_calibration_and_of_hindsight_have_no_chart() -> None:
    charted = {"test_f1", "test_recall_at_fpr_0_2pct", "val_loss", "fit_seconds"}
    assert set(run_metrics.charted(METRICS)) == charted
    details = run_metrics.details(METRICS)
    assert len(details) == len(METRICS) - len(charted)
    assert "test_f1__uci_sms" in details
    assert "test_f1__H&M (DE)" not in details  # MLflow does not take such a name


@pytest.mark.parametrize("safe", [False, True])
def test_the_table_has_every_metric_to_the_last_digit(
    safe: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_metrics.write(METRICS, tmp_path, safe)
    monkeypatch.setattr(
        mlflow.artifacts, "download_artifacts", lambda **_: str(tmp_path / "metrics.csv")
    )
    logged = run({"safe_csv": "True"} if safe else {}, {"test_f1": METRICS["test_f1"]})
    read = run_metrics.read(logged, tmp_path)
    names = {"test_f1", "val_loss", "test_f1__uci_sms", "held_out_ham_fpr", "seen_f1_best"}
    assert {name: read[name] for name in names} == {name: METRICS[name] for name in names}
    assert len(read) == len(METRICS)


def test_a_run_without_a_table_has_its_own_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**_: object) -> str:
        raise OSError

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", missing)
    earlier = {"test_f1": 0.9, "test_f1__uci_sms": 0.8}
    assert run_metrics.read(run({}, earlier), tmp_path) == earlier
