"""Databases of studies: a file, for one process, or a server, for processes on several machines."""

import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spam_mlflow.config.masking import masked, masked_address, remember
from spam_mlflow.config.paths import working_root
from spam_mlflow.errors import UserError
from spam_mlflow.tracking import store

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy import URL, Connection, Engine

_FILE = "sweeps.db"
_LOCK = "lock"  # user attribute of a study, whose row is locked
_BEATS = 4  # heartbeats before a trial without one counts as lost
_ATTEMPTS = 5
_PAUSE = 0.5  # seconds between two attempts to make the tables
# What a client of PostgreSQL waits for; without, it would wait for a vanished server for hours.
_CLIENT_LIMITS = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
# Optuna compares heartbeats as local times of the session.
_IN_UTC = {
    "postgresql": "SET TIME ZONE 'UTC'",
    "mysql": "SET time_zone = '+00:00'",
    "mariadb": "SET time_zone = '+00:00'",
}
# A machine that has vanished from the network must not keep the lock, nor a process that hangs.
_LIMITS = {
    "tcp_keepalives_idle": "20",  # seconds
    "tcp_keepalives_interval": "10",  # seconds
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "'10min'",
}


class StudyDatabaseError(UserError):
    """The database of a study cannot be opened, or has failed while it was in use."""


@dataclass(frozen=True)
class StudyDatabase:
    """Where studies are kept.

    Attributes:
        url: The address as SQLAlchemy writes it, with the password.
        file: The SQLite file; None for a database server.
    """

    url: str = field(repr=False)
    file: Path | None = None

    @classmethod
    def of(cls, study_db: str | None) -> "StudyDatabase":
        """Return the database that a user names.

        Args:
            study_db: Path of a file, or the URL of a database; None means `sweeps.db` in the
                project root.

        Raises:
            UserError: If it is no valid URL.
        """
        if study_db is None or "://" not in study_db:
            return cls.in_file(Path(study_db or working_root() / _FILE))
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        shown = masked_address(study_db)
        if shown != study_db:
            remember(study_db, shown)  # in messages, too
        try:
            url = make_url(study_db)
        except (ArgumentError, ValueError) as error:
            raise StudyDatabaseError(cls(study_db).refusal(error)) from error
        store.require_escaped(url, "study_db")
        if url.get_backend_name() != "sqlite":
            return cls(study_db)
        if not url.database or url.database == ":memory:":
            raise UserError(f"study_db={study_db!r} names no file, so that no trial would be kept")
        return cls.in_file(Path(url.database))

    @classmethod
    def in_file(cls, file: Path) -> "StudyDatabase":
        """Return the database in a SQLite file."""
        path = file.expanduser().resolve()
        return cls(f"sqlite:///{path}", path)

    def __str__(self) -> str:
        return str(self.file or masked_address(self.url))

    def refusal(self, error: Exception) -> str:
        """Return in one line that the database cannot be opened, and why."""
        advice = "the address, such as postgresql://host/database, and who may connect"
        if self.file is not None:
            advice = "its folder, and who may write there"
        why = masked(store.reason(error))
        return f"study_db={self} cannot be opened ({why}); check {advice}"

    @contextlib.contextmanager
    def storage(self, lost_after: int | None = None) -> "Iterator[RDBStorage]":
        """Open Optuna's storage in this database; tables that are missing are made.

        Args:
            lost_after: Seconds after which a trial without a heartbeat counts as lost; None: no
                heartbeats are recorded.

        Yields:
            The storage, whose connections are closed in the end.

        Raises:
            StudyDatabaseError: If the database cannot be opened.
        """
        storage = self._opened(lost_after)
        try:
            yield storage
        finally:
            storage.engine.dispose()

    def _opened(self, lost_after: int | None) -> "RDBStorage":
        from sqlalchemy import make_url
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self.file is None:
                self._require_own(store.tables(make_url(self.url)))
            return self._made(lost_after)
        # A RuntimeError if another version of Optuna has made the tables.
        except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
            raise StudyDatabaseError(self.refusal(error)) from error

    def _require_own(self, tables: Sequence[str]) -> None:
        """Raise if another program has made tables, whose version Optuna would take for its own."""
        if "alembic_version" in tables and "studies" not in tables:
            raise StudyDatabaseError(
                f"study_db={self} has the tables of another program, such as MLflow; create a "
                "database of its own for studies"
            )

    def _made(self, lost_after: int | None) -> "RDBStorage":
        """Return the storage; it is tried again where other processes make the tables as well."""
        from sqlalchemy.exc import DBAPIError

        for _ in range(_ATTEMPTS - 1):
            try:
                return self._connected(lost_after)
            except DBAPIError:
                time.sleep(_PAUSE)
        return self._connected(lost_after)

    def _connected(self, lost_after: int | None) -> "RDBStorage":
        from optuna.exceptions import ExperimentalWarning
        from optuna.storages import RDBStorage
        from sqlalchemy import make_url

        # Optuna fills in a template, as which the braces of a password are not meant.
        url = self.url.replace("{", "{{").replace("}", "}}")
        options = {
            "pool_pre_ping": True,  # the server may have been restarted
            "connect_args": _limits(make_url(self.url)),
        }
        interval = max(1, lost_after // _BEATS) if lost_after else None
        with warnings.catch_warnings():  # heartbeats have been experimental for years
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(url, options, heartbeat_interval=interval, grace_period=lost_after)
        _set_utc(storage.engine)
        return storage


def _limits(url: "URL") -> dict[str, int]:
    """Return what a driver takes as limits of a connection, other than those of the address."""
    if url.get_backend_name() != "postgresql" or not url.get_driver_name().startswith("psycopg"):
        return {}
    return {name: value for name, value in _CLIENT_LIMITS.items() if name not in url.query}


def _set_utc(engine: "Engine") -> None:
    """Have all sessions use one time zone, whatever the server's or the machine's is."""
    from sqlalchemy import event

    statement = _IN_UTC.get(engine.dialect.name)
    if statement is None:
        return

    def connected(connection: Any, _: Any) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)
        connection.commit()

    event.listen(engine, "connect", connected)
    engine.dispose()  # connections that were made before


@contextlib.contextmanager
def explained(database: StudyDatabase) -> Iterator[None]:
    """Raise StudyDatabaseError if the database of a study fails while it is in use."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
        raise StudyDatabaseError(
            f"study_db={database} has failed ({masked(store.reason(cause))}); the same command "
            "goes on with the sweep"
        ) from error


def add_lock(study: "optuna.Study") -> None:
    """Make the row that `exclusive` locks, if the study has none."""
    study.set_user_attr(_LOCK, "a row for a process to lock")


@contextlib.contextmanager
def exclusive(storage: "RDBStorage", study: "optuna.Study") -> Iterator[None]:
    """Let one process at a time work on a study; the others wait.

    Optuna itself locks a study's own row for moments, so that it is another row that is locked. A
    process that ends in any way loses the lock, since its connection ends.

    Args:
        storage: The study's storage, in a database that can lock rows.
        study: The study, with the row of `add_lock`.
    """
    from sqlalchemy import column, select, table

    attributes = table("study_user_attributes", column("study_id"), column("key"))
    row = (attributes.c.study_id == study._study_id, attributes.c.key == _LOCK)
    with storage.engine.begin() as connection:
        _limit(connection)
        connection.execute(select(attributes.c.key).where(*row).with_for_update()).one()
        yield


def _limit(connection: "Connection") -> None:
    if connection.dialect.name == "postgresql":
        for name, value in _LIMITS.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
