"""How MLflow's scoring server answers with this model: what it reads, refuses, limits and returns.

MLflow's own way repeats every message of a request that it refuses, unpacks Parquet, shows
tracebacks, drops misspelled keys, and lets a few large requests occupy all of its threads. The
server looks up its function `invocations` anew for each request, so that a model that is being
loaded for it can put another in its place. Where MLflow has no such function, the server answers in
MLflow's way, through `SpamModel.predict`.
"""

import asyncio
import contextlib
import gc
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

from .batches import batches
from .errors import UserError
from .payloads import DOUBT, Params, shown
from .queues import SMALL
from .request_bodies import BODY, RefusedRequestError, read, refusal, require_most

if TYPE_CHECKING:
    from .pyfunc_model import SpamModel

_APP = "mlflow.pyfunc.scoring_server.app"  # only a server imports this module
_ARGUMENTS = ["data", "content_type", "model", "input_schema"]  # of MLflow's `invocations`
_FIELDS = ("response", "status", "mimetype")  # of its answer
_JSON = "application/json"
_UTF_8 = ("", "charset=utf-8", 'charset="utf-8"')
_AT_ONCE = 500, 25_000  # texts and characters of a batch, which takes some hundredths of a second
_THREADS = 32  # of the server, instead of MLflow's 5 to 32
_SWITCH_SECONDS = 0.0002  # after which large requests let others use the interpreter; usually 5 ms
_LOOK_SECONDS = 0.002  # after which a large request looks again for small ones

_logger = logging.getLogger(__name__)


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
    gc.freeze()  # or each full collection would look through all of MLflow, which takes 0.1 s
    mlflows: Callable[..., Any] = scoring_server.invocations
    vars(scoring_server)["invocations"] = Invocations(model, identity(folder), mlflows)


def _is_known(scoring_server: ModuleType) -> bool:
    """Return whether MLflow still has what `Invocations` replaces and what it returns."""
    try:
        arguments = list(inspect.signature(scoring_server.invocations).parameters)
        return arguments == _ARGUMENTS and scoring_server.InvocationsResponse._fields == _FIELDS
    except AttributeError:
        return False


def identity(folder: Path) -> dict[str, str]:
    """Return what is known of a logged model: `name`, `version` and `model_id`.

    MLflow writes name and version beside a model that it downloads from a registry's address.

    Args:
        folder: Root folder of the logged model.
    """
    import yaml
    from mlflow.models import Model

    meta = folder / "registered_model_meta"
    text = meta.read_text(encoding="utf-8") if meta.is_file() else ""
    registered = yaml.safe_load(text) or {}
    known = {
        "name": registered.get("model_name"),
        "version": registered.get("model_version"),
        "model_id": Model.load(str(folder)).model_id,
    }
    return {key: str(value) for key, value in known.items() if value is not None}


class Answer:
    """What MLflow's server writes to the client; it reads `response` within its event loop.

    Args:
        response: The JSON.
        status: The HTTP status.
        when_read: Called when the server reads the response.

    Attributes:
        status: The HTTP status.
        mimetype: The content type of the response.
    """

    mimetype = _JSON

    def __init__(self, response: str, status: HTTPStatus, when_read: Callable[[], None]) -> None:
        self._response, self.status, self._when_read = response, status, when_read

    @property
    def response(self) -> str:
        """The JSON."""
        self._when_read()
        return self._response


class Places:
    """Places for large requests, which take at most half of the server's threads.

    Small requests always find a thread, therefore. The server has 5 to 32 threads, depending on the
    machine's cores, until `add_threads` is called.
    """

    def __init__(self) -> None:
        few = min(_THREADS, (os.cpu_count() or 1) + 4)  # the default of `asyncio.to_thread`
        self._free = threading.Semaphore(few // 2)
        self._missing = _THREADS // 2 - few // 2

    def add_threads(self) -> None:
        """Give this thread's event loop more threads to run functions in, once."""
        if not self._missing:
            return
        with contextlib.suppress(RuntimeError):  # there is no event loop in this thread
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(_THREADS, "scoring"))
            self._free.release(self._missing)
            self._missing = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the duration of a block.

        Raises:
            RefusedRequestError: If none is free.
        """
        if not self._free.acquire(blocking=False):
            raise RefusedRequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many large requests are waiting; try again in a few seconds",
            )
        try:
            yield
        finally:
            self._free.release()


class Invocations:
    """Answers requests in the place of MLflow's function `invocations`.

    Args:
        model: The model that scores.
        identity: What each answer says of the model.
        mlflows: MLflow's function, for requests to other models.
    """

    def __init__(
        self, model: "SpamModel", identity: dict[str, str], mlflows: Callable[..., Any]
    ) -> None:
        self._model, self._identity, self._mlflows = model, json.dumps(identity), mlflows
        self._places = Places()
        # All large requests are scored in one thread, since each thread keeps memory of its own.
        self._large = ThreadPoolExecutor(1, "large")
        self._seconds = float(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())

    def __call__(
        self, data: bytes, content_type: str | None, model: PyFuncModel, input_schema: Any
    ) -> Any:
        """Return the answer to a request, with the attributes of MLflow's `InvocationsResponse`.

        Args:
            data: The request's body.
            content_type: Its content type; None if it has none.
            model: The model that the server serves.
            input_schema: That of the model's signature.
        """
        if model.unwrap_python_model() is not self._model:  # a user's own, which has loaded ours
            return self._mlflows(data, content_type, model, input_schema)
        status = HTTPStatus.OK
        try:
            body = self._answer(data, content_type)
        except RefusedRequestError as error:
            status, body = error.status, refusal(error.status, str(error))
        except UserError as error:
            status = HTTPStatus.BAD_REQUEST
            body = refusal(status, str(error))
        except Exception:
            _logger.exception("A request could not be answered")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            body = refusal(status, "the request could not be scored; the server's log says why")
        return Answer(body, status, self._places.add_threads)

    def _answer(self, data: bytes, content_type: str | None) -> str:
        """Return the JSON of an answer.

        Raises:
            UserError: If the request is refused.
        """
        deadline = time.monotonic() + self._seconds
        _require_json(content_type)
        require_most(len(data), BODY, "bytes")
        if len(data) <= SMALL:
            return self._scored(data, deadline)
        with self._places.place():
            return self._large.submit(self._scored, data, deadline).result()

    def _scored(self, data: bytes, deadline: float) -> str:
        """Return the JSON of an answer, when it is this request's turn.

        Raises:
            UserError: If the request is refused.
        """
        is_large = len(data) > SMALL
        with self._model.queues.queue(len(data)):
            self._require_time(deadline)
            start = time.monotonic()
            texts, asked = read(data)
            rows = []
            for batch in batches(texts, *_AT_ONCE):
                self._require_time(deadline)
                rows.append(self._rows(batch, asked))
                if is_large:
                    self._let_small_ones_pass(start)
                start = time.monotonic()
        return f'{{"predictions": [{", ".join(rows)}], "model": {self._identity}}}'

    def _let_small_ones_pass(self, start: float) -> None:
        """Rest while small requests are scored, for at most twice the time since `start`."""
        end = time.monotonic() + 2 * (time.monotonic() - start)
        while self._model.queues.small.locked() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)

    def _require_time(self, deadline: float) -> None:
        """Give up a request whose client has got an error of the server already."""
        if time.monotonic() > deadline:
            raise RefusedRequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the request was not scored within {self._seconds:g} s; send fewer texts",
            )

    def _rows(self, texts: Sequence[str], asked: Params) -> str:
        """Return the JSON of some texts' predictions, without the brackets around it.

        Only texts that are doubtful have a doubt: those of a request may be in several batches.
        """
        columns = self._model.columns(texts, asked)
        doubts = columns.pop(DOUBT, None)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for row, doubt in zip(rows, doubts or (), strict=False):
            if doubt:
                row[DOUBT] = doubt
        return json.dumps(rows)[1:-1]


def _require_json(content_type: str | None) -> None:
    kind, *parameters = [part.strip().lower() for part in (content_type or "").split(";")]
    if kind == _JSON and all(parameter in _UTF_8 for parameter in parameters):
        return
    named = f"the content type {shown(content_type)} is not read" if kind else "no content type"
    raise RefusedRequestError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{named}; send JSON in UTF-8 as 'Content-Type: {_JSON}'"
    )
