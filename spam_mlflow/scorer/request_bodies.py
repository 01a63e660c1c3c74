"""Reading the JSON of a request to the scoring server, within limits."""

import gc
import json
from http import HTTPStatus
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from . import payloads
from .errors import UserError
from .payloads import Params, shown

ROWS = 100_000
"""Texts that a request may have."""

BODY = 20_000_000
"""Bytes that a request may have, which are at least as many as its characters."""

SYMBOLS = 700_000
"""Commas, quotes and brackets that a request may have: what JSON costs is the number of its values.
The texts themselves use up few of them."""

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
"""Keys of a request that hold its texts."""

_ERROR_CODES = {  # MLflow's, where it has one
    HTTPStatus.BAD_REQUEST: "INVALID_PARAMETER_VALUE",
    HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
    HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
    HTTPStatus.NOT_FOUND: "RESOURCE_DOES_NOT_EXIST",
    HTTPStatus.METHOD_NOT_ALLOWED: "BAD_REQUEST",
    HTTPStatus.REQUEST_TIMEOUT: "BAD_REQUEST",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.MISDIRECTED_REQUEST: "BAD_REQUEST",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
}
_PARAMS = "params"
_KEYS = f"which has one of the keys {', '.join(FORMS)}, and may have {_PARAMS}"
_MANY_SYMBOLS = 100_000


class RefusedRequestError(UserError):
    """A request that is refused with a status of its own; any other `UserError` means 400.

    Args:
        status: HTTP status of the answer.
        message: What was wrong and what to do.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal(status: HTTPStatus, message: str) -> str:
    """Return the JSON of a refusal, in the form of MLflow's."""
    code = _ERROR_CODES.get(status, "INTERNAL_ERROR")
    return json.dumps({"error_code": code, "message": message})


def require_most(found: int, limit: int, what: str) -> None:
    """Refuse a request that is larger than a limit.

    Args:
        found: How many there are.
        limit: How many there may be.
        what: What is counted, in the plural.

    Raises:
        RefusedRequestError: If there are more.
    """
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
    if isinstance(values, list):
        require_most(len(values), ROWS, "texts")
    texts, _ = payloads.read(values)
    require_most(len(texts), ROWS, "texts")
    return texts, Params.read(request.get(_PARAMS))


class _PatientDecoder(json.JSONDecoder):
    """Parses in Python, so that other threads run in between; the usual one holds them all up."""

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = py_make_scanner(self)


def _loads(data: bytes) -> Any:
    """Return what `json.loads` does, without holding up other threads for long."""
    gc.disable()  # it would look through all new values again and again, and hold up all threads
    try:
        return json.loads(data, cls=_PatientDecoder)
    finally:
        gc.enable()


def _parsed(data: bytes) -> dict[str, Any]:
    symbols = sum(map(data.count, (b",", b'"', b"[", b"{")))
    require_most(symbols, SYMBOLS, "commas, quotes and brackets")
    try:
        request = _loads(data) if symbols > _MANY_SYMBOLS else json.loads(data)
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
