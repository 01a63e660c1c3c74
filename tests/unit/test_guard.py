"""Who may send what to the serving app."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from spam_mlflow.errors import UserError
from spam_mlflow.serving import guard
from spam_mlflow.serving.guard import CLIENT, Guard
from spam_mlflow.serving.recorder import SOURCE
from spam_mlflow.serving.tokens import Tokens

SCORER = "scorer-token-0123456789"
ENTRIES = [
    {"name": "shop", "scopes": ["score"], "token": SCORER},
    {
        "name": "reader",
        "scopes": ["read"],
        "sha256": "8b9a0d8a2b8ab6ff4bb5ca3fc4db0ff0ed43b7dcb4bdc7f5c3f3a3bbca0ffb1f",
    },
]


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(written(tmp_path, ENTRIES))


def written(folder: Path, entries: Any, mode: int = 0o600) -> Path:
    file = folder / "tokens.yaml"
    file.write_text(entries if isinstance(entries, str) else json.dumps({"tokens": entries}))
    file.chmod(mode)
    return file


def asked(tokens: Tokens | None, method: str, path: str, **headers: str) -> tuple[int, Any, Any]:
    """Return the status, and what the app behind the guard knows of the client."""
    known: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        known.extend([CLIENT.get().name, SOURCE.get()])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    asyncio.run(Guard(app, tokens)(scope, None, send))  # type: ignore[arg-type]
    body = json.loads(sent[1]["body"]) if len(sent) > 1 else None
    return sent[0]["status"], known, body


def test_a_token_is_for_its_scopes_alone(tokens: Tokens) -> None:
    for header in (
        f"Bearer {SCORER}",
        f"basic {base64.b64encode(f'x:{SCORER}'.encode()).decode()}",
    ):
        status, known, _ = asked(tokens, "POST", "/invocations", authorization=header)
        assert (status, known) == (200, ["shop", "shop"])
        assert asked(tokens, "GET", "/model", authorization=header)[0] == 200
        for method, path in (
            ("GET", "/inferences"),
            ("GET", "/inferences/export"),
            ("POST", "/inferences/1/feedback"),
            ("DELETE", "/inferences/1"),
        ):
            status, _, body = asked(tokens, method, path, authorization=header)
            assert (status, body["error_code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Bearer {SCORER}x", "Basic %%%", f"Digest {SCORER}", "Bearer \xff"]
)
def test_without_a_token_there_is_only_ping(tokens: Tokens, header: str) -> None:
    assert asked(tokens, "GET", "/ping")[0] == 200
    for path in ("/", "/health", "/version", "/docs", "/openapi.json", "/metrics", "/model"):
        assert asked(tokens, "GET", path, authorization=header)[0] == 401
    assert asked(tokens, "POST", "/invocations", authorization=header)[0] == 401


@pytest.mark.parametrize(
    ("parts", "seconds", "status"),
    [([b"x" * 10] * 3, 60, 200), ([b"x" * 10] * 5, 60, 413), ([b"x"], 0.01, 408)],
)
def test_a_body_may_neither_be_too_large_nor_too_slow(
    monkeypatch: pytest.MonkeyPatch, parts: list[bytes], seconds: float, status: int
) -> None:
    monkeypatch.setattr(guard, "BODY", 40)
    monkeypatch.setattr(guard, "_BODY_SECONDS", seconds)
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    sent: list[Any] = []

    async def receive() -> Any:
        if not messages and seconds < 1:
            await asyncio.sleep(60)
        return messages.pop(0) if messages else {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except UserError as error:  # as MLflow's middleware does
            raise ExceptionGroup("of a task", [error]) from error
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(app, None)(scope, receive, send))
    assert sent[0]["status"] == status
    assert ((b"connection", b"close") in sent[0]["headers"]) == (status != 200)


def test_a_client_says_where_messages_come_from(tokens: Tokens) -> None:
    headers = {"authorization": f"Bearer {SCORER}", "x_message_source": "youtube" * 20}
    assert asked(tokens, "POST", "/invocations", **headers)[1][1] == ("youtube" * 20)[:60]


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:5001", 200), ("localhost", 200), ("[::1]:5001", 200), ("evil.example:5001", 421)],
)
def test_without_tokens_only_this_machines_own_names_are_answered(host: str, status: int) -> None:
    assert asked(None, "GET", "/inferences", host=host)[0] == status
    assert asked(None, "GET", "/inferences")[0] == 421


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("{not yaml", "cannot be read"),
        ([], "must have entries"),
        ([ENTRIES[0], ENTRIES[0]], "different names"),
        ([{**ENTRIES[0], "scopes": ["all"]}], "0.scopes.0 Input should be 'score'"),
        ([{**ENTRIES[0], "token": "hunter2-short"}], "0.token String should have at least 20"),
        ([{"name": "shop", "scopes": ["score"]}], "either a token or its sha256"),
        ("just text", "list"),
    ],
)
def test_a_bad_file_is_refused_without_its_secrets(
    tmp_path: Path, entries: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Tokens(written(tmp_path, entries))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="chmod 600"):
        Tokens(written(tmp_path, ENTRIES, 0o640))


def test_a_token_can_be_taken_back(tmp_path: Path) -> None:
    tokens = Tokens(written(tmp_path, ENTRIES))
    assert tokens.client(SCORER) is not None
    written(tmp_path, ENTRIES[1:])
    tokens.refresh()
    assert tokens.client(SCORER) is None


@pytest.mark.parametrize("how", ["deleted", "empty"])
def test_a_file_that_is_gone_takes_all_tokens_back(tmp_path: Path, how: str) -> None:
    file = written(tmp_path, ENTRIES)
    tokens = Tokens(file)
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        tokens.refresh()
    assert tokens.client(SCORER) is not None  # a slip need not stop the service, and is shown
    assert "chmod 600" in str(tokens.error)
    file.write_text("")
    if how == "deleted":
        file.unlink()
    with pytest.raises(UserError):
        tokens.refresh()
    assert tokens.client(SCORER) is None
    written(tmp_path, ENTRIES)
    tokens.refresh()
    assert tokens.client(SCORER) is not None
    assert tokens.error is None
