"""The report of a comparison, in a real browser."""

import pytest
from mlflow.entities import Run, RunData, RunInfo, RunTag
from support import browser
from support.predictions import predictions

from spam_mlflow.evaluation import report
from spam_mlflow.evaluation.comparison import Scored
from spam_mlflow.tracking.run_folder import REPORT_FILE

DATA = {"data.name": "own", "data.digest": "0123456789abcdef"}
ELSEWHERE = {"data.name": "other", "data.digest": "fedcba9876543210"}
LONG = (
    "ngram_linear on uci, epochs=3, cost=0.5, an_unbroken_name_of_a_setting_that_goes_on_and_on=1"
)


def scored(name: str, found: int, tags: dict[str, str], messages: int = 200) -> Scored:
    run_id = f"{found:02d}3456789abcdef"
    info = RunInfo(run_id, "0", "me", "FINISHED", 0, 0, "active", run_name=name)
    data = RunData(tags=[RunTag(*tag) for tag in tags.items()])
    return Scored(name, Run(info, data), predictions(found, found, messages))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on three runs, one of which was scored on other messages."""
    folder = tmp_path_factory.mktemp("report")
    runs = [
        scored(LONG, 95, {**DATA, "threshold.value": "0.7071067811865476"}),
        scored("earlier", 60, DATA),
        scored("elsewhere", 90, ELSEWHERE, messages=240),
    ]
    report.write([entry.run for entry in runs], runs, {}, folder)
    return (folder / REPORT_FILE).as_uri()


def test_the_chosen_threshold_is_exact_or_said_to_be_estimated(compared: str) -> None:
    with browser.page(compared) as page:
        page.opened.fill("#exact", "0.1")
        page.opened.click("#chosen")
        assert page.opened.input_value("#exact") == "0.7071067811865476"
        assert page.shown("#estimated") == []
        page.opened.select_option("#model", label="earlier")
        assert page.opened.text_content("#chosen") == "the chosen one, estimated"
        assert page.opened.input_value("#exact") == "0.5"
        assert len(page.shown("#estimated")) == 1


def test_the_slider_says_which_runs_and_data_it_is_of(compared: str) -> None:
    with browser.page(compared) as page:
        shown = page.opened.inner_text("#explorer")
        assert f"({LONG} and earlier: own (digest 01234567))" in shown.splitlines()[0]
        assert "elsewhere was scored on other messages" in shown
        assert "elsewhere" not in page.opened.inner_text("#model")


def test_every_cell_of_every_table_is_seen_on_a_phone(compared: str) -> None:
    with browser.page(compared, viewport={"width": 360, "height": 800}) as page:
        assert page.cut_off() == []
        cells = page.value("""[...document.querySelectorAll("td")].map((cell) => {
          const box = cell.getBoundingClientRect();
          return {left: box.left, right: box.right, text: cell.textContent,
            label: getComputedStyle(cell, "::before").content};
        })""")
        assert all(0 <= cell["left"] <= cell["right"] <= 360 for cell in cells)
        labels = {cell["label"] for cell in cells}
        for name in ("95 % interval", "messages", "minus", "fit, s", "earlier"):
            assert f'"{name}: "' in labels
        assert page.accessibility_faults() == []


def test_messages_are_written_in_the_direction_of_their_script(compared: str) -> None:
    with browser.page(compared) as page:
        directions = 'document.querySelectorAll(".message:not([dir=auto])").length'
        assert page.value(directions) == 0
        assert len(page.shown(".message")) > 25
