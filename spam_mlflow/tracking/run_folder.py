"""The folder for a run's files, which become its artifacts."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from spam_mlflow.errors import UserError

CARD_FILE = "model_card.md"
CONFIG_FILE = "config.yaml"
ERRORS_FILE = "errors.json"
KERAS_FOLDER = "keras"
METRICS_FILE = "metrics.csv"
PLOTS_FOLDER = "figures"
PREDICTIONS_FILE = "predictions.csv"
PROFILE_FILE = "profile.txt"
REJECTED_FILE = "rejected.csv"
REPORT_FILE = "report.html"
SPLIT_FILE = "split.csv"
LARGE_SPLIT_FILE = "split.csv.gz"  # instead, where it is large

SAFE_CSV_TAG = "safe_csv"
"""Tag of a run whose CSV files are written with `safe_csv=true`."""

_SPACE_MB = 100


@contextlib.contextmanager
def run_folder(output_dir: str | None) -> Iterator[Path]:
    """Open the folder for a run's files, before any work is done.

    Args:
        output_dir: Path of the folder, which is created if it is missing; None means a temporary
            folder, which is removed in the end.

    Yields:
        The absolute path of the folder.

    Raises:
        UserError: If the folder cannot be written to, or less than 100 MB are free on its disk.
    """
    if output_dir is None:
        scratch = Path(tempfile.mkdtemp(prefix="spam_mlflow-"))
        try:
            _require_space(scratch, "TMPDIR")
            yield scratch
        finally:
            # A folder that is kept, because a store failed, has been renamed by now.
            shutil.rmtree(scratch, ignore_errors=True)
        return
    target = Path(output_dir).expanduser().resolve()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise UserError(
            f"output_dir={output_dir!r} cannot be written: {error.strerror}; give another folder"
        ) from error
    _require_space(target, "output_dir")
    yield target


def is_temporary(folder: Path) -> bool:
    """Return whether a run's folder is temporary, or was temporary and has been kept."""
    return folder.parent == Path(tempfile.gettempdir())


def _require_space(folder: Path, setting: str) -> None:
    free = shutil.disk_usage(folder).free // 2**20
    if free < _SPACE_MB:
        raise UserError(
            f"only {free} MB are free on the disk of {folder}, {_SPACE_MB} MB are needed for the "
            f"run's files; free some, or name another folder with {setting}"
        )


def has_safe_csv(run: Run) -> bool:
    """Return whether a run's CSV files are to be read with `safe` of `csv_cells.read`."""
    # Earlier runs have it as a parameter.
    return "True" in (run.data.tags.get(SAFE_CSV_TAG), run.data.params.get("safe_csv"))
