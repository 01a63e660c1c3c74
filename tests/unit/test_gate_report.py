"""The report of a gate."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.scorers import FirstWord

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.gate import gate_report
from spam_mlflow.gate.check import Check, Compared, Holdout, Scored, Verdict
from spam_mlflow.registry.versions import Version
from spam_mlflow.scorer.classifier import Thresholds
from spam_mlflow.scorer.normalization import unescaped
from spam_mlflow.tracking.run_folder import REPORT_FILE

CHECKS = [Check("metric: f1", "1", ">= 0.9", "passed", "on the holdout")]


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    messages = SampleSource().load()
    settings = validate("promote", compose("promote", ["version=1", "data=sample"]))
    return Holdout(messages, settings.split.split(messages))


def version(number: str) -> Version:
    return Version(number, None, {}, {})


def test_messages_that_candidate_and_champion_label_differently_are_told(
    holdout: Holdout, tmp_path: Path
) -> None:
    """Each is judged at its own threshold."""
    right = np.where(holdout.spam, 0.8, 0.1)
    theirs = right.copy()
    theirs[[3, 5]] = 0.9 - right[[3, 5]]
    theirs[7] = 0.55
    ours = right.copy()
    ours[7] = 0.55
    compared = Compared(Scored(Thresholds(0.6, 0.9), ours), Scored(Thresholds(0.5, 0.9), theirs))
    gate_report.write(version("2"), version("1"), CHECKS, holdout, compared, {}, tmp_path)
    html = (tmp_path / REPORT_FILE).read_text()
    assert "3 messages that the runs label differently" in html
    table = html.partition("that the runs label differently")[2].partition("</table>")[0]
    assert table.count("<tr>") == 1 + 3
    first, last = table.split("<tr>")[2], table.split("<tr>")[4]
    assert "0.8000" in first  # the largest gap
    assert "0.1000" in first
    assert last.count("0.5500") == 2


@pytest.mark.parametrize("scorer", [None, FirstWord()])
@pytest.mark.parametrize("verdict", ["passed", "failed"])
def test_words_are_colored_and_neighbors_shown_where_the_model_and_its_split_are_known(
    holdout: Holdout, tmp_path: Path, scorer: FirstWord | None, verdict: Verdict
) -> None:
    scored = Scored(Thresholds(0.5, 0.9), np.where(holdout.spam, 0.8, 0.1))
    checks = [*CHECKS, Check("provenance: split.digest", "a", "a", verdict, "not trained on")]
    compared = Compared(scored, None, scorer)
    gate_report.write(version("2"), None, checks, holdout, compared, {}, tmp_path)
    html = (tmp_path / REPORT_FILE).read_text()
    legend = "for ham, by the scores of version 2." in html
    (data,) = re.findall(r'id="explorer-data">(.*?)</script>', html, re.S)
    explored = json.loads(data)
    assert legend == any(explored["words"].values()) == any(explored["features"].values())
    assert legend == (scorer is not None)
    neighbors = {text for near in explored["near"].values() for text, _, _ in near}
    frame = holdout.split.frame
    trained = set(frame.loc[frame["part"] != "test", "text"].map(unescaped))
    assert bool(neighbors) == (verdict == "passed")
    assert neighbors <= trained
