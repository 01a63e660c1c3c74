"""The app: MLflow's scoring server, with routes for what is stored."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from mlflow.pyfunc import scoring_server
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from spam_mlflow.config import schema
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import (
    Feedback,
    Filters,
    is_id,
    new_feedback,
    reporter_name,
    timestamp,
)
from spam_mlflow.inference_store.store import Store, is_full
from spam_mlflow.scorer import request_bodies
from spam_mlflow.scorer.request_bodies import RefusedRequestError, refusal
from spam_mlflow.serving import explanations, exports, neighbors, openapi_page
from spam_mlflow.serving.guard import CLIENT, Guard
from spam_mlflow.serving.recorder import Recorder
from spam_mlflow.serving.served_model import ServedModel
from spam_mlflow.serving.tokens import Tokens

logger = logging.getLogger(__name__)

_LONGEST_BODY = 20_000  # bytes, of feedback
_LONGEST_EXPLAINED = 2_500_000  # bytes; JSON may write 12 of them for a character
_LONGEST_PAGE = 200  # inferences
_FILES = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"  # a name that is compared and listed
_NO_STORE = "nothing is stored: the server was started with store=none"
# Nothing is loaded from other servers, and no text can become a program.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_OPENAPI_PATHS = ("/docs", "/redoc", "/docs/oauth2-redirect")  # FastAPI's, which load a CDN's files


Day = Annotated[schema.Day | None, Query(description="in UTC")]
Version = Annotated[str | None, Query(max_length=100, description="number of a version")]
Label = Annotated[Literal["ham", "spam"] | None, Query()]


class FeedbackBody(BaseModel):
    """What someone says of an inference."""

    model_config = ConfigDict(extra="forbid")

    label: Literal["ham", "spam"]
    reporter: (
        Annotated[str, Field(max_length=100, pattern=_PRINTABLE), AfterValidator(reporter_name)]
        | None
    ) = None
    note: Annotated[str, Field(max_length=1000)] = ""


@dataclass(frozen=True)
class Parts:
    """What the app is made of.

    Attributes:
        served: The model that is served.
        recorder: What answers requests to it.
        store: Where inferences are; None for nowhere.
        tokens: Whose requests are answered; None for those of this machine.
    """

    served: ServedModel
    recorder: Recorder
    store: Store | None
    tokens: Tokens | None

    def require_store(self) -> Store:
        """Return the store.

        Raises:
            RefusedRequestError: If there is none.
        """
        if self.store is None:
            raise RefusedRequestError(HTTPStatus.NOT_FOUND, _NO_STORE)
        return self.store


@contextlib.contextmanager
def installed(parts: Parts) -> Iterator[FastAPI]:
    """Yield the app; its recorder stands in the place of MLflow's function meanwhile."""
    slot = vars(scoring_server)
    before = slot["invocations"]
    slot["invocations"] = parts.recorder
    try:
        yield _app(parts)
    finally:
        slot["invocations"] = before


def _app(parts: Parts) -> FastAPI:
    app: FastAPI = scoring_server.init(parts.served.current.model)
    app.title, app.version = "spam_mlflow", "1"
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "path", "") not in _OPENAPI_PATHS
    ]
    for add in (_add_errors, _add_model, _add_inferences, _add_feedback, _add_pages):
        add(app, parts)
    app.add_middleware(Guard, tokens=parts.tokens)
    return app


def _add_errors(app: FastAPI, parts: Parts) -> None:
    @app.exception_handler(RefusedRequestError)
    async def refused(request: Request, error: RefusedRequestError) -> Response:
        return _refused(error.status, str(error))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _refused(HTTPStatus(error.status_code), str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        message = "the request could not be answered; the server's log says why"
        return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, message)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _refused(HTTPStatus.BAD_REQUEST, _first(error.errors()))

    @app.exception_handler(UserError)
    async def failed(request: Request, error: UserError) -> Response:
        return _refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def _add_model(app: FastAPI, parts: Parts) -> None:
    @app.get("/model", summary="What is served")
    def model() -> dict[str, Any]:
        current = parts.served.current
        return {
            "name": current.name,
            "version": current.number,
            "alias": current.reference.alias,
            "threshold": current.threshold,
            "run_id": current.run_id,
            "model_id": current.model.model_id,
            "model_uri": parts.served.model_uri,
            "loaded": timestamp(current.loaded),
            "reload_error": parts.served.error,
            "tokens_error": parts.tokens.error if parts.tokens else None,
            "drift": parts.served.drift,
            "store": parts.store is not None,
            "text": parts.store.texts.form if parts.store else "off",
        }

    texts = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}
    body = {"type": "object", "properties": {"inputs": texts}}

    @app.post(
        "/explanations",
        summary="What the words of one message contribute to its score",
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": body}}}},
    )
    async def explain(request: Request) -> dict[str, Any]:
        body = await _json_body(request, _LONGEST_EXPLAINED)
        return await run_in_threadpool(_explained, parts, body)

    @app.get("/metrics", summary="Counters in the format of Prometheus")
    def metrics() -> Response:
        counts = parts.recorder.counts
        found: dict[str, float] = {
            "recorded_total": counts.recorded,
            "unrecorded_total": counts.unrecorded,
            "unchecked_feedback_total": counts.unchecked_feedback,
            "reload_failing": parts.served.error is not None,
            **(parts.store.stats() if parts.store else {}),
        }
        lines = "".join(f"spam_inferences_{name} {value:g}\n" for name, value in found.items())
        return Response(lines, media_type="text/plain; version=0.0.4")


def _add_inferences(app: FastAPI, parts: Parts) -> None:
    known = [Depends(_require_known)]

    @app.get("/inferences", summary="Stored inferences, the newest first", dependencies=known)
    def page(
        day: Day = None,
        version: Version = None,
        label: Label = None,
        limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = 50,
        cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        store = parts.require_store()
        if cursor is not None:
            _require_id(cursor)
        found = store.page(Filters(day, version, label), cursor, limit)
        following = found[-1].id if is_full(found, limit) else None
        return {"inferences": list(exports.shown(store, found)), "next": following}

    @app.get("/inferences/export", summary="All of them, as CSV or JSON lines", dependencies=known)
    def export(
        form: Annotated[exports.Format, Query(alias="format")] = "csv",
        day: Day = None,
        version: Version = None,
        label: Label = None,
        safe: Annotated[bool, Query(description="write text that is no formula to Excel")] = False,
    ) -> StreamingResponse:
        lines = exports.written(parts.require_store(), Filters(day, version, label), form, safe)
        kind = "text/csv" if form == "csv" else "application/x-ndjson"
        name = f'attachment; filename="inferences.{form}"'
        return StreamingResponse(lines, media_type=kind, headers={"Content-Disposition": name})

    @app.get("/inferences/{inference_id}", summary="One of them")
    def one(inference_id: str) -> dict[str, Any]:
        store = parts.require_store()
        found = _found(store, inference_id)
        return next(exports.shown(store, [found]))

    @app.get("/inferences/{inference_id}/similar", summary="Recent ones of similar messages")
    def similar(inference_id: str) -> dict[str, Any]:
        store = parts.require_store()
        return neighbors.similar(store, _found(store, inference_id))


def _add_feedback(app: FastAPI, parts: Parts) -> None:
    body = {"content": {"application/json": {"schema": FeedbackBody.model_json_schema()}}}

    @app.post(
        "/inferences/{inference_id}/feedback",
        status_code=HTTPStatus.CREATED,
        summary="Say what the label should have been",
        openapi_extra={"requestBody": body | {"required": True}},
    )
    async def feedback(inference_id: str, request: Request) -> dict[str, str]:
        parts.require_store()
        said = _feedback_body(await _json_body(request, _LONGEST_BODY))
        reporter = _reporter(said.reporter)
        item = await run_in_threadpool(_add, parts, inference_id, said, reporter)
        return exports.shown_feedback(item)


def _add(parts: Parts, inference_id: str, said: FeedbackBody, reporter: str) -> Feedback:
    """Store feedback, also while the store can take it, but cannot look up its inference.

    Feedback on what does not exist is left out wherever feedback is read.
    """
    store = parts.require_store()
    try:
        _found(store, inference_id)
    except RefusedRequestError:
        raise
    except UserError as error:
        logger.warning("Feedback on %s is taken unchecked: %s", inference_id, error)
        parts.recorder.counts.unchecked_feedback += 1
    item = new_feedback(
        *(inference_id, said.label, _plain(reporter), "report", _plain(said.note), store.days)
    )
    store.add_feedback(item)
    return item


def _plain(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _add_pages(app: FastAPI, parts: Parts) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return Response(openapi_page.html(app.openapi()), media_type="text/html", headers=_HEADERS)

    def add(path: str, name: str) -> None:
        content = Path(__file__).with_name(name).read_bytes()

        @app.get(path, include_in_schema=False)
        def file() -> Response:
            return Response(content, media_type=_FILES[name], headers=_HEADERS)

    for name in _FILES:
        if Path(__file__).with_name(name).is_file():
            add("/" if name == "page.html" else f"/{name}", name)


def _found(store: Store, inference_id: str) -> Any:
    _require_id(inference_id)
    found = store.find(inference_id)
    if found is None:
        message = f"there is no inference {inference_id}, or it has expired"
        raise RefusedRequestError(HTTPStatus.NOT_FOUND, message)
    return found


def _require_known(request: Request) -> None:
    """Refuse what no parameter of a route is named, or a misspelt filter would take everything.

    Raises:
        RefusedRequestError: If there is any.
    """
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            message = f"{name[:40]!r} is no parameter of this address; it has {', '.join(known)}"
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, message)


def _require_id(text: str) -> None:
    if not is_id(text):
        message = f"{text[:40]!r} is no ID of an inference; answers and pages have them"
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, message)


def _reporter(given: str | None) -> str:
    """Return who reports: the client, unless it may speak for others."""
    client = CLIENT.get()
    if given is None or given == client.name:
        return client.name or "anonymous"
    if not client.speaks_for_others:
        message = (
            f"the token {client.name!r} reports as itself only; leave out reporter, or give the "
            "token speaks_for_others"
        )
        raise RefusedRequestError(HTTPStatus.FORBIDDEN, message)
    return f"{client.name}/{given}" if client.name else given


async def _json_body(request: Request, longest: int) -> bytes:
    """Return the JSON of a request.

    Args:
        request: The request.
        longest: Bytes that it may have.

    Raises:
        RefusedRequestError: If it is longer, or of another content type.
    """
    # Only JSON: browsers send other types to any server without asking it first.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = "send 'Content-Type: application/json'"
        raise RefusedRequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > longest:
            message = f"the body may have at most {longest:,} bytes"
            raise RefusedRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    return bytes(body)


def _feedback_body(body: bytes) -> FeedbackBody:
    try:
        return TypeAdapter(FeedbackBody).validate_json(body)
    except ValidationError as error:
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, _first(error.errors())) from error


def _explained(parts: Parts, body: bytes) -> dict[str, Any]:
    try:
        texts, _ = request_bodies.read(body)
    except RefusedRequestError:
        raise
    except UserError as error:
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, str(error)) from error
    if len(texts) != 1:
        message = f"one message is explained at a time, not {len(texts):,}"
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, message)
    return explanations.explained(parts.served.current, texts[0])


def _first(errors: Any) -> str:
    """Return the first of several problems in one line."""
    where = ".".join(str(part) for part in errors[0]["loc"] if part not in ("query", "body"))
    return f"{where}: {errors[0]['msg']}" if where else str(errors[0]["msg"])


def _refused(
    status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(refusal(status, message), status, headers, media_type="application/json")
