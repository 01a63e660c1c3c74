"""What stands before every request: who may send it, and to which name of this machine."""

import asyncio
import base64
import binascii
import contextvars
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Request

from spam_mlflow.scorer.request_bodies import BODY, RefusedRequestError, refusal, require_most
from spam_mlflow.serving import recorder
from spam_mlflow.serving.tokens import ANYONE, Client, Scope, Tokens

CLIENT = contextvars.ContextVar("CLIENT", default=ANYONE)
"""Who sends the request."""

SOURCE_HEADER = "x-message-source"
"""Header with which a client says where its messages come from."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
"""Names of this machine for itself."""

_OPEN = ("/ping",)
_BODY_SECONDS = 60  # that a client has to send a request
_LONGEST_SOURCE = 60  # characters


class Guard:
    """An ASGI app that hands on to another one what it does not refuse.

    Args:
        app: The other app.
        tokens: The tokens that are known; None to let in whoever is on this machine.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        found = self._client(headers, _needed(scope["method"], scope["path"]))
        if isinstance(found, Client):
            CLIENT.set(found)
            source = headers.get(SOURCE_HEADER, "")[:_LONGEST_SOURCE]
            recorder.SOURCE.set(source or found.name or "api")
            await self._handed_on(scope, receive, send)
            return
        status, message = found
        await _answer(send, status, refusal(status, message).encode())

    async def _handed_on(self, scope: Request, receive: Receive, send: Send) -> None:
        """Have the other app answer a request whose body is neither too large nor too slow."""
        body, is_answered = _LimitedBody(receive), False

        async def answer(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, body, answer)
        except Exception:  # of the body, and perhaps in a group, as MLflow's middleware makes them
            if body.refused is None or is_answered:
                raise
            status, message = body.refused.status, str(body.refused)
            # The rest of the body would be taken for another request.
            await _answer(send, status, refusal(status, message).encode(), closes=True)

    def _client(
        self, headers: Mapping[str, str], needed: Scope | None
    ) -> Client | tuple[HTTPStatus, str]:
        """Return who sends a request, or why it is refused."""
        if self._tokens is None:
            # A page of someone else can send requests to this machine by a name of its own.
            name = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
            if name not in LOOPBACK and headers.get("host") not in LOOPBACK:
                message = "without tokens, this server answers to the name 127.0.0.1 only"
                return HTTPStatus.MISDIRECTED_REQUEST, message
            return ANYONE
        client = self._tokens.client(_token(headers.get("authorization", "")))
        if client is None:
            message = "send a token of this server: 'Authorization: Bearer TOKEN'"
            return HTTPStatus.UNAUTHORIZED, message
        if needed is not None and needed not in client.scopes:
            message = f"the token {client.name!r} has not the scope {needed!r}"
            return HTTPStatus.FORBIDDEN, message
        return client


class _LimitedBody:
    """What receives a request's body, as long as it is neither too large nor too slow.

    Without this, MLflow's server would keep all of a body before it is refused, however large.

    Args:
        receive: The server's function.

    Attributes:
        refused: What was raised; None if nothing was.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self._size, self._goes_on = receive, 0, True
        self._deadline = asyncio.get_running_loop().time() + _BODY_SECONDS
        self.refused: RefusedRequestError | None = None

    async def __call__(self) -> Message:
        """Return the next message of the client.

        Raises:
            RefusedRequestError: If the body has more than BODY bytes, or takes too long.
        """
        if not self._goes_on:  # what comes now is the end of the connection
            return await self._receive()
        try:
            return await self._next()
        except RefusedRequestError as error:
            self.refused = error
            raise

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            why = f"the request was not there within {_BODY_SECONDS} s"
            raise RefusedRequestError(HTTPStatus.REQUEST_TIMEOUT, why) from error
        self._size += len(message.get("body", b""))
        self._goes_on = message.get("more_body", False)
        require_most(self._size, BODY, "bytes or more")
        return message


def _needed(method: str, path: str) -> Scope | None:
    """Return the scope that a request needs; None if any token will do."""
    if path in ("/invocations", "/explanations"):
        return "score"
    if path.startswith("/inferences"):
        return "feedback" if method == "POST" else "read"
    return None


def _token(authorization: str) -> str:
    """Return the token of a header: as it is, or as the password that a browser asks for."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


async def _answer(send: Send, status: HTTPStatus, body: bytes, closes: bool = False) -> None:
    headers: list[Any] = [(b"content-type", b"application/json")]
    if closes:
        headers.append((b"connection", b"close"))
    if status == HTTPStatus.UNAUTHORIZED:  # so that a browser asks for user and password
        headers.append((b"www-authenticate", b'Basic realm="spam_mlflow", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
