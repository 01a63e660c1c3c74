"""The description of the registered model."""

import dataclasses

from spam_mlflow.registry import registry_page
from spam_mlflow.registry.aliases import Event

FIRST = Event(
    *("champion", "promote", "1", None, "2026-01-02T03:04:05+00:00", "ann", "first"), done=True
)
SECOND = dataclasses.replace(FIRST, version="2", previous="1", reason="a|b\n<b>*x*</b> [y](z)")


def test_promotions_are_a_table_with_the_latest_first_below_what_a_user_wrote() -> None:
    text = registry_page.described("Ask ann.", [FIRST, SECOND])
    introduction, table = text.split("<!-- promotion history -->")
    assert introduction.strip() == "Ask ann."
    rows = [line for line in table.splitlines() if line.startswith("| 2026")]
    assert rows == [
        "| 2026-01-02 03:04 &nbsp; | promote: champion is version 2, was 1 &nbsp; | ann &nbsp; "
        r"| a\|b &lt;b&gt;\*x\*&lt;/b&gt; \[y\](z) |",
        "| 2026-01-02 03:04 &nbsp; | promote: champion is version 1 &nbsp; | ann &nbsp; | first |",
    ]
    assert registry_page.described(text, [FIRST, SECOND]) == text


def test_moves_that_were_not_carried_out_are_left_out() -> None:
    text = registry_page.described("", [dataclasses.replace(FIRST, done=False)])
    assert "None yet." in text
    assert "Load the champion" in text


def test_a_new_description_links_to_the_runs() -> None:
    text = registry_page.described("", [], "#/experiments/1/runs")
    assert "[Compare the training runs](#/experiments/1/runs)" in text
    assert "experiments" not in registry_page.described("Ask ann.", [], "#/experiments/1/runs")


def test_a_long_history_is_cut_to_what_mlflow_takes() -> None:
    text = registry_page.described("", [dataclasses.replace(SECOND, reason="x" * 300)] * 40)
    assert len(text) <= 5000
    assert "earlier ones: see the command `history`" in text
