"""The page of a drift comparison, in a real browser."""

from pathlib import Path

import numpy as np
import pytest
from support import browser
from support.browser import Scheme

from spam_mlflow.drift import report
from spam_mlflow.drift.comparison import findings
from spam_mlflow.drift.reference import Reference, Sample
from spam_mlflow.drift.signals import Signals
from spam_mlflow.drift.windows import Windows

ATTACK = "</title><script>document.title = 'taken'</script>"
WHITE = "rgb(255, 255, 255)"


def sample(count: int, spam_share: float, source: str) -> Sample:
    draw = np.random.default_rng(count)
    spam = draw.random(count) < spam_share
    scores = np.clip(draw.normal(np.where(spam, 0.9, 0.1), 0.05), 0.01, 0.99)
    found = [Signals(0.1, "latin", n) for n in range(count)]
    return Sample.of(scores.tolist(), found, [source] * count)


@pytest.fixture(scope="module", params=["alarm", "too few"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a window with much more spam, and of one with too few messages."""
    known = sample(1500, 0.2, f"a source {8 * 'of_many_messages_'}")
    reference = Reference(frozenset(), known, 0.2)

    window = sample(1000 if request.param == "alarm" else 5, 0.6, ATTACK)
    found = findings(window, reference) if request.param == "alarm" else []
    windows = Windows(window, {"2026-11-25": window, "2026-11-26": window})
    folder = tmp_path_factory.mktemp("drift")
    period = "2026-11-25 09:00 to 2026-11-26 09:00 UTC"
    return report.write("Drift of version 1", windows, reference, found, period, folder)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_its_window(page: Path, scheme: Scheme) -> None:
    with browser.page(page.as_uri(), color_scheme=scheme) as opened:
        assert opened.value("document.title") == "Drift of version 1"
        dark = opened.value("getComputedStyle(document.body).backgroundColor") != WHITE
        assert dark == (scheme == "dark")
        for width in (1600, 360):
            opened.opened.set_viewport_size({"width": width, "height": 900})
            assert opened.value("document.documentElement.scrollWidth") <= width
            assert opened.cut_off(scrolling=".scroll") == []
            assert opened.accessibility_faults() == []
        assert ATTACK in opened.value("document.body.textContent")
        assert opened.problems == []


def test_the_page_is_printed_on_white_as_a_whole(page: Path) -> None:
    paper = {"width": 700, "height": 900}  # A4 without its margins
    with browser.page(page.as_uri(), color_scheme="dark", viewport=paper) as opened:
        opened.opened.emulate_media(media="print")
        assert opened.value("getComputedStyle(document.body).backgroundColor") == WHITE
        assert opened.cut_off() == []
