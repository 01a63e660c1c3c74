import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from mlflow import MlflowClient
from scipy import stats
from test_cli import require_one_line

from spam_mlflow import comparison, significance
from spam_mlflow.comparison import Scored
from spam_mlflow.errors import UserError

MARKUP = "<script>alert('win')</script> & call now"


def predictions(right: int, seed: int, messages: int = 200) -> pd.DataFrame:
    """Return a run's predictions: the same messages every time, `right` of 100 spam found."""
    label = np.where(np.arange(messages) % 2 == 0, "spam", "ham")
    found = np.isin(np.arange(messages), 2 * np.random.default_rng(seed).permutation(100)[:right])
    texts = [f"message {number} of some length" for number in range(messages)]
    return pd.DataFrame(
        {
            "text": [MARKUP, *texts[1:]],
            "label": label,
            "source": "own",
            "group": np.arange(messages) // 4,
            "spam_probability": np.where(found, 0.9, 0.1),
            "predicted": np.where(found, "spam", "ham"),
        }
    )


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
        **metrics: float,
    ) -> None:
        run_id = self.client.create_run(self.experiment, run_name=name).info.run_id
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
    store.add("elsewhere", predictions(90, 0, messages=240), test_f1=0.95)
    store.add("not a number", predictions(95, 0), test_f1=math.nan)
    store.add("failed", status="FAILED")
    store.add("running", status="RUNNING", loss=0.5)
    store.add("foreign", pd.DataFrame({"x": [1]}), test_f1=0.5)
    return store


def test_runs_are_listed_the_best_first_and_the_odd_ones_last(
    project: Project, store: Store
) -> None:
    done = project.run("compare", "columns=[test_f1,loss]")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:11]]
    assert [row[3] for row in rows[:6]] == ["twin", "twin", "good", "elsewhere", "bad", "foreign"]
    assert {row[3]: row[2:] for row in rows[6:]} == {
        "not a number": ["finished", "not a number", "nan", "-"],
        "failed": ["failed", "failed", "-", "-"],
        "running": ["running", "running", "-", "0.5"],
    }
    assert rows[4][0] == store.ids["bad"][:8]
    assert lines[-1] == "9 of 9 runs, by test_f1"


def test_the_list_can_be_filtered_sorted_and_cut(project: Project, store: Store) -> None:
    chosen = ("filter='metrics.test_f1 > 0.6'", "sort=test_mcc", "limit=1")
    done = project.run("compare", *chosen, "columns=[test_mcc]")
    assert done.stdout.splitlines()[2].startswith(f"| {store.ids['good'][:8]} |")
    assert done.stdout.splitlines()[-1] == "1 of 5 runs, by test_mcc"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("filter='test_f1 >'",), "filter='test_f1 >': "),
        (("experiment_name=nothing",), "experiment_name='nothing' does not exist; existing: "),
        (("runs=[nobody]",), "runs: 'nobody' fits no run of the experiment"),
        (("runs=[twin]",), "runs: 'twin' fits several runs ("),
        (("runs=[failed,running]",), "none of the runs can be compared"),
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
    runs = [store.ids[name] for name in ("good", "bad", "elsewhere", "failed", "foreign")]
    done = project.run("compare", f"runs=[{','.join(runs)}]", f"output_dir={folder}")
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, folder


def test_figures_have_intervals_and_differences_a_verdict(report: tuple[str, str, Path]) -> None:
    printed, _, _ = report
    assert "| good | 0.9744 (" in printed
    assert "| bad  | 0.7500 (" in printed or "| bad | 0.7500 (" in printed
    (f1,) = [line for line in printed.splitlines() if "| F1 " in line and "bad" in line[:20]]
    assert "-0.2244" in f1
    assert "smaller" in f1
    (fpr,) = [line for line in printed.splitlines() if "| ham FPR " in line and "bad" in line[:20]]
    assert "not told apart" in fpr


def test_runs_of_other_messages_are_refused(report: tuple[str, str, Path]) -> None:
    printed, _, _ = report
    refused = [line for line in printed.splitlines() if line.startswith("Refused: ")]
    assert len(refused) == 1
    assert "elsewhere and good were scored on different messages (digests " in refused[0]


def test_runs_without_predictions_are_left_out_and_said_why(report: tuple[str, str, Path]) -> None:
    _, warned, folder = report
    assert "Left out: failed is failed and has no predictions.csv" in warned
    assert "Left out: foreign: its predictions.csv lacks text, label" in warned
    assert "failed is failed and has no predictions.csv" in (folder / "report.html").read_text()


def test_the_report_shows_curves_slices_and_disagreements(report: tuple[str, str, Path]) -> None:
    _, _, folder = report
    html = (folder / "report.html").read_text()
    assert html.count('src="data:image/png;base64,') == 4  # two curves for each holdout
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#39;win&#39;)&lt;/script&gt; &amp; call now" in html
    disagreed = int((predictions(95, 0)["predicted"] != predictions(60, 1)["predicted"]).sum())
    assert f"{disagreed} messages that the runs label differently" in html
    assert "train.epochs" in html
    assert "http" not in html.replace("http-equiv", "")  # needs nothing from elsewhere
    names = {file.name for file in (folder / "figures").iterdir()}
    curves = ("precision_and_recall", "calibration")
    assert names == {f"{curve}_{holdout}.png" for curve in curves for holdout in (1, 2)}


def test_the_report_is_logged_to_a_run_of_its_own(
    project: Project, store: Store, report: tuple[str, str, Path]
) -> None:
    run = project.last_run()
    assert run.data.tags["kind"] == "comparison"
    assert run.data.tags["compared"].split(", ")[0] == store.ids["good"]
    assert run.info.run_name == "Comparison of 3 runs"
    html = project.client.download_artifacts(run.info.run_id, "report.html")
    assert Path(html).read_text() == (report[2] / "report.html").read_text()


# The figures behind it


def scored(name: str, table: pd.DataFrame) -> Scored:
    return Scored(name, None, table)  # type: ignore[arg-type]


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
    value, low, high = one.intervals[list(comparison.FIGURES).index("recall")]
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
    f1 = list(comparison.FIGURES).index("F1")
    _, low, high = scored("a", copied).intervals[f1]
    _, low_alone, high_alone = scored("a", copied.assign(group=np.arange(2000))).intervals[f1]
    assert high - low > 2 * (high_alone - low_alone)


def test_a_figure_that_is_not_defined_has_no_interval() -> None:
    nothing = predictions(0, 0)  # nothing is called spam
    counts = significance.resampled(
        nothing["group"].to_numpy(), (nothing["label"] == "spam").to_numpy(), np.zeros(200, bool)
    )[0]
    assert np.isnan(significance.interval(significance.precision, counts)).all()
    assert "not defined" in comparison.shown_intervals(scored("a", nothing))
