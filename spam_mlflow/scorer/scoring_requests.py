"""How MLflow's scoring server answers with this model: what it reads, refuses, limits and returns.

MLflow's own way repeats every message of a request that it refuses, unpacks Parquet, shows
tracebacks, drops misspelled keys, and lets a few large requests occupy all of its threads. The
server looks up its function `invocations` anew for each request, so that a model that is being
loaded for it can put another in its place. Where MLflow has no such function, the server answers in
MLflow's way, through `SpamModel.predict`.
"""

import asyncio
import contextlib
import inspect
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.pyfunc import PyFuncModel

from . import payloads
from .batches import batches
from .errors import UserError
from .payloads import Params, shown
from .queues import SMALL

if TYPE_CHECKING:
    from .pyfunc_model import SpamModel

ROWS = 100_000
"""Texts that a request may have."""

BODY = 20_000_000
"""Bytes that a request may have, which are at least as many as its characters."""

SYMBOLS = 2_000_000
"""JSON's symbols that a request may have: parsing holds the interpreter, and takes longest for many
tiny values. Texts use up few of them, unless they consist of commas, quotes and brackets."""

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
"""Keys of a request that hold its texts."""

_PARAMS = "params"
_KEYS = f"which has one of the keys {', '.join(FORMS)}, and may have {_PARAMS}"
_APP = "mlflow.pyfunc.scoring_server.app"  # only a server imports this module
_ARGUMENTS = ["data", "content_type", "model", "input_schema"]  # of MLflow's `invocations`
_FIELDS = ("response", "status", "mimetype")  # of its answer
_JSON = "application/json"
_UTF_8 = ("", "charset=utf-8", 'charset="utf-8"')
_AT_ONCE = 1000, 50_000  # texts and characters that are scored before time is checked again
_THREADS = 32  # of the server, instead of MLflow's 5 to 32
_SWITCH_SECONDS = 0.001  # after which a large request lets others use the interpreter; usually 5 ms
_ERROR_CODES = {  # MLflow's, where it has one
    HTTPStatus.BAD_REQUEST: "INVALID_PARAMETER_VALUE",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
}

_logger = logging.getLogger(__name__)


class RefusedRequestError(UserError):
    """A request that is refused with a status of its own; any other `UserError` means 400.

    Args:
        status: HTTP status of the answer.
        message: What was wrong and what to do.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def install(model: "SpamModel", folder: Path) -> None:
    """Have this process answer as documented here, if it is a scoring server that loads its model.

    Args:
        model: The model, which is ready to score.
        folder: Root folder of the logged model.
    """
    if _APP not in sys.modules:
        return
    from mlflow.pyfunc import scoring_server

    if not _is_known(scoring_server):
        _logger.warning("This MLflow has another scoring server: requests are answered in its way")
        return
    sys.setswitchinterval(_SWITCH_SECONDS)
    answerer = Invocations(model, identity(folder), scoring_server, _more_threads())
    vars(scoring_server)["invocations"] = answerer


def _is_known(scoring_server: ModuleType) -> bool:
    """Return whether MLflow still has what `Invocations` replaces and what it returns."""
    try:
        arguments = list(inspect.signature(scoring_server.invocations).parameters)
        return arguments == _ARGUMENTS and scoring_server.InvocationsResponse._fields == _FIELDS
    except AttributeError:
        return False


def _more_threads() -> int:
    """Give the server's event loop more threads to answer in, and return how many it has.

    The server imports its app, and thereby loads the model, within its event loop.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return min(32, (os.cpu_count() or 1) + 4)  # the default of `asyncio.to_thread`
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "scoring"))
    return _THREADS


def identity(folder: Path) -> dict[str, str]:
    """Return what is known of a logged model: `name`, `version` and `model_id`.

    MLflow writes name and version beside a model that it downloads from a registry's address.

    Args:
        folder: Root folder of the logged model.
    """
    import yaml
    from mlflow.models import Model

    meta = folder / "registered_model_meta"
    registered = (yaml.safe_load(meta.read_text(encoding="utf-8")) if meta.is_file() else 0) or {}
    known = {
        "name": registered.get("model_name"),
        "version": registered.get("model_version"),
        "model_id": Model.load(str(folder)).model_id,
    }
    return {key: str(value) for key, value in known.items() if value is not None}


class Invocations:
    """Answers requests in the place of MLflow's function `invocations`.

    Args:
        model: The model that scores.
        identity: What each answer says of the model.
        scoring_server: MLflow's module of the scoring server.
        threads: Threads that the server has. Large requests take at most half of them, so that
            small ones always find one.
    """

    def __init__(
        self,
        model: "SpamModel",
        identity: dict[str, str],
        scoring_server: ModuleType,
        threads: int,
    ) -> None:
        self._model, self._identity = model, json.dumps(identity)
        self._mlflows: Callable[..., Any] = scoring_server.invocations
        self._response: Callable[..., Any] = scoring_server.InvocationsResponse
        self._places = threading.BoundedSemaphore(threads // 2)
        self._seconds = float(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())

    def __call__(
        self, data: bytes, content_type: str | None, model: PyFuncModel, input_schema: Any
    ) -> Any:
        """Return MLflow's `InvocationsResponse` to a request.

        Args:
            data: The request's body.
            content_type: Its content type; None if it has none.
            model: The model that the server serves.
            input_schema: That of the model's signature.
        """
        if model.unwrap_python_model() is not self._model:  # a user's own, which has loaded ours
            return self._mlflows(data, content_type, model, input_schema)
        try:
            return self._response(self._answer(data, content_type), HTTPStatus.OK, _JSON)
        except RefusedRequestError as error:
            status, message = error.status, str(error)
        except UserError as error:
            status, message = HTTPStatus.BAD_REQUEST, str(error)
        except Exception:
            _logger.exception("A request could not be answered")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            message = "the model could not score this request; the server's log has the reason"
        body = json.dumps({"error_code": _ERROR_CODES[status], "message": message})
        return self._response(body, status, _JSON)

    def _answer(self, data: bytes, content_type: str | None) -> str:
        """Return the JSON of an answer.

        Raises:
            UserError: If the request is refused.
        """
        deadline = time.monotonic() + self._seconds
        _require_json(content_type)
        _require_limits(data)
        with self._turn(len(data), deadline):
            texts, asked = read(data)
            rows = []
            for batch in batches(texts, *_AT_ONCE):
                if time.monotonic() > deadline:
                    raise self._too_late("was not scored")
                rows.append(self._rows(batch, asked))
        return f'{{"predictions": [{", ".join(rows)}], "model": {self._identity}}}'

    @contextlib.contextmanager
    def _turn(self, size: int, deadline: float) -> Iterator[None]:
        """Wait until a request of `size` bytes may be read and scored.

        Raises:
            RefusedRequestError: If a large request finds no place, or waits for too long.
        """
        queue = self._model.queues.queue(size)
        if size <= SMALL:
            with queue:
                yield
            return
        if not self._places.acquire(blocking=False):
            raise RefusedRequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many large requests are waiting; try again in a few seconds",
            )
        try:
            if not queue.acquire(timeout=max(0, deadline - time.monotonic())):
                raise self._too_late("waited for other large requests")
            try:
                yield
            finally:
                queue.release()
        finally:
            self._places.release()

    def _too_late(self, what: str) -> RefusedRequestError:
        """Return the refusal of a request whose client has an error of the server already."""
        return RefusedRequestError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the request {what} for {self._seconds:g} s; send fewer texts at a time",
        )

    def _rows(self, texts: Sequence[str], asked: Params) -> str:
        """Return the JSON of some texts' predictions, without the brackets around it."""
        columns = self._model.columns(texts, asked)
        rows = zip(*columns.values(), strict=True)
        return json.dumps([dict(zip(columns, row, strict=True)) for row in rows])[1:-1]


def _require_json(content_type: str | None) -> None:
    kind, *parameters = [part.strip().lower() for part in (content_type or "").split(";")]
    if kind == _JSON and all(parameter in _UTF_8 for parameter in parameters):
        return
    named = f"the content type {shown(content_type)} is not read" if kind else "no content type"
    raise RefusedRequestError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{named}; send JSON in UTF-8 as 'Content-Type: {_JSON}'"
    )


def _require_limits(data: bytes) -> None:
    """Check what makes a body slow to parse."""
    _require_most(len(data), BODY, "bytes")
    _require_most(sum(map(data.count, (b",", b'"', b"[", b"{"))), SYMBOLS, "JSON symbols")


def _require_most(found: int, limit: int, what: str) -> None:
    if found > limit:
        raise RefusedRequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the request has {found:,} {what}, and at most {limit:,} are taken; send fewer texts "
            "at a time",
        )


def read(data: bytes) -> tuple[list[str], Params]:
    """Return the texts and the parameters of a request's body.

    Args:
        data: A JSON object with one of FORMS and, if wanted, `params`.

    Raises:
        UserError: If it is anything else, or has more than ROWS texts.
    """
    request = _parsed(data)
    for key in request:
        if key not in (*FORMS, _PARAMS):
            raise UserError(f"{shown(key)} is no key of a request, {_KEYS}")
    forms = [form for form in FORMS if form in request]
    if len(forms) != 1:
        found = " and ".join(forms) or "no texts"
        raise UserError(f"the body has {found}; it must be a JSON object, {_KEYS}")
    given = request[forms[0]]
    values = _of_split(given) if forms[0] == "dataframe_split" else given
    texts, _ = payloads.read(values)
    _require_most(len(texts), ROWS, "texts")
    return texts, Params.read(request.get(_PARAMS))


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        request = json.loads(data)
    except RecursionError as error:
        raise UserError("the body is JSON that is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"the body is not valid JSON: {str(error)[:100]}") from error
    if not isinstance(request, dict):
        raise UserError(f"the body is {shown(request)} instead of a JSON object, {_KEYS}")
    return request


def _of_split(table: Any) -> list[Any]:
    """Return the values of the column `text` of a table in pandas's orientation "split"."""
    if not isinstance(table, dict) or not all(
        isinstance(table.get(key), list) for key in ("columns", "data")
    ):
        raise UserError("dataframe_split must be an object with the lists 'columns' and 'data'")
    columns = table["columns"]
    payloads.require_text_column(columns)
    for row, cells in enumerate(table["data"]):
        if not isinstance(cells, list) or len(cells) != len(columns):
            raise UserError(
                f"row {row} of dataframe_split must be a list of {len(columns)} values, as "
                f"'columns' has, not {shown(cells)}"
            )
    at = columns.index(payloads.TEXT)
    return [cells[at] for cells in table["data"]]
