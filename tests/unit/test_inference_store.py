"""The store of inferences: IDs, what is kept of a text, and the SQLite file."""

import contextlib
import dataclasses
import json
import sqlite3
import stat
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from support.inferences import feedback, inference

from spam_mlflow.errors import UserError
from spam_mlflow.inference_store import reports, sqlite
from spam_mlflow.inference_store import store as stores
from spam_mlflow.inference_store.records import (
    Filters,
    Inference,
    id_seconds,
    is_id,
    new_feedback,
    new_id,
    timestamp,
)
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.store import Forgotten, all_feedback, forget, inferences, opened
from spam_mlflow.inference_store.texts import TextPolicy, TextSetting, redacted
from spam_mlflow.jobs import inferences as listing
from spam_mlflow.scorer.normalization import READ, normalize
from spam_mlflow.serving import exports, neighbors

KEY = b"a key that is long enough"
FORMS: list[TextSetting] = ["off", "hmac", "redacted", "encrypted", "plain"]
SECRET = "Meet me at the old mill, Zebediah"


def test_ids_are_uuids_of_version_7_that_grow() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    parsed = uuid.UUID(made[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 60
    assert is_id(made[0])
    assert not is_id(made[0].upper())
    assert not is_id("1; DROP TABLE inferences")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "i.db", TextPolicy("plain", KEY), 30, "normal")
    yield made
    made.close()


def test_pages_are_filtered_and_go_on_where_the_last_one_ended(store: SqliteStore) -> None:
    rows = [
        inference(str(n), label="spam" if n % 3 == 0 else "ham", day=f"2026-01-0{1 + n % 2}")
        for n in range(60)
    ]
    store.add(rows)
    newest = [row.id for row in reversed(rows)]
    pages, before = [], None
    while page := store.page(Filters(), before, 7):
        pages += [row.id for row in page]
        before = page[-1].id
        store.add([inference("later")])  # new rows do not shift the pages
    assert pages == newest
    wanted = Filters(day="2026-01-01", label="spam", version="1")
    assert [r.id for r in store.page(wanted, None, 60)] == [
        r.id for r in reversed(rows) if wanted.takes(r)
    ]
    assert not store.page(Filters(version="2"), None, 60)
    assert store.find(rows[5].id) == rows[5]


def test_every_row_of_many_threads_is_there_once(store: SqliteStore) -> None:
    batches = [[inference(str(n)) for n in range(5)] for _ in range(80)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.add, batches))
    found = [row.id for row in inferences(store)]
    assert sorted(found) == sorted(row.id for batch in batches for row in batch)
    with pytest.raises(UserError, match="UNIQUE"):
        store.add(batches[0])


def test_feedback_is_added_and_never_overwritten(store: SqliteStore) -> None:
    row = inference()
    store.add([row])
    said = [feedback(row.id, label) for label in ("spam", "ham", "spam")]
    for item in said:
        store.add_feedback(item)
    said.append(feedback(row.id, reporter="bob"))
    store.add_feedback(said[-1])
    said.append(feedback(row.id, kind="review"))
    store.add_feedback(said[-1])
    assert store.feedback_of([row.id, new_id()]) == said[2:]  # what each said last
    assert list(all_feedback(store)) == said
    assert store.feedback(said[0].id, 1) == said[1:2]


def test_what_has_expired_is_not_seen_and_then_deleted(store: SqliteStore) -> None:
    old, new = inference(expires=int(time.time())), inference()
    store.add([old, new])
    store.add_feedback(feedback(old.id, expires=int(time.time())))
    assert store.find(old.id) is None
    assert list(inferences(store)) == [new]
    assert store.purge() == 1
    assert (store.count(), store.count_feedback()) == (1, 0)


def test_a_purge_lets_others_insert_in_between(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_DELETED_AT_ONCE", 10)
    for _ in range(25):
        old = inference(expires=int(time.time()))
        store.add([old])
        store.add_feedback(feedback(old.id, expires=int(time.time())))
    left: list[int] = []

    def rest(_: float) -> None:
        store.add([inference()])
        left.append(store.count())

    monkeypatch.setattr(time, "sleep", rest)
    assert store.purge() == 25
    assert left == [16, 7, 3, 4]  # of 25, after ten, twice; then of feedback
    assert (store.count(), store.count_feedback()) == (4, 0)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_kept_of_a_text(form: TextSetting, tmp_path: Path) -> None:
    texts = TextPolicy(form, KEY)  # type: ignore[arg-type]
    store = SqliteStore(tmp_path / "i.db", texts, 30, "normal")
    row = inference(f"{SECRET}, ann@example.org, 555123", texts)
    store.add([row, inference("another", texts)])
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert (SECRET.encode() in kept) == (form in ("plain", "redacted"))
    assert (b"555123" in kept) == (form == "plain")
    shown = {
        "plain": f"{SECRET}, ann@example.org, 555123",
        "encrypted": f"{SECRET}, ann@example.org, 555123",
        "redacted": f"{SECRET}, name@example.com, 000000",
    }
    assert texts.reveal(row) == shown.get(form)
    assert (row.text_hmac is None) == (form == "off")
    assert row.text_length == len(f"{SECRET}, ann@example.org, 555123")
    store.close()


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_forgotten_message_is_in_no_file(form: TextSetting, tmp_path: Path) -> None:
    texts = TextPolicy(form, None if form in ("plain", "redacted") else KEY)  # type: ignore[arg-type]
    store = SqliteStore(tmp_path / "i.db", texts, 30, "normal")
    gone, kept = inference(SECRET, texts), inference("another", texts)
    store.add([gone, kept])
    store.add_feedback(feedback(gone.id, note="about Zebediah"))
    assert forget(store, SECRET).deleted == 1
    assert list(inferences(store)) == [kept]
    assert not store.feedback_of([gone.id])
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Zebediah" not in left
    assert gone.id.encode() not in left
    store.close()


@pytest.mark.parametrize("form", ["off", "hmac", "encrypted"])
@pytest.mark.parametrize("key", [None, b"another key, also long"])
def test_forgetting_fails_where_nothing_could_be_found(
    form: TextSetting, key: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [inference(SECRET, TextPolicy(form, KEY))]  # type: ignore[arg-type]
    rows.append(inference(SECRET, TextPolicy("plain", KEY)))
    with contextlib.closing(
        SqliteStore(tmp_path / "i.db", TextPolicy("off", key), 30, "normal")
    ) as store:
        store.add(rows)
        settings = SimpleNamespace(id=None, text=SECRET)
        todo = "1 were stored .*id=" if form == "off" else "1 were stored .*SPAM_STORE_KEY"
        with pytest.raises(UserError, match=todo):
            listing._forget(settings, store)  # type: ignore[arg-type]
        assert "1 inferences deleted" in capsys.readouterr().out
        assert list(inferences(store)) == rows[:1]


@pytest.mark.parametrize("form", FORMS[1:])
def test_another_text_is_told_from_one_that_is_forgotten(form: TextSetting) -> None:
    texts = TextPolicy(form, KEY, longest=50)  # type: ignore[arg-type]
    for text in ("\u20ac" * 40, "call 555123 " * 9, "short"):
        row = inference(text, texts)
        assert texts.is_of(row, text)
        assert texts.is_of(row, f"{text}!") is False
        if form not in ("hmac", "encrypted"):
            assert TextPolicy("off", longest=50).is_of(row, text)
            assert TextPolicy("off", longest=50).is_of(row, f"{text}!") is False


def test_hashes_of_earlier_releases_are_found(store: SqliteStore) -> None:
    row = inference(SECRET, TextPolicy("hmac", KEY))
    bare = dataclasses.replace(row, text_hmac=str(row.text_hmac).partition("-")[2])
    store.add([bare])
    assert forget(store, SECRET) == Forgotten(1, 0, 0)


def test_encrypted_text_needs_its_key_and_its_place() -> None:
    texts = TextPolicy("encrypted", KEY)
    row, other = inference(SECRET, texts), inference(SECRET, texts)
    assert row.text != other.text
    assert TextPolicy("encrypted", b"another key, also long").reveal(row) is None
    assert TextPolicy("plain").reveal(row) is None
    assert texts.reveal(dataclasses.replace(row, id=other.id)) is None


def test_the_key_is_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPAM_STORE_KEY", raising=False)
    assert TextPolicy.read("auto").form == "off"
    with pytest.raises(UserError, match="SPAM_STORE_KEY"):
        TextPolicy.read("encrypted")
    monkeypatch.setenv("SPAM_STORE_KEY", "short")
    with pytest.raises(UserError, match="at least 16"):
        TextPolicy.read("plain")
    monkeypatch.setenv("SPAM_STORE_KEY", KEY.decode())
    assert TextPolicy.read("auto") == TextPolicy("hmac", KEY)


@pytest.mark.parametrize(
    "unit", ["a", "1", "1 ", "a.", "a@", "@", "www.", "http://", "\ud800", "\0", "a" * 64 + "@"]
)
def test_texts_of_any_kind_are_kept(unit: str, store: SqliteStore) -> None:
    """Redaction takes time that grows with a text's length, not with its square."""
    text = unit * (200_000 // len(unit))
    redacted(text)
    row = inference(text)
    store.add([row])
    found = store.find(row.id)
    assert found is not None
    assert found.text == text.replace("\ud800", "?")


def test_addresses_are_redacted_whatever_their_length() -> None:
    text = f"mail {'b' * 70}@x.org, <bob+1@y.de>"
    assert redacted(text) == "mail name@example.com, <name@example.com>"
    assert len(str(TextPolicy("redacted", longest=50).seal("a@b.c " * 9, "").text)) == 50


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    path.touch(0o644)
    store = SqliteStore(path, TextPolicy("off"), 30, "normal")
    store.add([inference()])
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    store.close()


@pytest.mark.parametrize("kind", ["text", "other", "newer"])
def test_another_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    if kind == "text":
        path.write_text("this is no database, but a text of many words" * 100)
    else:
        if kind == "newer":
            SqliteStore(path, TextPolicy("off"), 30, "normal").close()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE runs (id INTEGER)")
            connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match=r"store\.path") as caught:
        SqliteStore(path, TextPolicy("off"), 30, "normal")
    assert "\n" not in str(caught.value)


def test_a_file_of_before_predicted_was_stored_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    SqliteStore(path, TextPolicy("plain"), 30, "normal").close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE inferences DROP COLUMN predicted")
    store = SqliteStore(path, TextPolicy("plain"), 30, "normal")
    row = inference(predicted="spam")
    store.add([row])
    assert store.find(row.id) == row
    store.close()


@pytest.mark.parametrize(
    ("policy", "found", "reason"),
    [
        (TextPolicy("encrypted", KEY), 3, None),
        (TextPolicy("hmac", KEY), 1, None),  # the very same message alone
        (TextPolicy("off"), 0, "the message is not stored"),
    ],
    ids=["encrypted", "hmac", "off"],
)
def test_similar_inferences_are_found_by_what_is_kept(
    tmp_path: Path, policy: TextPolicy, found: int, reason: str | None
) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "i.db", policy, 30, "normal")) as store:
        texts = [SECRET, f"{SECRET}!", f"Now {SECRET}", "of another kind", SECRET]
        rows = [inference(text, policy) for text in texts]
        store.add(rows)
        near = neighbors.similar(store, rows[-1])
    assert near["found"] == len(near["inferences"]) == found
    assert (near["reason"] or "").startswith(reason or "")
    if found:
        assert (near["inferences"][0]["similarity"], near["searched"]) == (1.0, 4)


def test_only_as_many_inferences_are_searched_as_the_limit_says(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "SEARCHED", 6)
    monkeypatch.setattr(neighbors, "_PAGE", 3)
    rows = [inference(SECRET) for _ in range(10)]
    store.add(rows)
    near = neighbors.similar(store, rows[0])
    assert (near["searched"], near["found"], len(near["inferences"])) == (6, 6, neighbors.SHOWN)


def test_only_what_is_needed_of_reports_stays_in_memory(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "OF_A_DAY", 2)
    row = inference("free " * 10_000, signals="{}")
    store.add([row])
    for reporter, kind in (*[("ann", "report")] * 4, ("ann", "review"), ("bob", "report")):
        store.add_feedback(feedback(row.id, reporter=reporter, kind=kind, note="x" * 1000))
    read = reports.read(store)
    assert (len(read.found), read.unreadable, read.beyond, read.late) == (4, 0, 2, 0)
    report = read.found[-1]
    assert (report.feedback.note, report.inference.text, report.inference.signals) == (
        "",
        None,
        None,
    )
    assert len(report.text) == READ
    assert normalize(report.text) == normalize("free " * 10_000)


def test_a_flood_of_reports_displaces_none_before_it_and_no_review(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "IN_ALL", 3)
    row = inference("Text WIN to 80086")
    store.add([row])
    store.add_feedback(feedback(inference("not stored").id, reporter="ann"))
    for number in range(8):
        store.add_feedback(feedback(row.id, reporter=f"reporter {number}"))
    store.add_feedback(feedback(row.id, reporter="ann", kind="review"))
    read = reports.read(store)
    assert [report.feedback.reporter for report in read.found] == [
        *(f"reporter {number}" for number in range(3)),
        "ann",
    ]
    assert (read.unreadable, read.beyond, read.late) == (1, 0, 5)


def test_feedback_has_the_day_of_its_id() -> None:
    said = new_feedback(new_id(), "spam", "ann", "report", "", 30)
    assert said.at == timestamp(id_seconds(said.id))
    assert said.day == said.at[:10]


def test_threads_that_come_and_go_leave_no_open_files(store: SqliteStore) -> None:
    def read() -> None:
        store.find(new_id())

    def open_files() -> int:
        for _ in range(20):
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
        opened = psutil.Process().open_files()
        return sum(file.path.startswith(str(store.path)) for file in opened)

    before = open_files()
    assert before > 0
    assert open_files() == before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 1)


@pytest.fixture
def refused(kind: str, store: SqliteStore) -> Inference:
    """An inference that the store cannot take."""
    known = inference("known")
    store.add([known])
    return known if kind == "stored already" else inference("odd", source="\ud800")


@pytest.mark.parametrize("kind", ["stored already", "not encodable"])
def test_those_who_wait_to_insert_share_a_transaction(
    store: SqliteStore, refused: Inference
) -> None:
    statements: list[str] = []
    store._writer.set_trace_callback(statements.append)
    rows = [[inference(f"{n}") for n in range(3)] for _ in range(5)]
    with ThreadPoolExecutor(6) as pool:
        with store._lock:
            added = [pool.submit(store.add, group) for group in rows]
            wait_until(lambda: len(store._waiting) == 5)
        assert [one.result(10) for one in added] == [3] * 5
        assert len([text for text in statements if text.startswith("INSERT")]) == 1
        with store._lock:  # one who cannot be stored keeps nobody else from it
            bad = pool.submit(store.add, [refused])
            good = [pool.submit(store.add, [inference("new")]) for _ in range(4)]
            wait_until(lambda: len(store._waiting) == 5)
        assert [one.result(10) for one in good] == [1] * 4
        with pytest.raises((UserError, UnicodeEncodeError), match=r"UNIQUE|surrogates"):
            bad.result(10)
    assert store.count() == 20


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_waits_for_a_locked_file_do_not_add_up(impatient: None, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "i.db", TextPolicy("plain"), 30, "normal")
    refused = []

    def add(_: int) -> None:
        with pytest.raises(UserError, match="locked"):
            store.add([inference()])
        refused.append(time.monotonic())

    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with ThreadPoolExecutor(30) as pool:
            list(pool.map(add, range(30)))
        assert max(refused) - start < 15  # 30 waits of a second without
    store.add([inference()])
    assert store.count() == 1
    store.close()


def test_what_another_process_keeps_in_the_log_is_not_called_deleted(
    impatient: None, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "i.db", TextPolicy("plain"), 30, "normal")
    row = inference(SECRET)
    store.add([row])
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM inferences").fetchall()
        with pytest.raises(UserError, match="-wal"):
            store.delete([row.id])
        other.execute("COMMIT")
    store.delete([row.id])
    assert SECRET.encode() not in b"".join(f.read_bytes() for f in tmp_path.iterdir())
    store.close()


def test_what_was_stored_before_a_failure_is_said(store: SqliteStore) -> None:
    twice = inference()
    rows = [inference() for _ in range(600)]
    store.add([twice])
    assert store.add([*rows, twice]) == 500
    assert store.count() == 501
    with pytest.raises(UserError):
        store.add([twice, *rows])


def test_only_serving_and_create_make_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "mistyped.db"
    settings = sqlite.SqliteSettings(
        text="off", days=30, tokens_file=None, path=str(path), synchronous="normal"
    )
    with pytest.raises(UserError, match=r"no inference store .*mistyped.db; set store.path"):
        opened(settings)
    assert not path.exists()
    opened(settings, create=True).close()
    opened(settings).close()


def test_pages_of_long_texts_are_short_and_leave_nothing_out(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stores, "PAGE_CHARACTERS", 1_000)
    rows = [inference("a" * (600 * (n % 3))) for n in range(20)]
    store.add(rows)
    newest = [row.id for row in reversed(rows)]
    found = [[row.id for row in page] for page in stores.pages(store)]
    assert [id_ for page in found for id_ in page] == newest
    assert max(map(len, found)) <= 4
    lines = "".join(exports.written(store, Filters(), "jsonl", safe=False)).splitlines()
    assert [json.loads(line)["id"] for line in lines] == newest
    settings = SimpleNamespace(day=None, version=None, label=None, limit=15)
    listing._list(settings, store)  # type: ignore[arg-type]
    listed = capsys.readouterr().out
    assert [id_ in listed for id_ in newest] == [True] * 15 + [False] * 5


def test_an_export_takes_no_more_memory_for_more_long_texts(store: SqliteStore) -> None:
    text = "\U0001f600" * 200_000
    for _ in range(60):
        store.add([inference(text)])
    tracemalloc.start()
    size = sum(map(len, exports.written(store, Filters(), "csv", safe=False)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 60 * len(text)
    assert peak < 30e6  # 48 MB are all texts


def test_many_reports_on_one_inference_do_not_fill_a_page(store: SqliteStore) -> None:
    row = inference()
    store.add([row])
    for n in range(120):
        store.add_feedback(feedback(row.id, reporter=f"user {n}"))
    (shown,) = exports.shown(store, [row])
    assert [said["reporter"] for said in shown["feedback"]] == [f"user {n}" for n in range(20, 120)]


def test_a_listed_source_commands_no_terminal(
    store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.add([inference(source="shop\x1b[2J")])
    settings = SimpleNamespace(day=None, version=None, label=None, limit=5)
    listing._list(settings, store)  # type: ignore[arg-type]
    assert "shop\ufffd[2J" in capsys.readouterr().out
