"""Opening runs, and stores that do not answer."""

import pytest
from support.project import Project, require_one_line

from spam_mlflow.errors import UserError
from spam_mlflow.tracking import runs


def test_a_finished_run_is_not_overwritten(trained_project: Project) -> None:
    run = trained_project.last_run()
    again = Project(trained_project.folder, {"MLFLOW_RUN_ID": run.info.run_id})
    done = again.run("main", "data=sample", "train.epochs=1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: MLFLOW_RUN_ID={run.info.run_id} has a logged model")
    found = trained_project.client.get_run(run.info.run_id)
    assert found.data.metrics == run.data.metrics
    assert found.info.status == "FINISHED"
    assert found.data.tags == run.data.tags


def test_a_run_that_has_begun_is_gone_on_with(project: Project) -> None:
    experiment = project.client.create_experiment("own", str(project.folder / "artifacts"))
    tags = {"mlflow.source.name": "https://ann:s3cr3t@example.org/spam.git"}
    run_id = project.client.create_run(experiment, tags=tags).info.run_id
    inside = Project(project.folder, {"MLFLOW_RUN_ID": run_id})
    assert inside.run("main", "debug=one_batch").returncode == 0
    (run,) = project.runs()
    assert run.info.run_id == run_id
    assert run.data.tags["mlflow.source.name"] == "https://***@example.org/spam.git"


def test_a_run_of_another_store_is_named(project: Project) -> None:
    done = Project(project.folder, {"MLFLOW_RUN_ID": "0" * 32}).run("main", "debug=one_batch")
    require_one_line(done, f"MLFLOW_RUN_ID={'0' * 32} is no run of {project.store}; unset")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_password_in_the_servers_address_is_not_printed(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://ann:s3cr3t@127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"MLFLOW_TRACKING_URI=https?://\*\*\*@127\.0\.0\.1:9 "
    ) as e:
        runs.connect()
    assert "s3cr3t" not in str(e.value)
    assert "ann" not in str(e.value)
