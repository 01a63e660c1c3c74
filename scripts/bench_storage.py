"""Time the main job with its artifacts in a local folder, on S3, and behind a tracking server.

    python -m scripts.bench_storage --data-dir FOLDER [--repeats 5]

Three stores are used in turns: SQLite and a folder; SQLite and S3, which the job accesses directly;
and `python -m scripts.stack`, which is PostgreSQL, S3 and MLflow's server. Times are wall-clock
seconds from process start to exit. The servers run on the same machine as the job.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from scripts.bench_main_job import seconds
from scripts.stack import BUCKET, Stack
from spam_mlflow.evaluation.tables import markdown

COMMAND = (sys.executable, "-m", "spam_mlflow")


def main() -> None:
    """Print median and range of the times, and their ratio to the local folder's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    data = f"data_dir={Path(arguments.data_dir).resolve()}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = Stack.open(
            folder / "stack", dict.fromkeys(("postgresql", "s3", "mlflow"), 0), False
        )
        try:
            stack.start()
            print_table(measure(folder, stack, data, arguments.repeats))
        finally:
            stack.stop()


def measure(folder: Path, stack: Stack, data: str, repeats: int) -> dict[str, list[float]]:
    """Return the wall time of each job in seconds, by where its artifacts go.

    Args:
        folder: Working directory of the jobs.
        stack: The running stack.
        data: Override that gives the data folder.
        repeats: Number of timed jobs per store.
    """
    endpoint = f"endpoint_url={stack.state.url('s3')}"
    direct = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'direct.db'}",
        **stack.state.s3_environment(),
    }
    stores: dict[str, dict[str, str]] = {
        "local folder, SQLite": {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'local.db'}"},
        "S3, SQLite": direct,
        "MLflow server, S3, PostgreSQL": stack.state.client_environment(),
    }
    bucket = ("bucket", f"bucket={BUCKET}", "prefix=direct", "storage=local", endpoint)
    seconds((*COMMAND, *bucket), folder, direct)
    taken: dict[str, list[float]] = {name: [] for name in stores}
    for number in range(repeats + 1):
        for name, variables in stores.items():
            wall = seconds((*COMMAND, "main", data), folder, variables)
            if number:  # the first job creates the databases' tables
                taken[name].append(wall)
    return taken


def print_table(taken: Mapping[str, list[float]]) -> None:
    """Print the times as a Markdown table.

    Args:
        taken: Seconds by where the artifacts go, the local folder first. The ratio to it is the
            median of the ratios of the single rounds.
    """
    local = next(iter(taken.values()))
    rows = []
    for name, values in taken.items():
        ratios = [value / reference for value, reference in zip(values, local, strict=True)]
        shown = (f"{f(values):.1f}" for f in (statistics.median, min, max))
        rows.append((name, *shown, f"{statistics.median(ratios):.2f}"))
    print(markdown(("artifacts go to", "seconds", "lowest", "highest", "ratio"), rows))


if __name__ == "__main__":
    main()
