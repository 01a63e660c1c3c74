"""CSV files of a run that are safe to open in a spreadsheet."""

from pathlib import Path

import pandas as pd
from support.project import ROOT, Project

from spam_mlflow.evaluation import comparison

FORMULA = '=HYPERLINK("http://evil.example";"{}")'


def write_messages(folder: Path) -> pd.DataFrame:
    """Write messages that all begin like formulas, and one without a label, and return them."""
    sample = pd.read_csv(ROOT / "spam_mlflow/data/sources/sample.csv", dtype=str).iloc[::3]
    texts = [FORMULA.format(text) for text in sample["text"]]
    table = pd.DataFrame({"text": texts, "label": sample["label"], "source": "-home"})
    rejected = pd.DataFrame({"text": ["+rejected"], "label": [""], "source": ["-home"]})
    pd.concat([table, rejected]).to_csv(folder / "own.csv", index=False)
    return table


def test_files_for_a_spreadsheet_hold_no_formula_and_are_read_as_they_were(
    project: Project,
) -> None:
    messages = write_messages(project.folder)
    own = ("data=csv", "data.path=own.csv", "data.source_column=source")
    quick = ("train.epochs=1", "train.obfuscated_fraction=0", "train.padded_fraction=0")
    done = project.run("main", *own, *quick, "safe_csv=true", "register=false")
    assert done.returncode == 0, done.stderr
    run = project.last_run()
    artifacts = Path(project.client.download_artifacts(run.info.run_id, ""))
    for name in ("predictions.csv", "rejected.csv", "split.csv"):
        cells = pd.read_csv(artifacts / name, dtype=str, keep_default_na=False)
        assert not cells.map(lambda cell: cell.startswith(tuple("=+-@"))).any(axis=None)
    with project.store_here():
        scored = comparison.load(run, "own", project.folder)
    assert set(scored.table["text"]) <= set(messages["text"])
    assert set(scored.table["source"]) == {"-home"}
