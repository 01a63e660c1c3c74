from support.project import Project
from support.servers import serve

from spam_mlflow.gate.scoring_server import free_port


def test_runs_can_be_logged_to_a_tracking_server(project: Project) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    artifacts = project.folder / "artifacts"
    store = ["--backend-store-uri", project.store, "--artifacts-destination", str(artifacts)]
    for _ in serve([*command, *store], project.folder, project.env(), f"{address}/health"):
        remote = Project(project.folder, {"MLFLOW_TRACKING_URI": address})
        done = remote.run("main", "data=sample", "train.epochs=1")
        assert done.returncode == 0, done.stderr
    run = project.last_run()
    assert run.info.status == "FINISHED"
    assert list(artifacts.rglob("spam-model.keras"))
