"""A store in one SQLite file: nothing to start, and several processes may use it."""

import contextlib
import dataclasses
import logging
import math
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from spam_mlflow import private_files
from spam_mlflow.config.paths import working_root
from spam_mlflow.config.schema import CONFIG, Text
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import (
    FEEDBACK_COLUMNS,
    INFERENCE_COLUMNS,
    Feedback,
    Filters,
    Inference,
    values,
)
from spam_mlflow.inference_store.store import RecordSettings, first_page
from spam_mlflow.inference_store.texts import TextPolicy

FILE = "inferences.db"
"""Name of the file by default."""

_FORMAT = 1  # of the tables; raised whenever older code would misread them
_BUSY_SECONDS = 10  # for which another process may hold the file
_BUSY_AGAIN = 0.1  # seconds to wait for it within _QUICK_SECONDS after it was waited for in vain
_QUICK_SECONDS = 5
_READERS = 8  # connections, each with two open files
_AT_ONCE = 500  # rows of a transaction, so that small requests do not wait long for large ones
_DELETED_AT_ONCE = 1_000  # rows of a transaction
_REST_SECONDS = 0.005  # between two of them
_VARIABLES = 500  # of a statement
_SCHEMA = """
CREATE TABLE inferences (
    id TEXT PRIMARY KEY, at TEXT NOT NULL, day TEXT NOT NULL, model_name TEXT NOT NULL,
    model_version TEXT NOT NULL, label TEXT NOT NULL, spam_probability REAL NOT NULL,
    threshold REAL NOT NULL, source TEXT NOT NULL, expires INTEGER NOT NULL,
    text_form TEXT NOT NULL, text TEXT, text_hmac TEXT, text_length INTEGER, signals TEXT,
    predicted TEXT
);
CREATE INDEX inferences_by_day ON inferences (day, id);
CREATE INDEX inferences_by_expiry ON inferences (expires);
CREATE TABLE feedback (
    id TEXT PRIMARY KEY, inference_id TEXT NOT NULL, at TEXT NOT NULL, day TEXT NOT NULL,
    label TEXT NOT NULL, reporter TEXT NOT NULL, kind TEXT NOT NULL, note TEXT NOT NULL,
    expires INTEGER NOT NULL
);
CREATE INDEX feedback_by_inference ON feedback (inference_id);
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class SqliteSettings(RecordSettings):
    """See `conf/store/sqlite.yaml`.

    Attributes:
        path: The file; None for FILE where a tracking store would be.
        synchronous: SQLite's setting of that name.
    """

    path: Text | None
    synchronous: Literal["normal", "full"]

    def open(self, create: bool = True, is_busy: bool = False) -> "SqliteStore":
        """Return the store.

        Args:
            create: Whether the file is made if it is missing.
            is_busy: Makes no difference.

        Raises:
            UserError: If the file cannot be used.
        """
        path = Path(self.path) if self.path else working_root() / FILE
        if not create and not path.exists():
            raise UserError(
                f"there is no inference store {path}; set store.path to the file that `serve` "
                "writes, or make one by `inferences create`"
            )
        return SqliteStore(path, TextPolicy.read(self.text), self.days, self.synchronous)


@dataclasses.dataclass(eq=False)
class _Waiting:
    """Rows that a thread waits to insert."""

    rows: Sequence[Sequence[Any]]
    is_stored: bool = False


class SqliteStore:
    """Inferences and feedback in a file; see `Store` for what its methods do.

    Writes take turns in one connection, and reads share a few others. With write-ahead logging,
    neither waits for the other, and what was committed survives the end of the process.

    Args:
        path: The file, which is created if it is missing.
        texts: How texts are stored.
        days: Days after which an item expires.
        synchronous: "normal" survives the process, "full" also a power failure.

    Raises:
        UserError: If the file cannot be used.
    """

    def __init__(self, path: Path, texts: TextPolicy, days: int, synchronous: str) -> None:
        self.path, self.texts, self.days = path, texts, days
        self._synchronous = synchronous
        self._lock, self._reading = threading.Lock(), threading.BoundedSemaphore(_READERS)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()  # those not in use
        self._connections: list[sqlite3.Connection] = []
        self._waiting: list[_Waiting] = []  # those who insert and have no turn yet
        self._timeout, self._quick_until = float(_BUSY_SECONDS), 0.0
        with self._explained():
            _create(path)
            self._writer = self._connect()
            with self._transaction() as cursor:
                _prepare(cursor, path)

    def add(self, inferences: Sequence[Inference]) -> int:
        """Store inferences durably, and return how many."""
        rows = [values(inference, INFERENCE_COLUMNS) for inference in inferences]
        for start in range(0, len(rows), _AT_ONCE):
            try:
                self._insert_inferences(rows[start : start + _AT_ONCE])
            except UserError as error:
                if start == 0:
                    raise
                logger.error("Only %s of %s inferences are stored: %s", start, len(rows), error)
                return start
        return len(rows)

    def find(self, inference_id: str) -> Inference | None:
        """Return an inference, None if there is none or it has expired."""
        where = "id = ? AND expires > ?"
        found = self._inferences(where, [inference_id, int(time.time())], 1)
        return found[0] if found else None

    def page(self, filters: Filters, before: str | None, limit: int) -> list[Inference]:
        """Return the newest inferences, the newest first."""
        asked = {"day": filters.day, "model_version": filters.version, "label": filters.label}
        terms = ["expires > ?"]
        arguments: list[int | str] = [int(time.time())]
        for column, value in asked.items():
            if value is not None:
                terms.append(f"{column} = ?")
                arguments.append(value)
        if before is not None:
            terms.append("id < ?")
            arguments.append(before)
        return self._inferences(" AND ".join(terms), arguments, limit)

    def oldest(self, limit: int) -> list[Inference]:
        """Return the oldest inferences, whether they have expired or not, the oldest first."""
        rows = self._select(INFERENCE_COLUMNS, "FROM inferences ORDER BY id LIMIT ?", [limit])
        return [Inference(*row) for row in rows]

    def oldest_feedback(self, limit: int) -> list[Feedback]:
        """Return the oldest feedback, whether it has expired or not, the oldest first."""
        rows = self._select(FEEDBACK_COLUMNS, "FROM feedback ORDER BY id LIMIT ?", [limit])
        return [Feedback(*row) for row in rows]

    def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback durably."""
        with self._explained(), self._turn():
            self._insert("feedback", FEEDBACK_COLUMNS, [values(feedback, FEEDBACK_COLUMNS)])

    def feedback_of(self, inference_ids: Sequence[str]) -> list[Feedback]:
        """Return what each reporter said last of some inferences, the oldest first."""
        rows: list[Any] = []
        for ids in _parts(inference_ids):
            wanted = f"inference_id IN ({_marks(ids)}) AND expires > ?"
            groups = "GROUP BY inference_id, reporter, kind"
            last = f"SELECT max(id) FROM feedback WHERE {wanted} {groups}"  # noqa: S608
            where = f"FROM feedback WHERE id IN ({last})"
            rows += self._select(FEEDBACK_COLUMNS, where, [*ids, int(time.time())])
        return sorted((Feedback(*row) for row in rows), key=lambda item: item.id)

    def feedback(self, after: str | None, limit: int) -> list[Feedback]:
        """Return feedback, the oldest first."""
        where = "FROM feedback WHERE id > ? AND expires > ? ORDER BY id LIMIT ?"
        rows = self._select(FEEDBACK_COLUMNS, where, [after or "", int(time.time()), limit])
        return [Feedback(*row) for row in rows]

    def delete(self, inference_ids: Sequence[str]) -> None:
        """Delete inferences and what was said of them."""
        for column, table in (("id", "inferences"), ("inference_id", "feedback")):
            self._delete(table, column, inference_ids)
        if not self._truncate_log():
            raise UserError(
                f"what was deleted is still in {self.path}-wal, since another process reads it; "
                "end that one, and delete the same once more"
            )

    def remove(self, inference_ids: Sequence[str], feedback_ids: Sequence[str]) -> None:
        """Delete items by their own IDs; SQLite overwrites its log when it comes round to that."""
        self._delete("inferences", "id", inference_ids)
        self._delete("feedback", "id", feedback_ids)

    def purge(self) -> int:
        """Delete what has expired, and return how many inferences that were."""
        now = int(time.time())
        deleted = self._delete_expired("inferences", now)
        self._delete_expired("feedback", now)
        if not self._truncate_log():
            logger.warning("What has expired stays in %s-wal until nobody reads it", self.path)
        return deleted

    def create(self) -> None:
        """Do nothing: the file was created when the store was opened."""

    def count(self) -> int:
        """Return how many inferences there are."""
        return int(self._select(("count(*)",), "FROM inferences", [])[0][0])

    def count_feedback(self) -> int:
        """Return how many items of feedback there are."""
        return int(self._select(("count(*)",), "FROM feedback", [])[0][0])

    def stats(self) -> Mapping[str, float]:
        """Return the store's own metrics by name."""
        return {"store_bytes": float(self.path.stat().st_size)}

    def close(self) -> None:
        """Close all connections; the last process that does so tidies the log away."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _inferences(self, where: str, arguments: Sequence[Any], limit: int) -> list[Inference]:
        """Return a page; rows are read one by one, since their texts may be long."""
        columns = ", ".join(INFERENCE_COLUMNS)
        asked = f"SELECT {columns} FROM inferences WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
        with self._explained(), self._reader() as reader:
            cursor = reader.execute(asked, [*arguments, limit])
            with contextlib.closing(cursor):
                return first_page((Inference(*row) for row in cursor), limit)

    def _select(self, columns: Sequence[str], rest: str, arguments: Sequence[Any]) -> list[Any]:
        with self._explained(), self._reader() as reader:
            return reader.execute(f"SELECT {', '.join(columns)} {rest}", arguments).fetchall()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that nobody else reads from meanwhile."""
        with self._reading:
            try:
                reader = self._readers.get_nowait()
            except queue.Empty:
                reader = self._connect()
            try:
                yield reader
            finally:
                self._readers.put(reader)

    def _insert_inferences(self, rows: Sequence[Sequence[Any]]) -> None:
        """Insert inferences, with those that other threads wait to insert: a group commit.

        Whoever has the turn inserts for all who wait, so that they share one transaction and, with
        synchronous=full, one wait for the disk.
        """
        mine = _Waiting(rows)
        self._waiting.append(mine)
        try:
            with self._explained(), self._turn():
                if not mine.is_stored:
                    self._insert_group(mine)
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(mine)

    def _insert_group(self, mine: "_Waiting") -> None:
        """Insert what is waiting, up to _AT_ONCE rows; if that fails, only one's own rows."""
        group, count = [mine], len(mine.rows)
        for other in list(self._waiting):
            if other is not mine and not other.is_stored and count + len(other.rows) <= _AT_ONCE:
                group.append(other)
                count += len(other.rows)
        try:
            self._insert(
                "inferences", INFERENCE_COLUMNS, [row for one in group for row in one.rows]
            )
        except sqlite3.OperationalError:  # such as a full disk, which is so for all of them
            raise
        except Exception:  # of any of the rows, also one that is none of SQLite's own
            group = [mine]
            self._insert("inferences", INFERENCE_COLUMNS, mine.rows)
        for one in group:
            one.is_stored = True

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows in one statement, which is a transaction by itself, within one's turn.

        Each step of SQLite lets go of the interpreter, and other threads keep it for a while.
        """
        marks = ", ".join([f"({_marks(columns)})"] * len(rows))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks}"  # noqa: S608
        self._writer.execute(statement, [value for row in rows for value in row])

    def _delete(self, table: str, column: str, ids: Sequence[str]) -> None:
        for part in _parts(ids):
            statement = f"DELETE FROM {table} WHERE {column} IN ({_marks(part)})"  # noqa: S608
            with self._explained(), self._transaction() as cursor:
                cursor.execute(statement, part)

    def _delete_expired(self, table: str, now: int) -> int:
        """Delete what has expired, few rows in each turn, so that none who insert wait long."""
        expired = f"SELECT rowid FROM {table} WHERE expires <= ? LIMIT {_DELETED_AT_ONCE}"  # noqa: S608
        statement = f"DELETE FROM {table} WHERE rowid IN ({expired})"  # noqa: S608
        deleted = 0
        while True:
            with self._explained(), self._transaction() as cursor:
                count = int(cursor.execute(statement, [now]).rowcount)
            deleted += count
            if count < _DELETED_AT_ONCE:
                return deleted
            time.sleep(_REST_SECONDS)  # a lock that is taken again at once is never given away

    def _truncate_log(self) -> bool:
        """Overwrite what was deleted in the log as well; return False if others do not let go."""
        ends = time.monotonic() + _BUSY_SECONDS
        while True:
            with self._explained(), self._turn():
                self._set_timeout(0)  # what is to be written need not wait for a reader
                (is_busy, *_) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not is_busy or time.monotonic() > ends:
                return not is_busy
            time.sleep(_BUSY_AGAIN)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Have the writing connection for a block; one time limit is for both this and the file.

        Otherwise the waits for a file that another process holds would add up.
        """
        ends = time.monotonic() + _BUSY_SECONDS
        if not self._lock.acquire(timeout=_BUSY_SECONDS):
            raise sqlite3.OperationalError("database is locked")
        try:
            now = time.monotonic()
            is_quick = now < self._quick_until
            self._set_timeout(_BUSY_AGAIN if is_quick else math.ceil(max(0.0, ends - now)))
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                self._quick_until = time.monotonic() + _QUICK_SECONDS
            raise
        finally:
            self._lock.release()

    def _set_timeout(self, seconds: float) -> None:
        if seconds != self._timeout:
            self._writer.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
            self._timeout = seconds

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._turn():
            cursor = self._writer.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk ends it by itself
                    cursor.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA secure_delete = ON")
        self._connections.append(connection)
        return connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"the inference store {self.path} cannot be used: {error}; set store.path to a "
                "file that you may write, on a disk with space"
            ) from error


def _create(path: Path) -> None:
    """Create the file if it is missing; only its owner may read it, and SQLite's files beside it.

    Raises:
        OSError: If that is not possible.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(private_files.descriptor(path, os.O_RDWR))


def _prepare(cursor: sqlite3.Cursor, path: Path) -> None:
    """Make the tables in a new file.

    Raises:
        UserError: If the file has other tables.
    """
    (found,) = cursor.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master").fetchall()}
    if not tables:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            cursor.execute(statement)
        cursor.execute(f"PRAGMA user_version = {_FORMAT}")
    elif found != _FORMAT or "inferences" not in tables:
        raise UserError(
            f"{path} is no inference store of format {_FORMAT}; set store.path to another file"
        )
    elif "predicted" not in {row[1] for row in cursor.execute("PRAGMA table_info(inferences)")}:
        cursor.execute("ALTER TABLE inferences ADD COLUMN predicted TEXT")  # of earlier releases


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _VARIABLES):
        yield ids[start : start + _VARIABLES]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
