"""Cells that a spreadsheet would take for formulas."""

from pathlib import Path

import pandas as pd
import pytest

from spam_mlflow.data import csv_cells

FORMULAS = ['=HYPERLINK("http://x";"y")', "+1", "-2+3", "@SUM(1)", "\t=x", "\r=x", "\uff1dx", "'=x"]
OTHERS = ["", "hi", "'tis", " =x", "a=b", "''", "'", "05", "null", 'say "=1"', "a\nb", "a\rb"]


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_every_text_is_read_as_it_was(safe: bool, name: str, tmp_path: Path) -> None:
    texts = [*FORMULAS, *OTHERS, *(f"'{text}" for text in FORMULAS + OTHERS)]
    table = pd.DataFrame({"text": texts, "score": [-0.5] * len(texts)})
    csv_cells.write(table, tmp_path / name, safe)
    pd.testing.assert_frame_equal(csv_cells.read(tmp_path / name, safe), table)
    written = (tmp_path / name).read_bytes()
    csv_cells.write(table, tmp_path / name, safe)
    assert (tmp_path / name).read_bytes() == written


def test_in_a_safe_file_no_text_begins_like_a_formula(tmp_path: Path) -> None:
    csv_cells.write(pd.DataFrame({"text": FORMULAS}), tmp_path / "x.csv", safe=True)
    cells = pd.read_csv(tmp_path / "x.csv")["text"]
    assert [cell[0] for cell in cells] == ["'"] * len(FORMULAS)


def test_numbers_and_other_texts_are_left_alone(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": OTHERS, "score": -1.5})
    for safe in (True, False):
        csv_cells.write(table, tmp_path / f"{safe}.csv", safe)
    assert (tmp_path / "True.csv").read_bytes() == (tmp_path / "False.csv").read_bytes()
