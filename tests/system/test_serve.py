"""The serving app: a process of its own, and clients that ask it over HTTP."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from support import browser
from support.browser import Page, Scheme
from support.project import Project, Trained, require_one_line
from support.servers import serve

from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.gate.scoring_server import free_port
from spam_mlflow.inference_store.records import Filters
from spam_mlflow.inference_store.sqlite import SqliteStore
from spam_mlflow.inference_store.store import inferences
from spam_mlflow.inference_store.texts import TextPolicy
from spam_mlflow.jobs import retrain

HAM, SPAM = "Ok, see you at seven then", "Subscribe to my channel for free gift cards"
TOKEN, SCORER = "all-of-it-0123456789abcdef", "scorer-0123456789abcdef"
# The labels in the list of the page, without what people said.
LISTED = "[...document.querySelectorAll('#list .about > :first-child')].map((s) => s.textContent)"
ODD = [
    "",
    '"',
    'a,"b"\r\nc',
    "=1+1",
    "\u202eevil\u202c",
    "<script>alert(1)</script>",
    "\0",
    "é" * 9,
]


@dataclasses.dataclass(frozen=True)
class App:
    """A running app, and the project that it was started in."""

    url: str
    project: Project
    process: Any

    def ask(self, method: str, path: str, token: str = TOKEN, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def score(self, texts: list[str], **body: Any) -> Any:
        answer = self.ask("POST", "/invocations", json={"inputs": texts, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextlib.contextmanager
def running(project: Project, *options: str, name: str = "i.db") -> Iterator[App]:
    """Serve the champion of a project."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "spam_mlflow", "serve", f"port={port}", "reload_seconds=0.3"),
        *(f"store.path={project.folder / name}", "store.text=plain", *options),
    ]
    url = f"http://127.0.0.1:{port}"
    for process in serve(command, project.folder, project.env(), f"{url}/ping"):
        yield App(url, project, process)


def promote(project: Project, version: str) -> None:
    project.client.set_registered_model_alias("spam-classifier", "champion", version)


@pytest.fixture(scope="module")
def champion(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two versions, the first of which is champion."""
    project = trained.copy(tmp_path_factory.mktemp("serve"))
    with project.store_here():
        client = project.client
        first = client.get_model_version("spam-classifier", "1")
        client.create_model_version(
            "spam-classifier", str(first.source), first.run_id, model_id=first.model_id
        )
        client.set_model_version_tag("spam-classifier", "1", "validation_status", "passed")
    promote(project, "1")
    return project


@pytest.fixture(scope="module")
def app(champion: Project) -> Iterator[App]:
    tokens = champion.folder / "tokens.yaml"
    everything = ["score", "feedback", "read"]
    entries = [
        {"name": "ops", "scopes": everything, "token": TOKEN, "speaks_for_others": True},
        {"name": "shop", "scopes": ["score", "feedback"], "token": SCORER},
    ]
    tokens.write_text(json.dumps(entries))
    tokens.chmod(0o600)
    with running(champion, f"store.tokens_file={tokens}") as started:
        yield started


def test_each_answer_has_the_ids_of_what_is_stored(app: App) -> None:
    texts = [HAM, SPAM, *ODD]
    answer = app.score(texts)
    assert (answer["model"]["name"], answer["model"]["version"]) == ("spam-classifier", "1")
    assert len(answer["inference_ids"]) == len(texts)
    threshold = app.get("/model")["threshold"]
    for text, inference_id, row in zip(
        texts, answer["inference_ids"], answer["predictions"], strict=True
    ):
        stored = app.get(f"/inferences/{inference_id}")
        assert (stored["text"], stored["text_length"]) == (text, len(text))
        assert (stored["model_name"], stored["model_version"]) == ("spam-classifier", "1")
        assert {key: stored[key] for key in ("label", "spam_probability")} == {
            key: row[key] for key in ("label", "spam_probability")
        }
        assert (stored["threshold"], stored["source"], stored["feedback"]) == (threshold, "ops", [])


def test_the_threshold_that_was_asked_for_is_stored(app: App) -> None:
    (inference_id,) = app.score([HAM], params={"threshold": 0.0})["inference_ids"]
    stored = app.get(f"/inferences/{inference_id}")
    assert (stored["label"], stored["threshold"]) == ("spam", 0.0)


def test_a_refused_request_is_answered_as_without_a_store(app: App) -> None:
    before = app.get("/inferences?limit=1")["inferences"]
    for body, status in (({"inputs": [HAM, None]}, 400), ("{nonsense", 400), ({}, 400)):
        data = body if isinstance(body, str) else json.dumps(body)
        answer = app.ask(
            "POST", "/invocations", data=data, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status
        assert "Traceback" not in answer.text
    assert app.get("/inferences?limit=1")["inferences"] == before


def test_pages_lead_through_all_inferences_once(app: App) -> None:
    made = app.score([f"message {n}" for n in range(7)])["inference_ids"]
    found, cursor = [], ""
    while True:
        page = app.get(f"/inferences?limit=3{cursor}")
        found += [row["id"] for row in page["inferences"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found[:7] == made[::-1]
    assert len(set(found)) == len(found)
    spam = app.get("/inferences?label=spam&version=1&limit=200")["inferences"]
    assert spam
    assert {row["label"] for row in spam} == {"spam"}
    assert not app.get("/inferences?day=2001-01-01")["inferences"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/inferences?limit=0", 400),
        ("/inferences?limit=100000", 400),
        ("/inferences?cursor=1'--", 400),
        ("/inferences?label=eggs", 400),
        ("/inferences?day=today", 400),
        ("/inferences?day=2026-02-30", 400),
        ("/inferences?lable=spam", 400),
        ("/inferences/export?format=csv&limit=3", 400),
        ("/inferences/nonsense", 400),
        ("/inferences/01a2177b-b9d1-7001-bb8d-690bd476aa42", 404),
        ("/inferences/export?format=xml", 400),
        ("/nowhere", 404),
    ],
)
def test_bad_addresses_are_refused_in_one_line(app: App, path: str, status: int) -> None:
    answer = app.ask("GET", path)
    assert answer.status_code == status
    assert len(answer.text) < 300
    assert set(answer.json()) == {"error_code", "message"}


def test_feedback_is_kept_beside_the_inference(app: App) -> None:
    (inference_id,) = app.score([SPAM])["inference_ids"]
    path = f"/inferences/{inference_id}/feedback"
    for token, reporter, label in (
        (TOKEN, " ann\u00a0", "spam"),
        (TOKEN, "\uff41nn", "ham"),  # a wide letter, and the same reporter
        (TOKEN, "bob", "spam"),
        (SCORER, None, "ham"),
    ):
        said = {"label": label, "note": "<b>\u202e"} | ({"reporter": reporter} if reporter else {})
        assert app.ask("POST", path, token, json=said).status_code == 201
    stored = app.get(f"/inferences/{inference_id}")
    assert stored["label"] == "spam"
    kept = [(one["reporter"], one["label"], one["kind"]) for one in stored["feedback"]]
    assert kept == [
        ("ops/ann", "ham", "report"),
        ("ops/bob", "spam", "report"),
        ("shop", "ham", "report"),
    ]
    for body, status in (
        ({"label": "eggs"}, 400),
        ({"label": "ham", "note": "x" * 1001}, 400),
        ({"label": "ham", "note": "x" * 30_000}, 413),
        ({"label": "ham", "more": 1}, 400),
        ({"label": "ham", "reporter": "ann\n"}, 400),
        ({"label": "ham", "reporter": " \u00a0"}, 400),
        ([], 400),
    ):
        assert app.ask("POST", path, json=body).status_code == status
    assert (
        app.ask("POST", path, SCORER, json={"label": "ham", "reporter": "ann"}).status_code == 403
    )
    other = {"Content-Type": "text/plain"}
    assert app.ask("POST", path, data='{"label": "ham"}', headers=other).status_code == 415
    missing = "/inferences/01a2177b-b9d1-7001-bb8d-690bd476aa42/feedback"
    assert app.ask("POST", missing, json={"label": "ham"}).status_code == 404


def test_the_words_of_a_message_contribute_to_its_score(app: App) -> None:
    text = "Subscribe to my \U0001f600 channel &amp; \ud83d win"
    found = app.ask("POST", "/explanations", SCORER, json={"inputs": [text]}).json()
    assert (found["model"]["version"], found["reason"]) == ("1", None)
    words = {text[word["start"] : word["end"]]: word["contribution"] for word in found["words"]}
    assert list(words) == text.split()
    assert words["Subscribe"] > 0
    logit = sum(words.values()) + sum(part["contribution"] for part in found["others"])
    (row,) = app.score([text])["predictions"]
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(row["spam_probability"], abs=1e-6)
    for body, status in (
        ({"inputs": [HAM, SPAM]}, 400),
        ({"inputs": [None]}, 400),
        ({"inputs": ["x" * 200_001]}, 400),
        ({"inputs": ["x" * 2_600_000]}, 413),
        ({"text": HAM}, 400),
    ):
        assert app.ask("POST", "/explanations", json=body).status_code == status
    form = {"Content-Type": "text/plain"}
    assert app.ask("POST", "/explanations", data="{}", headers=form).status_code == 415


def test_inferences_of_similar_messages_are_found(app: App) -> None:
    campaign = [f"Your zebra voucher number {n} is waiting, collect it at noon" for n in range(7)]
    *made, newest = app.score([*campaign, "nothing like the others at all"])["inference_ids"]
    said = {"label": "ham", "reporter": "ann"}
    assert app.ask("POST", f"/inferences/{made[3]}/feedback", json=said).ok
    near = app.get(f"/inferences/{made[-1]}/similar")
    assert (near["found"], near["reason"], len(near["inferences"])) == (6, None, 5)
    assert [row["id"] for row in near["inferences"]] == made[-2::-1][:5]  # alike: the newest first
    assert all(row["similarity"] > 0.5 for row in near["inferences"])
    assert [one["label"] for row in near["inferences"] for one in row["feedback"]] == ["ham"]
    assert app.get(f"/inferences/{newest}/similar")["inferences"] == []
    assert app.ask("GET", f"/inferences/{made[0]}/similar", SCORER).status_code == 403


def test_an_export_is_read_back_as_it_was_stored(app: App) -> None:
    texts = [text for text in ODD if text != "\0"]
    made = app.score(texts)["inference_ids"]
    path = f"/inferences/{made[0]}/feedback"
    assert app.ask("POST", path, json={"label": "ham", "note": 'a "quoted", note'}).ok
    lines = app.ask("GET", "/inferences/export?format=jsonl").text.splitlines()
    as_json = {row["id"]: row for row in map(json.loads, lines)}
    content = app.ask("GET", "/inferences/export").content.decode()
    as_csv = {row["id"]: row for row in csv.DictReader(io.StringIO(content, newline=""))}
    assert set(as_csv) == set(as_json)
    for inference_id, text in zip(made, texts, strict=True):
        assert as_csv[inference_id]["text"] == as_json[inference_id]["text"] == text
    assert json.loads(as_csv[made[0]]["feedback"]) == as_json[made[0]]["feedback"]
    safe = app.ask("GET", "/inferences/export?safe=true").text
    assert '"\'=1+1"' in safe


def test_a_scorer_may_not_read_and_a_stranger_may_do_nothing(app: App) -> None:
    assert app.ask("GET", "/inferences", SCORER).status_code == 403
    assert app.ask("POST", "/invocations", SCORER, json={"inputs": [HAM]}).ok
    for path in ("/", "/docs", "/openapi.json", "/model", "/inferences", "/metrics"):
        assert app.ask("GET", path, "wrong").status_code == 401
    assert requests.get(f"{app.url}/ping", timeout=5).ok


def test_a_body_is_read_no_further_than_it_may_be_long(app: App) -> None:
    """MLflow's server would keep all of it, and answers its own middleware's errors with 500."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 400:
            sent += 1
            yield b"a" * 1_000_000

    form = {"Content-Type": "application/json"}
    try:
        answer = app.ask("POST", "/invocations", data=endless(), headers=form)
        assert answer.status_code == 413
        assert answer.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    except requests.ConnectionError:
        pass  # it was still sending when the server had closed the connection
    assert sent < 100


def test_the_pages_of_the_app_load_nothing_from_elsewhere(app: App) -> None:
    page = app.ask("GET", "/docs")
    assert "/inferences/{inference_id}/feedback" in page.text
    assert "://" not in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert app.ask("GET", "/redoc").status_code == 404
    assert "/inferences/export" in app.get("/openapi.json")["paths"]
    assert app.ask("GET", "/version").ok


@pytest.fixture
def page(app: App) -> Iterator[Page]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with browser.page(f"{app.url}/", headers) as opened:
        opened.wait("document.getElementById('model').textContent.includes('version 1')")
        yield opened
        assert not opened.problems


def submit(page: Page, text: str) -> None:
    page.value(f"document.getElementById('text').value = {json.dumps(text)}")
    page.value("document.getElementById('text').focus()")
    page.press("Control+Enter")


def check(page: Page, text: str) -> None:
    submit(page, text)
    page.wait(
        "/^This is (ham|spam)\\.( Low confidence: .*)?$/"
        ".test(document.getElementById('status').textContent)"
    )


def test_the_page_shows_label_probability_words_and_takes_feedback(app: App, page: Page) -> None:
    text = (
        "Subscribe to my channel <script>document.title='hit'</script><img src=x onerror=alert(1)>"
    )
    check(page, text)
    (newest,) = app.get("/inferences?limit=1")["inferences"]
    assert (newest["text"], newest["source"]) == (text, "page")
    assert (
        page.value("document.getElementById('verdict').textContent") == f"This is {newest['label']}"
    )
    shown = float(page.value("document.getElementById('bar').getAttribute('aria-valuenow')"))
    assert shown == pytest.approx(newest["spam_probability"], abs=1e-4)
    assert page.value("document.getElementById('words').textContent") == text
    assert page.value("document.querySelectorAll('#words .word').length") > 0
    assert page.value("document.querySelector('#others td').textContent") == "intercept"
    assert page.value("document.getElementById('reason').textContent") == ""
    assert (
        page.value("document.querySelectorAll('#words script, #words img, #list img').length") == 0
    )
    assert page.value("document.title") == "Spam classifier"
    assert newest["text"] in page.value("document.querySelector('#list .text').textContent")
    # By keyboard alone: from the message over the button to the judgment.
    page.value("document.getElementById('text').focus()")
    page.press("Tab", "Tab", "Tab")
    assert page.value("document.activeElement.textContent") == "It is spam"
    page.press("Enter")
    page.wait("document.getElementById('status').textContent === 'Noted: it is spam.'")
    said = app.get(f"/inferences/{newest['id']}")["feedback"]
    assert [(one["label"], one["reporter"]) for one in said] == [("spam", "ops")]
    page.wait("document.querySelector('#list .about').textContent.includes('ops: spam')")
    assert page.value("document.activeElement.textContent") == "It is spam"


def test_the_page_shows_the_message_that_was_checked_last(page: Page) -> None:
    """Although the answer to the one before comes later."""
    held: list[Any] = []
    page.opened.route("**/invocations", lambda route, _: held.append(route), times=1)
    with page.opened.expect_request("**/invocations"):
        submit(page, SPAM)
    check(page, HAM)
    shown = page.value("document.getElementById('result').innerHTML")
    with page.opened.expect_response("**/invocations") as late:
        held[0].continue_()
    late.value.finished()
    page.value("fetch('model').then((answer) => answer.json())")  # whose answer comes still later
    assert page.value("document.getElementById('result').innerHTML") == shown
    assert page.value("document.getElementById('words').textContent") == HAM


def test_the_page_warns_where_a_text_is_unlike_what_was_trained_on(page: Page) -> None:
    check(page, "Привет как дела дорогой друг")
    reason = "Low confidence: 5 of 5 words are unknown to the model."
    assert page.shown("#doubt")
    shown = page.value("document.getElementById('doubt').textContent")
    assert shown == f"{reason} Do not act on this label."
    assert reason in page.value("document.getElementById('status').textContent")
    assert page.accessibility_faults() == []
    page.opened.set_viewport_size({"width": 360, "height": 700})
    assert page.cut_off() == []
    check(page, HAM)
    assert page.shown("#doubt") == []


def test_the_page_shows_similar_messages_and_takes_feedback_on_them(app: App, page: Page) -> None:
    text = "Your quagga parcel \U0001f600 is waiting at gate 12, come and collect it"
    (known,) = app.score([text.replace("12", "13")])["inference_ids"]
    check(page, text)
    flag = f"document.querySelector('#similar [data-inference=\"{known}\"]')"
    assert "100.0 % alike" in page.value(f"{flag}.querySelector('.about').textContent")
    page.value(f"{flag}.querySelector('button').click()")
    page.wait(f"{flag}.querySelector('.flag')?.textContent === 'ops: ham'")
    assert [one["label"] for one in app.get(f"/inferences/{known}")["feedback"]] == ["ham"]
    assert page.value("document.getElementById('words').textContent") == text
    assert page.value(
        "[...document.querySelectorAll('#words .word')].every((e) => !/\\s/.test(e.textContent))"
    )


def test_who_may_not_read_sees_the_verdict_and_may_judge(app: App) -> None:
    headers = {"Authorization": f"Bearer {SCORER}"}
    with browser.page(f"{app.url}/", headers) as opened:
        status = "document.getElementById('status').textContent"
        opened.wait(f"{status}.includes('scope')")
        opened.value("document.getElementById('text').value = 'of a scorer, and to be judged'")
        opened.value("document.getElementById('ask').requestSubmit()")
        opened.wait(
            f"/^This is (ham|spam)\\..* the token 'shop' has not the scope 'read'$/.test({status})"
        )
        assert opened.value("document.querySelectorAll('#words .word').length") > 0
        opened.value("document.querySelector('#judge button').click()")
        opened.wait(f"{status} === 'Noted: it is ham.'")
    (newest,) = app.get("/inferences?limit=1")["inferences"]
    assert [(one["label"], one["reporter"]) for one in newest["feedback"]] == [("ham", "shop")]


@pytest.mark.parametrize(
    "text", ["\u202eevil\u202c " * 20, "wow " * 50_000, "x" * 200_000], ids=len
)
def test_the_page_is_as_wide_as_a_telephone_whatever_the_text(page: Page, text: str) -> None:
    page.opened.set_viewport_size({"width": 360, "height": 700})
    light = page.value("getComputedStyle(document.body).backgroundColor")
    page.opened.emulate_media(color_scheme="dark")
    assert page.value("getComputedStyle(document.body).backgroundColor") != light
    check(page, text)
    assert page.value("document.documentElement.scrollWidth") <= 360
    assert page.value("document.getElementById('list').textContent.length") < 30_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_by_keyboard_and_printed(
    app: App, page: Page, scheme: Scheme
) -> None:
    page.opened.emulate_media(color_scheme=scheme)
    page.opened.set_viewport_size({"width": 360, "height": 700})
    check(page, f"{SPAM} https://{'a' * 100}")
    assert page.accessibility_faults() == []
    assert page.cut_off() == []
    page.tab_to("label")
    page.press("s")  # the choice that begins so
    page.press("Tab", "Enter")
    page.wait(f"{LISTED}.length > 0 && {LISTED}.every((label) => label === 'spam')")
    page.opened.emulate_media(media="print", color_scheme=scheme)
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.shown("button, select, input") == []
    assert page.shown("#fill, #words .word, #list .text")
    assert page.cut_off() == []


def test_the_page_filters_what_it_lists_and_names_its_parts(app: App, page: Page) -> None:
    app.score([HAM, SPAM] * 25)
    page.value("document.getElementById('label').value = 'ham'")
    page.value("document.getElementById('filters').requestSubmit()")
    page.wait(f"{LISTED}.length === 10 && {LISTED}.every((label) => label === 'ham')")
    page.value("document.getElementById('older').click()")
    page.wait(f"{LISTED}.length === 20")
    nameless = "[...document.querySelectorAll('button, input, select, textarea')].filter((e) => "
    assert page.value(f"{nameless} !e.textContent && !e.labels?.length).length") == 0
    assert page.value("document.documentElement.lang") == "en"


def test_a_moved_alias_is_followed_without_a_failing_request(app: App) -> None:
    ended, seen = threading.Event(), []

    def ask_on() -> None:
        while not ended.is_set():
            seen.append(app.score([HAM])["model"]["version"])

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(ask_on) for _ in range(3)]
        try:
            for version in ("2", "1"):
                promote(app.project, version)
                deadline = time.monotonic() + 60
                while seen[-1:] != [version] and time.monotonic() < deadline:
                    time.sleep(0.05)
        finally:
            ended.set()
        for client in clients:
            client.result()
    assert set(seen) == {"1", "2"}
    assert "1" in seen[-3:]  # two clients may have been answered by the former one meanwhile
    versions = {row["model_version"] for row in app.get("/inferences?limit=200")["inferences"]}
    assert versions == {"1", "2"}


def test_a_version_that_cannot_be_loaded_leaves_the_former_one(app: App, tmp_path: Path) -> None:
    client = app.project.client
    (tmp_path / "broken").mkdir()
    bad = client.create_model_version("spam-classifier", str(tmp_path / "broken"))
    promote(app.project, bad.version)
    deadline = time.monotonic() + 30
    while app.get("/model")["reload_error"] is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert app.get("/model")["reload_error"]
    assert "reload_failing 1" in app.ask("GET", "/metrics").text
    assert app.score([HAM])["model"]["version"] == "1"
    promote(app.project, "1")
    client.delete_model_version("spam-classifier", bad.version)


@pytest.fixture(scope="module")
def killed(champion: Project) -> tuple[Path, list[str]]:
    """A store whose server was killed twice under load, and the IDs that were answered."""
    answered: list[str] = []
    draw = random.Random(0)
    for _ in range(2):
        with running(champion, name="killed.db") as app, ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(_until_killed, app, answered) for _ in range(4)]
            time.sleep(draw.uniform(0.3, 1.0))
            os.killpg(app.process.pid, signal.SIGKILL)
            for client in clients:
                client.result()
    return champion.folder / "killed.db", answered


def test_what_was_answered_is_stored_once_although_the_server_is_killed(
    killed: tuple[Path, list[str]],
) -> None:
    path, answered = killed
    store = SqliteStore(path, TextPolicy("plain"), 30, "normal")
    stored = [row.id for row in inferences(store, Filters())]
    store.close()
    assert len(answered) > 100
    assert len(set(answered)) == len(answered)
    assert len(set(stored)) == len(stored)
    assert set(answered) <= set(stored)


def _until_killed(app: App, answered: list[str]) -> None:
    with requests.Session() as session, contextlib.suppress(requests.RequestException):
        while True:
            answer = session.post(
                f"{app.url}/invocations", json={"inputs": [HAM, SPAM]}, timeout=30
            )
            answered.extend(answer.json()["inference_ids"])


def test_stored_inferences_are_listed_exported_and_forgotten(
    champion: Project, killed: tuple[Path, list[str]]
) -> None:
    """After the server was killed, with what it left."""
    store = f"store.path={killed[0]}"
    listed = champion.run("inferences", "limit=5", store)
    assert len(re.findall(r"\| (?:ham|spam) [01]\.\d{4} ", listed.stdout)) == 5
    assert max(map(len, listed.stdout.splitlines())) <= 80
    file = champion.folder / "export.csv"
    assert champion.run("inferences", "export", store, f"output={file}").returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert champion.run("inferences", "forget", store, f"text='{HAM}'").returncode == 0
    left = champion.run("inferences", "export", "format=jsonl", store).stdout.splitlines()
    assert {json.loads(line)["text"] for line in left} == {SPAM}
    require_one_line(
        champion.run("inferences", "store=none"), "store=none: there is nothing stored"
    )


def test_what_cannot_be_served_is_an_error_of_one_line(champion: Project) -> None:
    open_to_all = ("serve", "host=0.0.0.0", f"store.path={champion.folder / 'no.db'}")
    require_one_line(champion.run(*open_to_all), "set store.tokens_file")
    path = f"store.path={champion.folder / 'no.db'}"
    missing = champion.run("serve", "port=0", path, "model_uri=models:/spam-classifier@challenger")
    require_one_line(missing, "names no registered version")
    bad = champion.run("serve", "port=0", f"store.path={champion.folder}")
    require_one_line(bad, "set store.path")


CAMPAIGN = [
    f"Your photo albums will be deleted {when}, {verb} the archive quota at once, dear member"
    for when in ("tonight", "on Friday", "this week", "soon")
    for verb in ("extend", "renew", "raise")
]


def test_what_people_say_becomes_a_new_version_that_is_served(champion: Project) -> None:
    """The whole loop: predict, report, retrain, gate, promote, follow the alias, roll back."""
    store = f"store.path={champion.folder / 'loop.db'}"
    command = ("retrain", "data=sample", "gate=sample", "gate.churn=0.5", store, "store.text=plain")
    with running(champion, name="loop.db") as app:
        texts = SampleSource().load().frame["text"].sample(288, random_state=0).tolist()
        answers = [app.score([text]) for text in [*texts, *CAMPAIGN]]
        ids = [answer["inference_ids"][0] for answer in answers]
        (doubted, *_) = (
            answer["inference_ids"][0]
            for answer in answers
            if answer["predictions"][0]["spam_probability"] > 0.9
        )
        before = app.score(CAMPAIGN)["predictions"]
        for inference_id in ids[-len(CAMPAIGN) :]:
            for reporter in ("ann", "bob"):
                said = {"label": "spam", "reporter": reporter}
                assert app.ask("POST", f"/inferences/{inference_id}/feedback", json=said).ok
        angry = {"label": "ham", "reporter": "mallory"}
        assert app.ask("POST", f"/inferences/{doubted}/feedback", json=angry).ok

        plan = json.loads(champion.run(*command, "dry_run=true").stdout)
        assert (plan["status"], plan["champion"], plan["version"]) == ("dry run", "1", None)
        done = champion.run(*command)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary["status"] == "promoted"
        assert summary["labels"] == plan["labels"] > 0

        wait_for_version(app, summary["version"])
        after = app.score(CAMPAIGN)["predictions"]
        assert mean_score(after) > mean_score(before)
        assert json.loads(champion.run(*command).stdout)["status"] == "nothing new"
        assert champion.run("rollback", "reason=test").returncode == 0
        wait_for_version(app, "1")
        assert app.score(CAMPAIGN)["predictions"] == before
        listed = champion.run("inferences", "review", store).stdout
        assert f"{doubted} | spam  " in listed
        review = ("inferences", "review", store, f"id={doubted}", "label=spam", "reviewer=boss")
        assert champion.run(*review).returncode == 0
        assert doubted not in champion.run("inferences", "review", store).stdout


def wait_for_version(app: App, version: str) -> None:
    deadline = time.monotonic() + 60
    while app.get("/model")["version"] != version:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def mean_score(predictions: list[dict[str, Any]]) -> float:
    return sum(row["spam_probability"] for row in predictions) / len(predictions)


def test_only_one_process_retrains(champion: Project) -> None:
    with champion.store_here(), retrain._lock() as is_free:
        assert is_free
        done = champion.run("retrain", f"store.path={champion.folder / 'loop.db'}")
    assert done.returncode == retrain.BUSY
    assert json.loads(done.stdout)["status"] == "busy"
