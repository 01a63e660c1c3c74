"""Where runs and versions are seen in MLflow's UI, and the view of an experiment's runs."""

import json
import os
import shlex
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.utils.uri import is_databricks_uri

from spam_mlflow.config import commands
from spam_mlflow.config.masking import masked_address

_VIEW = "spam"
"""Name of the view, which links end with."""

_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"
_NOTE_TAG = "mlflow.note.content"
_NOTE = """Spam classifiers for short texts: a run for each training (`main`), evaluation, \
comparison and sweep, trials nested in their sweep.

- Look first at `test_f1`, `test_recall_at_fpr_0_2pct` (recall where 0.2 % of ham is lost) and \
`test_ham_fpr`. Only runs with the same `data.digest` and `split.digest` can be compared.
- The {view} has these columns and charts.
- Versions are registered as {registered}; those that passed the gate may be `champion`.
- A run's `report.html` has its verdict, its errors and a threshold to move; `metrics.csv` has the \
metrics of every source.
- Names ending in "(failed)" are of runs that failed; their tag `error` says why."""

_COLUMNS = (
    *("metrics.`test_f1`", "metrics.`test_recall_at_fpr_0_2pct`", "metrics.`test_ham_fpr`"),
    *("metrics.`fit_seconds`", "tags.`data.name`", "params.`model.name`", "params.`train.epochs`"),
    *("attributes.`Created`", "attributes.`Duration`", "attributes.`Models`"),
)
_SECTION = "spam-charts"
# As few axes as have room for their names.
_PARALLEL_PARAMETERS = ("model",)
_PARALLEL_METRICS = ("test_ham_fpr", "test_recall_at_fpr_0_2pct", "test_f1")


def run_page(run_id: str) -> str:
    """Return how to see a run in MLflow's UI, and the runs beside it, in one line."""
    if _in_workspace():
        return _of_workspace(f"run {run_id}")
    run = mlflow.get_run(run_id)
    experiment = f"#/experiments/{run.info.experiment_id}"
    return _pages(
        f"{experiment}/runs/{run_id}", all_runs=f"{experiment}/runs?viewStateShareKey={_VIEW}"
    )


def version_page(model: str, version: str) -> str:
    """Return how to see a version in MLflow's UI, and all of its registered model, in one line."""
    if _in_workspace():
        return _of_workspace(f"version {version} of {model}")
    page = f"#/models/{model}"
    return _pages(f"{page}/versions/{version}", all_versions=page)


def runs_view(experiment_id: str) -> str | None:
    """Return the address of an experiment's runs from a page of MLflow's UI, None if unknown."""
    if _in_workspace():
        return None
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={_VIEW}"


def _note(experiment: Experiment, registered: str) -> str:
    """Return the description of an experiment whose models are versions of `registered`."""
    runs = runs_view(experiment.experiment_id)
    if runs is None:
        return _NOTE.format(view=f'view "{_VIEW}"', registered=f"`{registered}`")
    model = f"[{registered}](#/models/{registered})"
    return _NOTE.format(view=f'[view "{_VIEW}"]({runs})', registered=model)


def _in_workspace() -> bool:
    """Return whether the tracking store is a workspace of Databricks, with pages of its own."""
    return bool(is_databricks_uri(mlflow.get_tracking_uri()))


def _of_workspace(what: str) -> str:
    host = os.environ.get("DATABRICKS_HOST")
    return f"{what} in the Databricks workspace{f' {masked_address(host)}' if host else ''}"


def _pages(page: str, **others: str) -> str:
    """Return the address of a page, and those of others by what they are, in one line."""
    uri = masked_address(mlflow.get_tracking_uri())
    is_server = uri.startswith(("http://", "https://"))
    start = uri.rstrip("/") if is_server else "http://127.0.0.1:5000"
    python = commands.python()
    mlflow_here = "mlflow" if python == "python" else f"{python} -m mlflow"
    command = f"{mlflow_here} server --backend-store-uri {shlex.quote(uri)}"
    server = "" if is_server else f"`{command}`, then "
    more = [f" ({name.replace('_', ' ')}: {start}/{other})" for name, other in others.items()]
    return f"{server}{start}/{page}{''.join(more)}"


def describe_experiment(client: MlflowClient, experiment: Experiment, registered: str) -> None:
    """Give an experiment a description and a view, unless it has one.

    Args:
        client: Client of the tracking store.
        experiment: The experiment.
        registered: Name of the registered model.
    """
    wanted = {_NOTE_TAG: _note(experiment, registered), _VIEW_TAG: json.dumps(_view())}
    for name, value in wanted.items():
        if name not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, name, value)


def _view() -> dict[str, Any]:
    """Return the state of MLflow's page of runs: its columns, and its charts."""
    return {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(_COLUMNS),
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "runsVisibilityMap": {},
        "runsExpanded": {},
        "runListHidden": False,
        "isAccordionReordered": False,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {},
        "viewMaximized": False,
        "compareRunCharts": _charts(),
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": "Spam classifiers",
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
    }


def _charts() -> list[dict[str, Any]]:
    """Return bars of the metrics that matter, both losses in one chart, and parallel axes."""
    return [
        _chart("BAR", metricKey="test_f1"),
        _chart("BAR", metricKey="test_recall_at_fpr_0_2pct"),
        _chart("BAR", metricKey="test_ham_fpr"),
        _chart(
            "LINE",
            metricKey="loss",
            selectedMetricKeys=["loss", "val_loss"],
            xAxisKey="step",
            selectedXAxisMetricKey="",
            scaleType="linear",
            xAxisScaleType="linear",
            lineSmoothness=0,
            useGlobalXaxisKey=False,
            useGlobalLineSmoothing=False,
            range={},
            yAxisKey="metric",
            yAxisExpressions=[],
        ),
        _chart(
            "PARALLEL",
            selectedParams=list(_PARALLEL_PARAMETERS),
            selectedMetrics=list(_PARALLEL_METRICS),
            showAllRuns=False,
        ),
    ]


def _chart(kind: str, **settings: Any) -> dict[str, Any]:
    key = settings.get("metricKey", kind)
    return {
        "type": kind,
        "uuid": f"spam-{kind}-{key}",
        "runsCountToCompare": 10,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }
