"""Time the main job with and without MLflow, and the share of logging in it.

    python -m scripts.bench_logging --data-dir FOLDER [--repeats 5]

Four processes are timed in turns: one that only imports what the job imports; one that also imports
MLflow's store; the job with `track=false`; and the job as it is, which logs to SQLite and a folder.
Times are wall-clock seconds from process start to exit. The store exists before the first of them,
so that no time is spent on the creation of its tables.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from scripts.bench_main_job import seconds
from spam_mlflow.evaluation.tables import markdown

IMPORTS = (
    "import mlflow, mlflow.pyfunc, matplotlib.figure, sklearn.metrics, sklearn.model_selection, "
    "sklearn.linear_model, scipy.sparse, spam_mlflow.jobs.train; "
    "from spam_mlflow.scorer import keras_backend; keras_backend.load()"
)
STORE_IMPORTS = (
    "import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store, "
    "mlflow.data.pandas_dataset, git"
)
END = "import gc; gc.freeze()"  # as `spam_mlflow.cli.script` ends


def main() -> None:
    """Print median and range of the times, and the share of logging after the imports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    job = (
        sys.executable,
        "-m",
        "spam_mlflow",
        "main",
        f"data_dir={Path(arguments.data_dir).resolve()}",
    )
    commands = {
        "imports alone": (sys.executable, "-c", f"{IMPORTS}; {END}"),
        "imports alone, with the store": (
            *(sys.executable, "-c"),
            f"{IMPORTS}; {STORE_IMPORTS}; {END}",
        ),
        "main job, track=false": (*job, "track=false", "register=false"),
        "main job": job,
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        seconds(job, folder)  # creates the store
        for _ in range(arguments.repeats):
            for name, command in commands.items():
                taken[name].append(seconds(command, folder))
    rows = [
        (name, *(f"{f(values):.2f}" for f in (statistics.median, min, max)))
        for name, values in taken.items()
    ]
    print(markdown(("what", "seconds", "lowest", "highest"), rows))
    # The imports are subtracted from each job, so that those of the store do not count as logging.
    after = [
        (on - with_store, off - without)
        for without, with_store, off, on in zip(*taken.values(), strict=True)
    ]
    shares = [(on - off) / on for on, off in after]
    print(
        f"\nlogging: {statistics.median(shares):.0%} of the job's time after its imports", end=" "
    )
    print(f"({min(shares):.0%} to {max(shares):.0%})")


if __name__ == "__main__":
    main()
