"""The tracking store: a database is opened once, and made by one process at a time."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from spam_mlflow.config.masking import masked, masked_address
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import URL

ARTIFACTS = "mlruns"
"""Name of the folder with the artifacts, beside a SQLite database."""

_CONNECT_SECONDS = 10
_CREATE_SECONDS = 120  # for which another process may be making the tables
_PAUSE = 0.5  # seconds
_DRIVERS = {"psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}
"""Packages to install by the module that they have."""

logger = logging.getLogger(__name__)


def open_database(uri: str) -> None:
    """Connect to a tracking database, and make its tables if it has none.

    Jobs may do so at the same time. MLflow itself would make the tables of its tracking store in
    each of them, and fail in all but one.

    Args:
        uri: Address of the database, as SQLAlchemy writes it.

    Raises:
        UserError: If the database cannot be opened. MLflow would try for minutes.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(uri)
        require_escaped(url, "MLFLOW_TRACKING_URI")
        if url.get_backend_name() == "sqlite":
            _open_file(url, uri)
            return
        tables(url)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(_refusal(uri, error)) from error
    _make_tables()


def require_escaped(url: "URL", name: str) -> None:
    """Raise UserError where a password is cut off at an @, so that errors would show its rest.

    Args:
        url: Address of a database.
        name: What the user has set to it.
    """
    if url.password is not None and "@" in f"{url.host}{url.database}":
        raise UserError(f"{name}: this address has an @ in its password; write it as %40")


def absolute(uri: str) -> str:
    """Return the address of a tracking store; that of a SQLite file holds in every folder."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite:"):
        return uri
    url = make_url(uri)
    file = _file(url)
    return url.set(database=str(file)).render_as_string(hide_password=False) if file else uri


def artifact_folder(uri: str) -> str | None:
    """Return the folder for the artifacts of a new experiment; None: MLflow's or the server's own.

    MLflow would put it into the working directory, which need not be that of the next command.

    Args:
        uri: Address of the tracking store.
    """
    from sqlalchemy import make_url

    file = _file(make_url(uri)) if uri.startswith("sqlite:") else None
    return str(file.parent / ARTIFACTS) if file else None


def _open_file(url: "URL", uri: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file = _file(url)
    if file is None:  # a database in memory
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.parent):
        if not file.exists() or not file.stat().st_size:
            tables(url)
            # Here, so that the artifacts of MLflow's own experiment "Default" lie beside it, too.
            SqlAlchemyStore(uri, str(file.parent / ARTIFACTS))
            return
    tables(url)


def _file(url: "URL") -> Path | None:
    """Return the absolute path of a SQLite database, None where it is no plain file."""
    name = url.database or ":memory:"
    return None if name == ":memory:" or name.startswith("file:") else Path(name).resolve()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time make a database in `folder`, where that can be locked."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def tables(url: "URL") -> list[str]:
    """Connect to a database, and return the names of its tables.

    Raises:
        SQLAlchemyError: If it cannot be reached within 10 s, or refuses.
        ImportError: If the driver is not installed.
    """
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    arguments = {"connect_timeout": _CONNECT_SECONDS} if url.host else {}
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    return inspect(engine).get_table_names()


def _make_tables() -> None:
    """Have MLflow open its store, again while another process is making the tables."""
    from sqlalchemy.exc import DBAPIError

    deadline = time.monotonic() + _CREATE_SECONDS
    while True:
        try:
            MlflowClient()
        except DBAPIError as error:
            if time.monotonic() > deadline:
                raise
            logger.debug("another process makes the tables: %s", error)
            time.sleep(_PAUSE)
        else:
            return


def reason(error: BaseException) -> str:
    """Return in one line why a database cannot be opened or used."""
    if isinstance(error, ModuleNotFoundError):
        package = _DRIVERS.get(str(error.name), error.name)
        return f"its driver {error.name} is not installed: pip install '{package}'"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return text.splitlines()[0]


def _refusal(uri: str, error: Exception) -> str:
    return (
        f"the tracking database MLFLOW_TRACKING_URI={masked_address(uri)} cannot be opened "
        f"({masked(reason(error))}); check the address and who may read it, or set "
        "MLFLOW_TRACKING_URI to another one, such as sqlite:////home/me/mlflow.db"
    )
