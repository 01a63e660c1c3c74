"""A store in one DynamoDB table, behind a spool in a SQLite file.

An inference is in the spool before it is answered, and a thread ships what is there in batches. The
end of the process, or of DynamoDB, loses nothing: what is in the spool is shipped later. An item is
never changed, and its key is its ID, so that shipping it once more leaves it as it is.
"""

import contextlib
import dataclasses
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.paths import working_root
from spam_mlflow.config.schema import CONFIG, PositiveCount, Text
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import (
    DAY_SECONDS,
    FEEDBACK_COLUMNS,
    INFERENCE_COLUMNS,
    Feedback,
    Filters,
    Inference,
    id_seconds,
    timestamp,
)
from spam_mlflow.inference_store.shipper import Shipper
from spam_mlflow.inference_store.spool_lock import SpoolLock
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.store import RecordSettings, first_page, is_full
from spam_mlflow.inference_store.texts import TextPolicy
from spam_mlflow.storage.s3_errors import explained

SPOOL_FILE = "inferences-spool.db"
"""Name of the spool by default."""

TEXT_BYTES = 280_000
"""Bytes of a text that are kept: an item has at most 400 KB, and encryption adds a third."""

_INDEX = "by_stream"  # of the items of a day, by their own IDs
_INFERENCES, _FEEDBACK = "inferences", "feedback"
_SETTINGS, _DAYS = "settings", "days#"  # the ID of items that are neither, and what they begin with
_AT_ONCE = 25  # items of a batch; DynamoDB's limit
_FEEDBACK_AT_ONCE = 5  # of them, however many inferences wait
_LOOK_SECONDS = 0.2  # that a batch has to come together
_LONGEST_WAIT = 30.0  # seconds after several failures
_LONGEST_PAUSE = 5.0  # seconds for DynamoDB to have capacity, since others wait for the batch
_CLOSE_SECONDS = 5.0  # that shipping may take at the end
_READERS = 8  # requests at the same time for the feedback of a page
_FLOATS = ("spam_probability", "threshold")
_INTEGERS = ("expires", "text_length")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class DynamoSettings(RecordSettings):
    """See `conf/store/dynamodb.yaml`."""

    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")]
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None
    endpoint_url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None
    profile: Text | None
    spool: Text | None
    spool_rows: PositiveCount
    synchronous: Literal["normal", "full"]

    def open(self, create: bool = True, is_busy: bool = False) -> "DynamoStore":
        """Return the store. DynamoDB need not answer now: inferences wait in the spool.

        Args:
            create: Makes no difference, since the spool is not the store itself.
            is_busy: Whether a process of its own ships the spool.

        Raises:
            UserError: If the spool cannot be used, or there are no credentials or region.
        """
        texts = dataclasses.replace(TextPolicy.read(self.text), longest=TEXT_BYTES)
        path = Path(self.spool) if self.spool else working_root() / SPOOL_FILE
        client = self._client()
        spool = SqliteStore(path, texts, self.days, self.synchronous)
        shipper = Shipper(self) if is_busy else None
        return DynamoStore(client, self.table, spool, self.spool_rows, shipper)

    def _client(self) -> Any:
        from boto3.session import Session
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": 2}
        with explained("store=dynamodb"):
            return Session(profile_name=self.profile).client(
                "dynamodb",
                endpoint_url=self.endpoint_url,
                region_name=self.region,
                # All requests are made here, and DynamoDB checks them; boto3's own checks take
                # half of the time of a batch.
                config=Config(
                    connect_timeout=3,
                    read_timeout=10,
                    retries=retries,
                    parameter_validation=False,
                ),
            )


class DynamoStore:
    """Inferences and feedback in a table and a spool; see `Store` for what its methods do.

    Args:
        client: boto3's client of DynamoDB.
        table: Name of the table.
        spool: Where items wait.
        spool_rows: Inferences that may wait.
        shipper: Process that ships them; None for a thread of this one.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        spool: SqliteStore,
        spool_rows: int,
        shipper: Shipper | None = None,
    ) -> None:
        self._client, self._table, self._spool = client, table, spool
        self.texts, self.days = spool.texts, spool.days
        self._limit, self._waiting = spool_rows, spool.count()
        self._waiting_feedback = spool.count_feedback()
        self._lock, self._wake, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._shipping = SpoolLock(spool.path)
        self._are_days_known = False  # to the table
        self._shipped, self._error = 0, ""
        self._body = b""  # of the batch that is being written, within `_shipping`
        client.meta.events.register("before-call.dynamodb.BatchWriteItem", self._add_body)
        self._shipper = shipper
        self._thread = threading.Thread(target=self._ship_on, daemon=True)
        if self._waiting or self._waiting_feedback:
            self.ship()

    def add(self, inferences: Sequence[Inference]) -> int:
        """Store inferences durably, in the spool, and return how many.

        Raises:
            UserError: If the spool cannot be written, or is full.
        """
        if self._shipper is not None and self._waiting + len(inferences) > self._limit:
            self._recount()
        with self._lock:
            if self._waiting + len(inferences) > self._limit:
                raise UserError(
                    f"{self._waiting:,} inferences wait for DynamoDB, and store.spool_rows="
                    f"{self._limit} allows no more: {self.error or 'it is too slow'}"
                )
            self._waiting += len(inferences)
        stored = 0
        try:
            stored = self._spool.add(inferences)
        finally:
            self._count(stored - len(inferences))
        self.ship()
        return stored

    def find(self, inference_id: str) -> Inference | None:
        """Return an inference, None if there is none or it has expired."""
        waiting = self._spool.find(inference_id)
        if waiting is not None:
            return waiting
        with self._explained():
            found = self._client.get_item(
                TableName=self._table, Key=_key(inference_id, _INFERENCES), ConsistentRead=True
            ).get("Item")
        inference = _inference(found) if found else None
        return inference if inference and inference.expires > time.time() else None

    def page(self, filters: Filters, before: str | None, limit: int) -> list[Inference]:
        """Return the newest inferences, the newest first."""
        # The spool first: what is shipped meanwhile is then found twice, and not missed.
        found = {row.id: row for row in self._spool.page(filters, before, limit)}
        for day in [filters.day] if filters.day else self._days_back(before):
            if is_full(found.values(), limit) and day < min(row.day for row in found.values()):
                break
            for row in self._of_day(day, before, limit, filters):
                found.setdefault(row.id, row)
        return first_page(sorted(found.values(), key=lambda row: row.id, reverse=True), limit)

    def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback durably, in the spool.

        Raises:
            UserError: If the spool cannot be written, or is full.
        """
        if self._waiting_feedback >= self._limit:
            self._recount()
        if self._waiting_feedback >= self._limit:
            raise UserError(
                f"{self._waiting_feedback:,} items of feedback wait for DynamoDB, and "
                f"store.spool_rows={self._limit} allows no more: {self.error or 'it is too slow'}"
            )
        self._spool.add_feedback(feedback)
        with self._lock:
            self._waiting_feedback += 1
        self.ship()

    def feedback_of(self, inference_ids: Sequence[str]) -> list[Feedback]:
        """Return what each reporter said last of some inferences, the oldest first."""
        found = {item.id: item for item in self._spool.feedback_of(inference_ids)}
        with ThreadPoolExecutor(_READERS) as pool:
            for items in pool.map(self._items_of, inference_ids):
                said = [_feedback(item) for item in items if item["item"]["S"] != _INFERENCES]
                found |= {one.id: one for one in said if one.expires > time.time()}
        said_last = {
            (item.inference_id, item.reporter, item.kind): item
            for item in sorted(found.values(), key=lambda item: item.id)
        }
        return sorted(said_last.values(), key=lambda item: item.id)

    def feedback(self, after: str | None, limit: int) -> list[Feedback]:
        """Return feedback, the oldest first."""
        found = {item.id: item for item in self._spool.feedback(after, limit)}
        stored: list[Feedback] = []
        for day in reversed(list(self._days_back())):
            stream = _stream(_FEEDBACK, day)
            for item in self._query(stream, "own_id > :id", after or " ", forward=True):
                said = _feedback(item)
                if said.expires > time.time():
                    stored.append(said)
                if len(stored) >= limit:
                    break
            if len(stored) >= limit:
                break
        found |= {item.id: item for item in stored}
        return sorted(found.values(), key=lambda item: item.id)[:limit]

    def delete(self, inference_ids: Sequence[str]) -> None:
        """Delete inferences and what was said of them."""
        # What was read from the spool before would otherwise be shipped after this.
        with self._shipping.held():
            self._spool.delete(inference_ids)
            self._recount()
        for inference_id in inference_ids:
            self._delete_items(inference_id)

    def _delete_items(self, inference_id: str) -> None:
        for item in self._items_of(inference_id):
            key = {"id": item["id"], "item": item["item"]}
            with self._explained():
                self._client.delete_item(TableName=self._table, Key=key)

    def purge(self) -> int:
        """Delete what has expired in the spool; DynamoDB does so in its table by itself."""
        return self._spool.purge()

    def create(self) -> None:
        """Make the table with on-demand billing, its index, and the deletion of what expires.

        Raises:
            UserError: If DynamoDB refuses.
        """
        attributes = ("id", "item", "stream_day", "own_id")
        with self._explained():
            if self._table not in _tables(self._client):
                self._client.create_table(
                    TableName=self._table,
                    BillingMode="PAY_PER_REQUEST",
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": "S"} for name in attributes
                    ],
                    KeySchema=_key_schema("id", "item"),
                    GlobalSecondaryIndexes=[
                        {
                            "IndexName": _INDEX,
                            "KeySchema": _key_schema("stream_day", "own_id"),
                            "Projection": {"ProjectionType": "ALL"},
                        }
                    ],
                )
            waiter = self._client.get_waiter("table_exists")
            waiter.wait(TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        self._delete_expired()

    def stats(self) -> Mapping[str, float]:
        """Return the store's own metrics by name."""
        if self._shipper is not None:
            self._recount()
        oldest = self._spool.oldest(1)
        age = time.time() - id_seconds(oldest[0].id) if oldest else 0.0
        return {
            "spool_rows": self._waiting,
            "spool_feedback_rows": self._waiting_feedback,
            "spool_rows_limit": self._limit,
            "spool_oldest_seconds": age,
            "shipped_total": self._shipper.shipped if self._shipper else self._shipped,
            "shipping_failing": bool(self.error),
        }

    @property
    def error(self) -> str:
        """Why nothing is shipped; "" if it is."""
        return self._shipper.error if self._shipper else self._error

    def close(self) -> None:
        """Ship what is waiting, if that is quick; the rest stays in the spool."""
        self._ended.set()
        self._wake.set()
        if self._shipper is not None:
            self._shipper.close()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)
        self._spool.close()

    def ship(self) -> None:
        """Have the thread, or the process, ship what is in the spool."""
        if self._shipper is not None:
            self._shipper.start()
            return
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()
        self._wake.set()

    def _count(self, more: int) -> None:
        with self._lock:
            self._waiting += more

    def _recount(self) -> None:
        """Count anew what is waiting, since another process may have shipped some of it."""
        with self._lock:
            self._waiting = self._spool.count()
            self._waiting_feedback = self._spool.count_feedback()

    def _ship_on(self) -> None:
        """Ship the spool again and again, with pauses that grow while DynamoDB fails."""
        failures = 0
        while True:
            try:
                while self._ship_next():
                    failures, self._error = 0, ""
                failures, self._error = 0, ""
                self._recount()
            except UserError as error:
                if not self._error:
                    logger.warning("Inferences wait in the spool: %s", error)
                failures, self._error = failures + 1, str(error)
            except Exception:
                logger.exception("The spool cannot be shipped")
                failures, self._error = failures + 1, "see the log"
            if self._ended.is_set():
                return
            wait = min(_LOOK_SECONDS * 2**failures, _LONGEST_WAIT)
            if not failures:
                self._wake.wait()
                self._wake.clear()
            self._ended.wait(wait)  # so that a batch comes together

    def _ship_next(self) -> bool:
        with self._shipping.held():
            return self._ship()

    def _ship(self) -> bool:
        """Ship one batch, and return whether it was a full one, after which there may be more.

        Raises:
            UserError: If DynamoDB fails; the batch stays in the spool.
        """
        said = self._spool.oldest_feedback(_AT_ONCE)
        inferences = self._spool.oldest(_AT_ONCE - min(len(said), _FEEDBACK_AT_ONCE))
        said = said[: _AT_ONCE - len(inferences)]
        if not inferences and not said:
            return False
        if not self._are_days_known:
            self._put([_days_item(self.days)])
            self._are_days_known = True
        self._put([*map(_inference_item, inferences), *map(_feedback_item, said)])
        self._spool.remove([row.id for row in inferences], [item.id for item in said])
        with self._lock:
            self._waiting -= len(inferences)
            self._waiting_feedback -= len(said)
        self._shipped += len(inferences)
        return len(inferences) + len(said) == _AT_ONCE

    def _put(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Write a batch, and again what DynamoDB had no capacity for."""
        requests = {self._table: [{"PutRequest": {"Item": item}} for item in items]}
        pause = 0.05
        while requests := self._written(requests[self._table]):
            if pause > (1.0 if self._ended.is_set() else _LONGEST_PAUSE):
                raise UserError(f"DynamoDB has no capacity for table {self._table}")
            time.sleep(pause)
            pause *= 2

    def _written(self, puts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Write a batch, and return what DynamoDB had no capacity for.

        An item that it will never take is left out, or it would hold up all that come after it.
        """
        from botocore.exceptions import ClientError

        self._body = json.dumps({"RequestItems": {self._table: puts}}).encode()
        with self._explained():
            try:
                answer = self._client.batch_write_item(RequestItems={})
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "ValidationException":
                    raise
                if len(puts) == 1:
                    item = puts[0]["PutRequest"]["Item"]
                    logger.error("%s is not stored: %s", item["own_id"]["S"], error)
                    return {}
            else:
                return answer.get("UnprocessedItems") or {}
        left = [self._written([put]).get(self._table, []) for put in puts]
        waiting = [put for some in left for put in some]
        return {self._table: waiting} if waiting else {}

    def _add_body(self, params: dict[str, Any], **_: Any) -> None:
        """Put the batch into a request before it is signed.

        boto3 looks up what each value of an item may be, which takes half of a batch's time.
        """
        params["body"] = self._body

    def _days_back(self, before: str | None = None) -> Iterator[str]:
        """Yield the days from which there may be items, the newest first.

        Args:
            before: ID that the items' own IDs are smaller than; None for any.
        """
        now = time.time()
        newest = timestamp(id_seconds(before))[:10] if before else "~"
        for days in range(-1, self._longest_days() + 1):  # clocks of other machines may be ahead
            day = timestamp(now - days * DAY_SECONDS)[:10]
            if day <= newest:
                yield day

    def _longest_days(self) -> int:
        """Return the most days after which an item of the table expires, whoever has stored it."""
        known = [item["item"]["S"].removeprefix(_DAYS) for item in self._items_of(_SETTINGS)]
        return max([self.days, *map(int, known)])

    def _of_day(
        self, day: str, before: str | None, limit: int, filters: Filters
    ) -> list[Inference]:
        """Return a page of the inferences of a day that are wanted, the newest first."""
        items = self._query(_stream(_INFERENCES, day), "own_id < :id", before or "~", forward=False)
        now = time.time()
        wanted = (row for row in map(_inference, items) if row.expires > now and filters.takes(row))
        return first_page(wanted, limit)

    def _query(self, stream: str, condition: str, own_id: str, forward: bool) -> Iterator[Any]:
        """Yield the items of a stream in the order of their own IDs."""
        asked: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": _INDEX,
            "KeyConditionExpression": f"stream_day = :stream AND {condition}",
            "ExpressionAttributeValues": {":stream": {"S": stream}, ":id": {"S": own_id}},
            "ScanIndexForward": forward,
        }
        yield from self._all(asked)

    def _items_of(self, inference_id: str) -> list[Any]:
        """Return an inference's item and those of what was said of it."""
        asked = {
            "TableName": self._table,
            "KeyConditionExpression": "id = :id",
            "ExpressionAttributeValues": {":id": {"S": inference_id}},
            "ConsistentRead": True,
        }
        return list(self._all(asked))

    def _all(self, asked: dict[str, Any]) -> Iterator[Any]:
        while True:
            with self._explained():
                answer = self._client.query(**asked)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            asked = {**asked, "ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _delete_expired(self) -> None:
        """Have DynamoDB delete items once they have expired; others than AWS's may not know how."""
        try:
            with self._explained():
                known = self._client.describe_time_to_live(TableName=self._table)
                if known["TimeToLiveDescription"]["TimeToLiveStatus"] in ("ENABLED", "ENABLING"):
                    return
                self._client.update_time_to_live(
                    TableName=self._table,
                    TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"},
                )
        except UserError as error:
            logger.warning("Expired items are hidden, but not deleted: %s", error)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(
            f"DynamoDB table {self._table} (`inferences create store=dynamodb` makes it)"
        ):
            yield


def _tables(client: Any) -> set[str]:
    pages = client.get_paginator("list_tables").paginate()
    return {name for page in pages for name in page["TableNames"]}


def _key(inference_id: str, item: str) -> dict[str, dict[str, str]]:
    return {"id": {"S": inference_id}, "item": {"S": item}}


def _key_schema(hashed: str, sorted_by: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": hashed, "KeyType": "HASH"},
        {"AttributeName": sorted_by, "KeyType": "RANGE"},
    ]


def _stream(kind: str, day: str) -> str:
    return f"{kind}#{day}"


def _days_item(days: int) -> dict[str, Any]:
    """Return an item that says after how many days items expire; each number has its own."""
    name = f"{_DAYS}{days}"
    return {**_key(_SETTINGS, name), "own_id": {"S": name}}


def _inference_item(row: Inference) -> dict[str, Any]:
    place = {
        **_key(row.id, _INFERENCES),
        "stream_day": {"S": _stream(_INFERENCES, row.day)},
        "own_id": {"S": row.id},
    }
    return place | _attributes(row, INFERENCE_COLUMNS[1:])


def _feedback_item(said: Feedback) -> dict[str, Any]:
    place = {
        **_key(said.inference_id, f"{_FEEDBACK}#{said.id}"),
        "stream_day": {"S": _stream(_FEEDBACK, said.day)},
        "own_id": {"S": said.id},
    }
    return place | _attributes(said, FEEDBACK_COLUMNS[2:])


def _attributes(record: Inference | Feedback, names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes that have a value; fractions as text, since DynamoDB rounds them."""
    found = {name: getattr(record, name) for name in names}
    return {
        name: {"N": str(value)} if name in _INTEGERS else {"S": _text(value)}
        for name, value in found.items()
        if value is not None
    }


def _text(value: str | float) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _values(item: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        if name not in item:
            found[name] = None
        elif name in _INTEGERS:
            found[name] = int(item[name]["N"])
        else:
            found[name] = float(item[name]["S"]) if name in _FLOATS else item[name]["S"]
    return found


def _inference(item: Mapping[str, Any]) -> Inference:
    return Inference(item["id"]["S"], **_values(item, INFERENCE_COLUMNS[1:]))


def _feedback(item: Mapping[str, Any]) -> Feedback:
    own = item["own_id"]["S"]
    return Feedback(own, item["id"]["S"], **_values(item, FEEDBACK_COLUMNS[2:]))
