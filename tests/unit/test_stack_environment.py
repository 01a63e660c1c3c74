"""The environment that the stack's servers run from, and what is said where it cannot be made."""

import sys
from pathlib import Path

import pytest

from scripts import stack, stack_environment
from scripts.stack import Stack
from spam_mlflow.errors import UserError


def test_an_environment_in_a_cache_does_not_last(tmp_path: Path) -> None:
    environment = tmp_path / "archive" / "environment"
    environment.mkdir(parents=True)
    (environment / "CACHEDIR.TAG").touch()  # uv marks the environments of projects so
    assert stack_environment.lasts(environment)
    (tmp_path / "CACHEDIR.TAG").touch()
    assert not stack_environment.lasts(environment)


def test_an_overlay_does_not_last(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nextends-environment = /usr\n")
    assert not stack_environment.lasts(tmp_path)


def test_programs_are_found_beside_the_interpreter_and_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("beside", "path"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert stack_environment.program("rclone") is None
    for folder in ("path", "beside"):
        program = tmp_path / folder / "rclone"
        program.write_text("")
        program.chmod(0o755)
        assert stack_environment.program("rclone") == str(program)


def test_a_missing_program_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("UV", raising=False)
    with pytest.raises(UserError, match="lacks rclone; `pip install uv`"):
        stack_environment.ensure(tmp_path, servers=True, here=True)
    assert not list(tmp_path.iterdir())


def test_ports_and_authentication_of_a_stack_that_does_not_run_can_be_changed(
    tmp_path: Path,
) -> None:
    first = Stack.open(tmp_path, {"mlflow": 5001}, auth=False)
    assert first.state.ports == {**stack.PORTS, "mlflow": 5001}
    Stack.open(tmp_path, {"s3": 9001}, auth=True)
    again = Stack.open(tmp_path, {"s3": 9001, "mlflow": 5001}, auth=False)
    assert again.state.ports == {**stack.PORTS, "s3": 9001, "mlflow": 5001}
    assert again.state.auth
    assert again.state.secret_key == first.state.secret_key


@pytest.mark.parametrize("content", ["{", "[]", '{"ports": {}}', '{"port": 1}'])
def test_a_damaged_state_is_said_to_be_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(UserError, match=r"stack\.json is damaged"):
        Stack.open(tmp_path, {}, auth=False)


def test_the_end_of_a_log_in_an_error_holds_no_password(tmp_path: Path) -> None:
    opened = Stack.open(tmp_path, dict.fromkeys(stack.PORTS, 0), auth=True)
    state = opened.state
    printed = f"cannot open {state.database('mlflow')} as {state.admin_password}"
    command = [sys.executable, "-c", f"import sys; sys.exit({printed!r})"]
    with pytest.raises(UserError, match=r"cannot open postgresql://\*\*\*") as caught:
        opened._start("mlflow", command, {}, lambda: False)
    assert not any(value in str(caught.value) for value in state.hidden())
