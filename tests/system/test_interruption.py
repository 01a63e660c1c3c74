import signal

from support.project import Project


def test_an_interrupted_run_is_killed_and_keeps_what_was_logged(project: Project) -> None:
    process = project.start("main", "data=sample", "train.epochs=100000")
    try:
        project.wait_for_epoch()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    run = project.last_run()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert run.info.status == "KILLED"
    assert run.data.params["train.epochs"] == "100000"
    assert run.data.metrics["loss"] > 0
