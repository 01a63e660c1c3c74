"""The job `score` on Spark, on files of this machine; `test_s3.py` has it read from a store."""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from support.project import ROOT, Project, require_one_line

from spam_mlflow.registry import loading

MODEL = "model_uri=models:/spam-classifier/1"
SPARK = ("engine=spark", "spark.master=local[2]")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")


def write_messages(folder: Path, rows: int) -> pd.DataFrame:
    """Write distinct messages, every fifth of which cannot be scored, and return the others."""
    texts = [f"Claim prize {n} now" if n % 5 else None for n in range(rows)]
    frame = pd.DataFrame({"id": range(rows), "text": texts})
    frame.to_parquet(folder / "messages.parquet")
    return frame.dropna()


def expected(project: Project, frame: pd.DataFrame) -> list[float]:
    with project.store_here():
        model = loading.load_model("models:/spam-classifier/1")
    return list(model.spam_probability(list(frame["text"])))


@needs_java
def test_spark_scores_as_this_machine_does_and_so_does_the_recipe(
    trained_project: Project,
) -> None:
    folder = trained_project.folder
    kept = write_messages(folder, 500)
    recipe = (ROOT / "docs/how-to/score.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    script = folder / "recipe.py"
    score = ["score", MODEL, "input=messages.parquet", "output=out", "id_column=id", *SPARK]
    # The job takes the session that is there, as on Databricks.
    script.write_text(
        f"{code.replace('@champion', '/1')}\n"
        f"from spam_mlflow.cli import main\n\nassert main({score}) == 0\n"
        f"assert main({[*score, 'output=again', 'threshold=0.3']}) == 0\n"
        "assert spark.range(3).count() == 3\n"
    )
    done = trained_project.call(sys.executable, str(script))
    assert done.returncode == 0, done.stderr
    scores = expected(trained_project, kept)
    for output in ("out", "again", "scored"):
        found = pd.read_parquet(folder / output).sort_values("id")
        assert list(found["id"]) == list(kept["id"])
        assert list(found["spam_probability"]) == scores


def test_without_java_there_is_one_line(trained_project: Project, tmp_path: Path) -> None:
    write_messages(tmp_path, 2)
    project = Project(trained_project.folder, {"JAVA_HOME": str(tmp_path)})
    done = project.run("score", MODEL, f"input={tmp_path}/*.parquet", "output=out", *SPARK)
    require_one_line(done, "engine=spark needs Java 17 or later, and there is none")
