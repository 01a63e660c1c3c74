import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.project import ROOT

NAMES = sorted(
    file.stem
    for file in (ROOT / "scripts").glob("[a-z]*.py")
    if "__main__" in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", NAMES)
def test_the_scripts_explain_themselves(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_benchmarks_read_the_files_of_uci(uci_dir: Path) -> None:
    from scripts import bench_quality

    assert set(bench_quality.load(str(uci_dir))["source"]) == {"uci_sms", "uci_youtube"}


def test_what_a_power_failure_costs_is_what_only_the_log_has(tmp_path: Path) -> None:
    from scripts import bench_store

    found = bench_store.measure(tmp_path, "normal", 2, 100)
    assert 100 <= (found.at_risk or 0) <= 200  # no checkpoint comes before some 200
    (tmp_path / "full").mkdir()
    assert bench_store.measure(tmp_path / "full", "full", 2, 20).at_risk is None


def test_the_benchmark_keeps_groups_and_the_test_part_whole() -> None:
    from scripts.bench_thresholds import with_rows
    from spam_mlflow.data.splitters import Split

    frame = pd.DataFrame({"group": np.arange(900) // 3, "label": "ham", "source": "a"})
    frame["label"] = np.where(frame["group"] % 2, "spam", "ham")
    frame["part"] = np.where(frame["group"] % 5 == 0, "test", "train")
    few = with_rows(Split(frame, "fold 0", leaky=False, duplicates=0), 100).frame
    assert (few["part"] == "test").sum() == 180
    assert 80 <= (few["part"] == "train").sum() <= 120
    assert set(few.groupby("group").size()) == {3}
