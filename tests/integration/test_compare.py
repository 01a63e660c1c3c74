import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from support.predictions import predictions
from support.project import Project, Trained, require_one_line

from spam_mlflow.tracking import run_metrics

OWN = {
    "data.name": "own",
    "data.digest": "0123456789abcdef",
    "split.name": "grouped",
    "split.digest": "89abcdef01234567",
}
OTHER = {**OWN, "data.digest": "fedcba9876543210"}
ALL = {"data.name": "own", "data.digest": OWN["data.digest"], "evaluation.part": "all"}


class Store:
    """Runs as other commands leave them, without their trainings."""

    def __init__(self, project: Project) -> None:
        self.client: MlflowClient = project.client
        self.experiment = self.client.create_experiment(
            "spam-classifier", str(project.folder / "artifacts")
        )
        self.folder = project.folder
        self.ids: dict[str, str] = {}

    def add(
        self,
        name: str,
        table: pd.DataFrame | None = None,
        status: str = "FINISHED",
        key: str | None = None,
        tags: Mapping[str, str] = OWN,
        **metrics: float,
    ) -> None:
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        run_id = run.info.run_id
        self.ids[key or name] = run_id
        for metric, value in metrics.items():
            self.client.log_metric(run_id, metric, value)
        self.client.log_param(run_id, "train.epochs", str(len(self.ids)))
        if table is not None:
            table.to_csv(self.folder / "predictions.csv", index=False)
            self.client.log_artifact(run_id, str(self.folder / "predictions.csv"))
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="module")
def store(project: Project) -> Store:
    store = Store(project)
    store.add("good", predictions(95, 0), test_f1=0.97, test_mcc=0.9)
    store.add("bad", predictions(60, 1), test_f1=0.75)
    store.add("twin", predictions(95, 2), test_f1=0.97, key="twin 1")
    store.add("twin", predictions(95, 3), test_f1=0.971, key="twin 2")
    store.add("elsewhere", predictions(90, 0, messages=240), tags=OTHER, test_f1=0.95)
    store.add("not a number", predictions(95, 0), test_f1=math.nan)
    store.add("failed", status="FAILED", tags={})
    store.add("running", status="RUNNING", loss=0.5)
    store.add("foreign", pd.DataFrame({"x": [1]}), tags={}, test_f1=0.5)
    known = {**ALL, "evaluation.trained_on": "150"}
    store.add("known", predictions(100, 0), tags=known, seen_f1=1.0)
    store.add("trial 0", tags={"mlflow.parentRunId": store.ids["elsewhere"]}, val_f1=0.5)
    return store


def listed(project: Project, *arguments: str) -> list[dict[str, Any]]:
    """Return the runs that `compare --json` lists."""
    done = project.run("compare", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    return runs


def test_runs_are_listed_the_best_first_and_the_odd_ones_last(
    project: Project, store: Store
) -> None:
    rows = listed(project, "columns=[test_f1,loss]")
    own = [row for row in rows if row["data"].startswith("own (digest 01234567), split")]
    assert [row["name"] for row in own[:4]] == ["twin", "twin", "good", "bad"]
    assert {row["name"]: (row["status"], row["metrics"]) for row in own[4:]} == {
        "not a number": ("finished", {"test_f1": None, "loss": None}),
        "running": ("running", {"test_f1": None, "loss": 0.5}),
    }
    assert own[3]["run_id"] == store.ids["bad"]


def test_the_table_of_runs_fits_a_terminal(project: Project, store: Store) -> None:
    done = project.run("compare")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert max(map(len, rows)) <= 80
    assert any(line.startswith(f"| {store.ids['bad'][:8]} ") for line in rows)
    assert any(line.startswith("| not a number") for line in rows)
    assert " failed" in done.stdout
    assert "| nan" in done.stdout


def test_runs_on_other_data_are_in_a_table_of_their_own(project: Project, store: Store) -> None:
    found: dict[str, list[str]] = {}
    for row in listed(project):
        found.setdefault(row["data"], []).append(row["name"])
    assert list(found) == [
        "own (digest 01234567), split grouped (digest 89abcdef)",
        "own (digest fedcba98), split grouped (digest 89abcdef)",
        "data not recorded",
        "own (digest 01234567), part all, with messages that the model was trained on",
    ]
    assert list(found.values())[1:] == [["elsewhere", "trial 0"], ["foreign", "failed"], ["known"]]
    done = project.run("compare")
    assert [line for line in done.stdout.splitlines() if line in found] == list(found)
    assert done.stdout.splitlines()[-1] == (
        "11 of 11 runs, by test_f1; metrics in different tables are of different messages, and "
        "cannot be compared"
    )


def test_metrics_of_sources_are_read_from_the_runs_tables(
    project: Project, store: Store, tmp_path: Path
) -> None:
    run_metrics.write({"test_f1": 0.97, "test_f1__a b": 0.25}, tmp_path)
    store.client.log_artifact(store.ids["good"], str(tmp_path / "metrics.csv"))
    store.client.log_metric(store.ids["bad"], "test_f1__a b", 0.125)  # as earlier runs have it
    rows = listed(project, "sort='test_f1__a b'", "columns=[test_f1,'test_f1__a b']", "limit=2")
    assert [row["name"] for row in rows] == ["good", "bad"]
    assert [row["metrics"]["test_f1__a b"] for row in rows] == [0.25, 0.125]


def test_the_list_can_be_filtered_sorted_and_cut(project: Project, store: Store) -> None:
    chosen = ("filter='metrics.test_f1 > 0.6'", "sort=test_mcc", "limit=1", "columns=[test_mcc]")
    assert [row["run_id"] for row in listed(project, *chosen)] == [store.ids["good"]]
    done = project.run("compare", *chosen)
    assert done.stdout.splitlines()[-1] == "1 of 5 runs, by test_mcc"


def test_what_is_sorted_by_has_a_column_and_the_lowest_comes_first_where_it_is_best(
    project: Project, store: Store, tmp_path: Path
) -> None:
    for name, value in (("good", 0.02), ("bad", 0.2)):
        run_metrics.write({"test_ece": value}, tmp_path)
        store.client.log_artifact(store.ids[name], str(tmp_path / "metrics.csv"))
    rows = listed(project, "sort=test_ece", "columns=[test_f1]", "limit=2")
    assert [row["name"] for row in rows] == ["good", "bad"]
    assert [row["metrics"]["test_ece"] for row in rows] == [0.02, 0.2]
    done = project.run("compare", "sort=test_ece", "limit=2")
    assert done.stdout.splitlines()[-1] == "2 of 11 runs, by test_ece, the lowest first"
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert any(re.search(r"\| test_ece +\|$", line) for line in table), table
    assert any(re.search(r"^\| [0-9a-f]{8} .*\| +0\.02 +\|$", line) for line in table), table
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("filter='test_f1 >'",), "filter='test_f1 >': "),
        (("experiment_name=nothing",), "experiment_name='nothing' does not exist; existing: "),
        (("runs=[nobody]",), "runs: 'nobody' fits no run of the experiment"),
        (("runs=[twin]",), "runs: 'twin' fits several runs ("),
        (("runs=[failed,running]",), "none of the runs can be compared"),
        (("sort=test_f2",), "sort='test_f2' is a metric of no run; did you mean test_f1"),
        (("sort=unheard",), "metrics of these runs: loss, seen_f1, test_f1, test_mcc, val_f1"),
        (("columns=[test_f1,tset_mcc]",), "columns='tset_mcc' is a metric of no run; did you mean"),
        (("limit=0",), "limit=0: Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_compared_is_said(
    project: Project, store: Store, arguments: tuple[str, ...], message: str
) -> None:
    require_one_line(project.run("compare", *arguments), message)


@pytest.fixture(scope="module")
def report(project: Project, store: Store) -> tuple[str, str, Path]:
    """What is printed and warned of, and the folder, of a report on good, bad and odd runs."""
    folder = project.folder / "report"
    names = ("good", "bad", "known", "elsewhere", "failed", "foreign")
    runs = [store.ids[name] for name in names]
    done = project.run("compare", f"runs=[{','.join(runs)}]", f"output_dir={folder}")
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, folder


def test_metrics_have_intervals_and_differences_a_verdict(report: tuple[str, str, Path]) -> None:
    printed, _, _ = report
    assert re.search(r"^\| good +\| F1 +\| 0\.9744 +\|", printed, re.MULTILINE)
    assert re.search(r"^\| bad +\| F1 +\| 0\.7500 +\|", printed, re.MULTILINE)
    row = r"^\| bad +\| %s .*\n\| minus good +\| +\| %s +\|$"
    (f1,) = re.finditer(row % ("F1", "smaller"), printed, re.MULTILINE)
    assert "-0.2244 (" in f1[0]
    assert re.search(row % ("ham FPR", "no significant difference"), printed, re.MULTILINE)
    assert max(len(line) for line in printed.splitlines() if line.startswith("|")) <= 80


def test_a_report_is_also_data(project: Project, store: Store) -> None:
    runs = f"runs=[{store.ids['good']},{store.ids['bad']},{store.ids['failed']}]"
    done = project.run("compare", runs, "log=false", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (same,) = told["holdouts"]
    assert [run["name"] for run in same["runs"]] == ["good", "bad"]
    assert same["runs"][1]["metrics"]["F1"]["value"] == 0.75
    verdicts = {d["metric"]: d["verdict"] for d in told["differences"]}
    assert verdicts == {"F1": "smaller", "ham FPR": "no significant difference"}
    assert list(told["left_out"]) == [store.ids["failed"]]


def test_runs_of_other_messages_are_refused(report: tuple[str, str, Path]) -> None:
    printed, _, _ = report
    refused = [line for line in printed.splitlines() if line.startswith("Refused: ")]
    assert len(refused) == 2
    assert "elsewhere and good were scored on different messages (own (digest fed" in refused[0]


def test_a_model_that_knows_the_messages_is_not_compared(report: tuple[str, str, Path]) -> None:
    printed, _, folder = report
    refused = [line for line in printed.splitlines() if line.startswith("Refused: ")]
    reason = "the model of known was trained on 150 of the 200 messages"
    assert reason in refused[1]
    assert reason in (folder / "report.html").read_text()
    differences = printed.partition("difference, 95 %")[2]
    assert re.search(r"^\| bad +\| F1 ", differences, re.MULTILINE)
    assert not re.search(r"^\| known ", differences, re.MULTILINE)


def test_runs_without_predictions_are_left_out_and_said_why(report: tuple[str, str, Path]) -> None:
    _, warned, folder = report
    assert "Left out: failed is failed and has no predictions.csv" in warned
    assert "Left out: foreign: its predictions.csv lacks text, label" in warned
    assert "failed is failed and has no predictions.csv" in (folder / "report.html").read_text()


def test_the_report_shows_curves_slices_and_disagreements(report: tuple[str, str, Path]) -> None:
    _, _, folder = report
    html = (folder / "report.html").read_text()
    assert html.count('src="data:image/png;base64,') == 4  # two curves for each holdout
    assert "&lt;script&gt;alert(&#39;win&#39;)&lt;/script&gt; &amp; call now" in html
    labels = [predictions(*arguments)["predicted"] for arguments in ((95, 0), (60, 1), (100, 0))]
    disagreed = int((pd.concat(labels, axis=1).nunique(axis=1) > 1).sum())
    assert f"{disagreed} messages that the runs label differently" in html
    assert "train.epochs" in html
    assert not re.search(r"(src|href)=.?https?:", html)  # needs nothing from elsewhere
    names = {file.name for file in (folder / "figures").iterdir()}
    curves = ("precision_and_recall", "calibration")
    assert names == {f"{curve}_{holdout}.png" for curve in curves for holdout in (1, 2)}


def test_words_are_colored_where_the_model_can_be_read(
    trained: Trained, report: tuple[str, str, Path], tmp_path: Path
) -> None:
    runs = f"runs=[{trained.run.info.run_id}]"
    done = trained.project.run("compare", runs, "log=false", f"output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert 'id="legend"' in (tmp_path / "report.html").read_text()
    _, said, folder = report
    assert "The report colors no words: model_uri='runs:/" in said
    assert 'id="legend"' not in (folder / "report.html").read_text()


def test_the_report_is_logged_to_a_run_of_its_own(
    project: Project, store: Store, report: tuple[str, str, Path]
) -> None:
    run = project.last_run()
    assert run.data.tags["kind"] == "comparison"
    assert run.data.tags["compared"].split(", ")[0] == store.ids["good"]
    assert run.info.run_name == "Comparison of 4 runs"
    html = project.client.download_artifacts(run.info.run_id, "report.html")
    assert Path(html).read_text() == (report[2] / "report.html").read_text()
