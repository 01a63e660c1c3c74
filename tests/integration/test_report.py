"""The report page, in a real browser."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score
from support import browser
from support.browser import Scheme, run_in_page
from support.project import Trained
from support.scorers import FirstWord

from spam_mlflow.evaluation import explorer, report
from spam_mlflow.evaluation.explorer import ModelScores
from spam_mlflow.tracking.run_folder import REPORT_FILE

ATTACK = "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)> &pound;5"
WHITE = "rgb(255, 255, 255)"
THRESHOLDS = (0.0, 0.1234, 0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, np.ndarray]:
    """The report of 10,000 messages, the first of which is an attack."""
    rng = np.random.default_rng(0)
    spam = rng.random(10_000) < 0.3
    scores = np.clip(rng.normal(np.where(spam, 0.8, 0.2), 0.25), 0.01, 0.99)
    scores[0], spam[0] = 0.999, False
    frame = pd.DataFrame({"label": np.where(spam, "spam", "ham"), "source": "a", "group": 0})
    frame["group"] = np.arange(len(frame)) // 2
    frame["text"] = [ATTACK, *(f"message number {n} of many words" for n in range(1, 10_000))]
    folder = tmp_path_factory.mktemp("report")
    training = pd.DataFrame({"text": ["message <b>seen</b> before"], "label": ["ham"]})
    model = ModelScores("m", scores, 0.5)
    report.write_run(frame, model, "a", [], folder, FirstWord(), training)
    return folder / REPORT_FILE, frame, scores


def test_the_slider_counts_as_scikit_learn_does(
    many: tuple[Path, pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    page, frame, scores = many
    script = """
    const at = (id) => document.getElementById(id), found = [];
    for (const t of THRESHOLDS) {
      at("slider").value = t;
      at("slider").dispatchEvent(new Event("input"));
      found.push(["tn", "fp", "fn", "tp", "f1"].map((id) => at(id).textContent.replace(/,/g, "")));
    }
    at("cheapest").click();
    const best = [+at("exact").value, +at("cost").textContent.replace(/,/g, "")];
    return {found, best};
    """.replace("THRESHOLDS", str(list(THRESHOLDS)))
    told = run_in_page(page, script)
    spam = (frame["label"] == "spam").to_numpy()
    for threshold, row in zip(THRESHOLDS, told["found"], strict=True):
        predicted = scores >= threshold
        assert [int(n) for n in row[:4]] == confusion_matrix(spam, predicted).ravel().tolist()
        assert float(row[4]) == pytest.approx(f1_score(spam, predicted), abs=1e-4)
    costs = [10 * (~spam & (scores >= t)).sum() + (spam & (scores < t)).sum() for t in scores]
    assert told["best"][1] == min(costs)


def test_messages_can_be_looked_through_and_stay_text(
    many: tuple[Path, pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    page, frame, scores = many
    script = """
    const at = (id) => document.getElementById(id);
    const wait = () => new Promise((done) => setTimeout(done, 300));
    const first = at("messages").children[0];
    const told = {title: document.title, text: first.querySelector(".message").textContent,
      elements: at("messages").querySelectorAll("img, script").length,
      marked: at("messages").children[1].querySelector("mark").textContent,
      near: first.querySelectorAll("details li").length + at("messages").children[1]
        .querySelector("details li").textContent,
      errors: at("found").textContent, items: at("messages").children.length};
    at("more").click();
    told.more = at("messages").children.length;
    told.focused = document.activeElement === at("messages").children[25];
    at("kind").value = "all";
    at("words").value = "NUMBER 77 ";
    at("words").dispatchEvent(new Event("input"));
    await wait();
    told.searched = [...at("messages").querySelectorAll(".message")].map((p) => p.textContent);
    return told;
    """
    told = run_in_page(page, script)
    assert told["title"] == "m"
    assert told["text"] == ATTACK.replace("&pound;", "£")
    assert told["elements"] == 0
    assert told["marked"] == "message"
    assert told["near"].endswith("message <b>seen</b> before")
    wrong = int(((scores >= 0.5) != (frame["label"] == "spam")).sum())
    assert told["errors"] == f"{wrong:,} of 10,000 messages, the first 25 shown"
    assert (told["items"], told["more"], told["focused"]) == (25, 50, True)
    assert told["searched"] == ["message number 77 of many words"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_training_is_accessible_and_fits_its_window(
    trained: Trained, scheme: Scheme
) -> None:
    address = (trained.artifacts / REPORT_FILE).as_uri()
    with browser.page(address, color_scheme=scheme) as page:
        dark = page.value("getComputedStyle(document.body).backgroundColor") != WHITE
        assert dark == (scheme == "dark")
        for width in (1600, 360):
            page.opened.set_viewport_size({"width": width, "height": 900})
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.cut_off(scrolling=".scroll") == []
            assert page.accessibility_faults() == []
        assert page.value("document.querySelectorAll('.features').length") > 0


def test_the_page_is_printed_on_white_as_a_whole_and_without_controls(
    many: tuple[Path, pd.DataFrame, np.ndarray], trained: Trained
) -> None:
    for file in (many[0], trained.artifacts / REPORT_FILE):
        paper = {"width": 700, "height": 900}  # A4 without its margins
        with browser.page(file.as_uri(), color_scheme="dark", viewport=paper) as page:
            page.opened.emulate_media(media="print")
            assert page.value("getComputedStyle(document.body).backgroundColor") == WHITE
            assert page.cut_off() == []
            assert page.shown("button, input, select, summary") == []
            assert page.shown(".bar, .dot, #at, #messages .message")
            assert (
                page.value("getComputedStyle(document.querySelector('.dot')).printColorAdjust")
                == "exact"
            )


def test_the_page_is_used_by_keyboard(many: tuple[Path, pd.DataFrame, np.ndarray]) -> None:
    _, frame, scores = many
    spam = (frame["label"] == "spam").to_numpy()
    with browser.page(many[0].as_uri()) as page:
        page.tab_to("slider")
        page.press("Home")
        assert page.value("document.getElementById('fn').textContent") == "0"
        page.press("End")
        assert page.value("document.getElementById('tp').textContent") == "0"
        page.tab_to("cheapest")
        page.press("Enter")
        chosen = float(page.value("document.getElementById('exact').value"))
        passed = f"{int((spam & (scores < chosen)).sum()):,}"
        assert page.value("document.getElementById('fn').textContent") == passed
        page.tab_to("kind")
        page.press("ArrowDown", "ArrowDown")
        page.wait(f"document.getElementById('found').textContent.startsWith('{passed} of')")
        page.tab_to("words")
        page.opened.keyboard.type("no such words")
        page.wait("document.getElementById('found').textContent.startsWith('0 of')")


def test_a_reference_to_no_character_is_shown_as_a_browser_does() -> None:
    huge = f"&#{'9' * 5000};"  # Python makes no number of so many digits
    frame = pd.DataFrame({"text": [f"win {huge} &pound;5"], "label": ["spam"], "source": ["a"]})
    model = ModelScores("m", np.array([0.1]), 0.5)
    found = explorer.data(frame.assign(group=0), [model], FirstWord(), frame)
    assert found["texts"] == ["win \ufffd £5"]
    assert found["near"][0] == [("win \ufffd £5", "spam", 1.0)]
    assert found["words"][0] == [(0, 3, 1.5)]


def test_nothing_comes_from_elsewhere(trained: Trained) -> None:
    text = (trained.artifacts / REPORT_FILE).read_text()
    assert 'src="http' not in text
    assert "@import" not in text
    assert "The gate has not judged this model yet" in text
