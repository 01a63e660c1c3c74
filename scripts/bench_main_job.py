"""Time the main job from process start to exit, beside an empty project and TensorFlow's import.

    python -m scripts.bench_main_job --data-dir FOLDER [--repeats 3]

Every repeat has a tracking store of its own. Times are wall-clock seconds. Compare them only within
one run of this script, and only where all packages are compiled to bytecode.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parent.parent
MLFLOW = Path(sys.executable).parent / "mlflow"
RUN = (str(MLFLOW), "run", "--env-manager", "local", "--experiment-name", "spam-classifier")


def seconds(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None
) -> float:
    """Run a command and return its wall time in seconds; end the script if it fails.

    Args:
        command: Program and arguments.
        folder: Working directory.
        variables: Environment variables for its tracking store; None for a store in `folder`.
    """
    path = f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
    places = variables or {"MLFLOW_TRACKING_URI": store(folder)}
    env = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), **places}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    taken = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(done.stderr)
    return taken


def store(folder: Path) -> str:
    """Return the URI of the tracking store in `folder`."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def measure(data_dir: str) -> dict[str, float]:
    """Return one measurement of every time, in seconds, and the metrics of the main job.

    Args:
        data_dir: Folder with the UCI files.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = folder / "empty"
        empty.mkdir()
        (empty / "MLproject").write_text("entry_points: {main: {command: 'true'}}\n")
        job = [*RUN, str(ROOT), "-P", "epochs=5", "-P", f"data_dir={data_dir}"]
        times = {
            "main job": seconds(job, folder),
            "empty mlflow run": seconds([*RUN, str(empty)], folder),
            "import mlflow": seconds([sys.executable, "-c", "import mlflow"], folder),
            "import tensorflow": seconds([sys.executable, "-c", "import tensorflow"], folder),
        }
        return times | logged(folder)


def logged(folder: Path) -> dict[str, float]:
    """Return the training time, in seconds, and the test metrics that the main job logged."""
    client = MlflowClient(store(folder))
    experiment = client.get_experiment_by_name("spam-classifier")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    metrics = next(run.data.metrics for run in runs if "fit_seconds" in run.data.metrics)
    names = ("fit_seconds", "test_f1", "test_mcc", "test_ham_fpr", "test_recall_at_fpr_0_2pct")
    return {name: metrics[name] for name in names}


def main() -> None:
    """Print median and range of every measurement as a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    data_dir = str(Path(arguments.data_dir).resolve())
    rounds = [measure(data_dir) for _ in range(arguments.repeats)]
    print(f"| measurement | median of {len(rounds)} | lowest | highest |\n|---|---|---|---|")
    for name in rounds[0]:
        values = [measured[name] for measured in rounds]
        print(
            f"| {name} | {statistics.median(values):.4g} | {min(values):.4g} | {max(values):.4g} |"
        )


if __name__ == "__main__":
    main()
