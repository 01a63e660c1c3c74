"""The store in DynamoDB, on two servers of other people."""

import dataclasses
import json
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from moto.server import ThreadedMotoServer
from support import dynamodb
from support.inferences import feedback, inference
from support.project import Project, require_one_line
from support.servers import S3Server

from spam_mlflow.errors import UserError
from spam_mlflow.gate.scoring_server import free_port
from spam_mlflow.inference_store import shipper, spool_lock
from spam_mlflow.inference_store import store as stores
from spam_mlflow.inference_store.dynamodb import TEXT_BYTES, DynamoSettings, DynamoStore
from spam_mlflow.inference_store.records import Filters, timestamp
from spam_mlflow.inference_store.spool_lock import SpoolLock
from spam_mlflow.inference_store.store import Forgotten, all_feedback, forget, inferences
from spam_mlflow.serving import app
from spam_mlflow.serving.recorder import Counts


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")


@pytest.fixture(scope="module", params=["moto", "dynalite"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "moto":
        server: S3Server = request.getfixturevalue("moto")
        yield server.url
        return
    with dynamodb.dynalite() as started:
        yield started


def settings(url: str, spool: Path, table: str, **changes: Any) -> DynamoSettings:
    values: dict[str, Any] = {
        "text": "plain",
        "days": 3,
        "tokens_file": None,
        "region": "eu-central-1",
        "endpoint_url": url,
        "profile": None,
        "spool_rows": 1000,
        "synchronous": "normal",
    }
    return DynamoSettings(table=table, spool=str(spool), **(values | changes))


def opened(url: str, spool: Path, table: str, is_busy: bool = False, **changes: Any) -> DynamoStore:
    return settings(url, spool, table, **changes).open(is_busy=is_busy)


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[DynamoStore]:
    made = opened(url, tmp_path / "spool.db", f"t-{uuid.uuid4()}")
    made.create()
    made.create()  # once more does no harm
    yield made
    made.close()


def shippers(parent: psutil.Process) -> list[psutil.Process]:
    """Return the processes that ship for another one."""
    return [p for p in parent.children() if "multiprocessing.spawn" in " ".join(p.cmdline())]


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shipped(store: DynamoStore) -> None:
    """Wait until nothing is in the spool."""
    wait(lambda: store.stats()["spool_rows"] == 0)


def test_what_is_stored_is_found_before_and_after_it_is_shipped(store: DynamoStore) -> None:
    now = time.time()
    days = [timestamp(now - 86_400)] * 40 + [timestamp(now)] * 50
    rows = [
        inference(f"text {n}", label="spam" if n % 2 else "ham", day=at[:10], at=at)
        for n, at in enumerate(days)
    ]
    rows[3] = dataclasses.replace(rows[3], spam_probability=5e-324, signals="{}")
    newest = rows[::-1]
    store.add(rows)
    for _ in range(2):
        assert list(inferences(store)) == newest
        assert store.page(Filters(), newest[9].id, 20) == newest[10:30]
        wanted = Filters(day=rows[0].day, label="spam")
        assert store.page(wanted, None, 100) == [row for row in newest if wanted.takes(row)]
        assert [store.find(row.id) for row in rows[::30]] == rows[::30]
        shipped(store)
    assert store.find(str(uuid.uuid4())) is None
    assert store.stats()["shipped_total"] == 90


def test_short_pages_leave_nothing_out_of_spool_and_table(
    store: DynamoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PAGE_CHARACTERS", 1_000)
    rows = [inference("a" * (600 * (n % 3))) for n in range(40)]
    store.add(rows[:20])
    shipped(store)
    # What waits came before, after and between what is in the table.
    monkeypatch.setattr(store, "_put", lambda _: store._ended.wait(5))
    store._spool.add([*rows[20:], *rows[5:10]])
    found = list(stores.pages(store))
    assert [row for page in found for row in page] == rows[::-1]
    assert max(map(len, found)) <= 4


def test_feedback_is_kept_beside_the_inference(store: DynamoStore) -> None:
    rows = [inference(str(n)) for n in range(3)]
    store.add(rows)
    said = [feedback(rows[n % 2].id, "spam", reporter=f"user {n}") for n in range(6)]
    for item in said:
        store.add_feedback(item)
    for _ in range(2):
        assert store.feedback_of([row.id for row in rows]) == said
        assert list(all_feedback(store)) == said
        assert store.feedback(said[1].id, 2) == said[2:4]
        shipped(store)
        wait(lambda: not store._spool.count_feedback())


def test_a_forgotten_message_is_gone_with_what_was_said_of_it(store: DynamoStore) -> None:
    gone, kept = inference("Zebediah"), inference("another")
    store.add([gone, kept])
    store.add_feedback(feedback(gone.id))
    shipped(store)
    assert forget(store, "Zebediah").deleted == 1
    assert list(inferences(store)) == [kept]
    assert not store.feedback_of([gone.id])


def test_the_longest_texts_are_cut_to_what_an_item_holds(store: DynamoStore) -> None:
    text = "\U0001f600" * 200_000
    row = inference(text, store.texts)
    store.add([row])
    shipped(store)
    found = store.find(row.id)
    assert found is not None
    assert found.text == text[: TEXT_BYTES // 4]
    assert found.text_length == 200_000


def test_a_redacted_text_that_grows_is_cut_and_a_bad_item_holds_up_nothing(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(url, tmp_path / "spool.db", f"t-{uuid.uuid4()}", text="redacted")
    grown = inference("a@b.c " * 46_000, store.texts)
    assert len(str(grown.text)) == TEXT_BYTES
    too_large = inference("x" * 500_000)
    rows = [inference("before"), too_large, inference("after"), grown]
    store.add(rows)  # while there is no table
    store.create()
    shipped(store)
    assert list(inferences(store)) == [rows[2], rows[0], grown]
    assert f"{too_large.id} is not stored" in caplog.text
    store.close()


@pytest.mark.parametrize("by", ["same", "other"])
def test_what_is_being_shipped_is_forgotten_too(by: str, store: DynamoStore, url: str) -> None:
    gone = inference("Zebediah")
    put = store._put
    # A lock of another file descriptor is as good as one of another process.
    other = opened(url, store._spool.path, store._table) if by == "other" else store

    def slow(items: Sequence[Any]) -> None:
        if items[0]["id"]["S"] == gone.id:
            forgetting.start()
            forgetting.join(0.5)
        put(items)

    forgetting = threading.Thread(target=other.delete, args=([gone.id],))
    store._put = slow  # type: ignore[method-assign]
    store.add([gone])
    shipped(store)
    forgetting.join()
    assert store.find(gone.id) is None
    if by == "other":
        other.close()


def test_old_and_long_texts_are_forgotten_by_a_store_of_fewer_days(
    store: DynamoStore, url: str, tmp_path: Path
) -> None:
    long, then = "\U0001f600" * 200_000, timestamp(time.time() - 10 * 86_400)
    at: dict[str, Any] = {"at": then, "day": then[:10]}
    server = opened(url, tmp_path / "server.db", store._table, days=12)
    rows = [inference("Zebediah", **at), inference("kept", **at), inference(long, server.texts)]
    server.add(rows)
    shipped(server)
    server.close()
    assert [row.id for row in inferences(store)] == [row.id for row in reversed(rows)]
    assert forget(store, "Zebediah") == Forgotten(1, 0, 0)
    assert forget(store, long[:-1]) == Forgotten(0, 0, 0)
    assert forget(store, long) == Forgotten(1, 0, 0)
    assert list(inferences(store)) == rows[1:2]


def test_a_batch_that_lasts_too_long_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_lock, "_SECONDS", 0.1)
    locks = [SpoolLock(tmp_path / "spool.db") for _ in range(2)]
    with (
        locks[0].held(),
        pytest.raises(UserError, match=r"another process .*spool\.db"),
        locks[1].held(),
    ):
        pass
    with locks[1].held():
        pass


def test_what_has_expired_is_not_seen(store: DynamoStore) -> None:
    row = inference(expires=int(time.time()) + 1)
    store.add([row])
    shipped(store)
    wait(lambda: time.time() > row.expires)
    assert store.find(row.id) is None
    assert not list(inferences(store))


def test_an_outage_costs_no_request_and_loses_nothing(tmp_path: Path) -> None:
    """The store is opened, filled by four threads and closed while DynamoDB is away."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    port, table = free_port(), "outage"
    url = f"http://127.0.0.1:{port}"
    rows = [inference(str(n)) for n in range(200)]
    store = opened(url, tmp_path / "spool.db", table)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: store.add([row]), rows[:100]))
    wait(lambda: store.stats()["shipping_failing"])
    assert store.find(rows[7].id) == rows[7]
    store.close()

    store = opened(url, tmp_path / "spool.db", table)  # as after the server was killed
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: store.add([row]), rows[100:]))
    assert store.stats()["spool_rows"] == 200
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        dynamodb.wait_for(url)
        store.create()
        shipped(store)
        assert sorted(row.id for row in inferences(store)) == [row.id for row in rows]
        assert not store.stats()["shipping_failing"]
        store.close()
    finally:
        server.stop()


def test_feedback_is_taken_while_dynamodb_is_away(tmp_path: Path) -> None:
    away = opened(f"http://127.0.0.1:{free_port()}", tmp_path / "s.db", "none", spool_rows=2)
    counts = Counts()
    parts = app.Parts(None, SimpleNamespace(counts=counts), away, None)  # type: ignore[arg-type]
    said = app.FeedbackBody(label="spam")
    items = [app._add(parts, str(uuid.uuid4()), said, "ann") for _ in range(2)]
    assert list(away._spool.feedback(None, 9)) == items
    assert (counts.unchecked_feedback, away.stats()["spool_feedback_rows"]) == (2, 2)
    with pytest.raises(UserError, match=r"2 items of feedback .*store\.spool_rows=2"):
        app._add(parts, str(uuid.uuid4()), said, "ann")
    with pytest.raises(UserError, match="is no ID"):
        app._add(parts, "x", said, "ann")
    away.close()


def test_feedback_is_shipped_among_many_inferences_and_alone(
    store: DynamoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    put = store._put

    def counted(items: Sequence[Any]) -> None:
        batches.append(sum("reporter" in item for item in items))
        put(items)

    monkeypatch.setattr(store, "_put", counted)
    monkeypatch.setattr(store, "ship", lambda: None)
    rows = [inference(str(n)) for n in range(50)]
    store.add(rows)
    for row in rows[:40]:
        store.add_feedback(feedback(row.id))
    monkeypatch.undo()
    monkeypatch.setattr(store, "_put", counted)
    store.ship()
    wait(lambda: not store._spool.count_feedback())
    assert [count for count in batches if count][:2] == [5, 5]
    assert len(store.feedback_of([row.id for row in rows])) == 40
    assert store.stats()["spool_feedback_rows"] == 0


def test_a_full_spool_refuses_more_and_says_why(tmp_path: Path) -> None:
    store = opened(f"http://127.0.0.1:{free_port()}", tmp_path / "s.db", "none", spool_rows=3)
    store.add([inference() for _ in range(3)])
    with pytest.raises(UserError, match=r"store\.spool_rows=3"):
        store.add([inference()])
    assert store.stats()["spool_rows"] == 3
    store.close()


def test_a_process_of_its_own_ships_and_is_started_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "_AGAIN_SECONDS", 0.0)
    store = opened(url, tmp_path / "spool.db", f"t-{uuid.uuid4()}", is_busy=True)
    store.create()
    rows = [inference(str(n)) for n in range(60)]
    store.add(rows[:30])
    shipped(store)
    wait(lambda: store.stats()["shipped_total"] == 30)
    for process in shippers(psutil.Process()):
        process.kill()
    wait(lambda: store.stats()["shipping_failing"])
    store.add(rows[30:])
    shipped(store)
    assert not store.stats()["shipping_failing"]
    assert sorted(row.id for row in inferences(store)) == [row.id for row in rows]
    store.close()
    assert not shippers(psutil.Process())


def test_a_process_that_ships_says_why_it_does_not(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    store = opened(away, tmp_path / "s.db", "none", is_busy=True, spool_rows=3)
    store.add([inference() for _ in range(3)])
    wait(lambda: store.stats()["shipping_failing"])
    with pytest.raises(UserError, match=r"store\.spool_rows=3 allows no more: DynamoDB"):
        store.add([inference()])
    store.close()


def test_the_process_that_ships_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import json, sys, time; from spam_mlflow.inference_store.dynamodb import DynamoSettings;"
        "DynamoSettings(**json.loads(sys.argv[1])).open(is_busy=True); time.sleep(60)"
    )
    chosen = json.dumps(dataclasses.asdict(settings("http://127.0.0.1:9", tmp_path / "s", "none")))
    command = [sys.executable, "-c", code, chosen]
    server = psutil.Popen(command)
    wait(lambda: shippers(server))
    children = server.children()
    server.kill()
    server.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_a_table_that_does_not_exist_is_an_error_of_one_line(
    moto: S3Server, bare_project: Project
) -> None:
    place = ("store=dynamodb", f"store.endpoint_url={moto.url}", "store.region=eu-central-1")
    spool = f"store.spool={bare_project.folder / 's.db'}"
    found = bare_project.run("inferences", "list", *place, spool, "store.table=nowhere")
    require_one_line(found, "`inferences create store=dynamodb` makes it")
    created = bare_project.run("inferences", "create", *place, spool, "store.table=made")
    assert created.returncode == 0, created.stderr
    assert bare_project.run("inferences", *place, spool, "store.table=made").returncode == 0
