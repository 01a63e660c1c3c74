"""Processes that run a version's code, which has not been judged yet.

They get no credentials: their environment holds what is named here and nothing else, and their home
is an empty folder, without `~/.aws`. They still run as the same user; see docs/reference/gate.md
for what that leaves to them.
"""

import json
import os
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spam_mlflow.batch_worker import version_scoring
from spam_mlflow.errors import UserError
from spam_mlflow.printable import printable

_KEPT = {
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONIOENCODING", "PYTHONUTF8"),
    *("CUDA_VISIBLE_DEVICES", "KERAS_BACKEND", "TF_DETERMINISTIC_OPS", "XLA_FLAGS"),
    *("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"),
}
# Not TF_ alone, with which the names of Terraform's secrets begin, too.
_KEPT_PREFIXES = (
    *("LC_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_"),
    *("TF_CPP_", "TF_ENABLE_", "TF_FORCE_", "TF_GPU_", "TF_NUM_", "TF_USE_", "TF_XLA_"),
)
_SCORE_SECONDS = 600
_SHOWN = 300  # characters of a child's last words that an error repeats


def environment(home: Path) -> dict[str, str]:
    """Return the environment variables of a process that runs a version's code.

    Args:
        home: Empty folder that is the process's home, which is created if it is missing.
    """
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
    # MLflow looks for uvicorn on the path, where an environment that is not activated is not.
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    # Packages that were installed for the user are found by the home that is replaced here.
    return {**kept, "PATH": path, "HOME": str(home), "PYTHONUSERBASE": site.getuserbase()}


def spam_probability(model: Path, texts: Sequence[str], folder: Path) -> np.ndarray:
    """Score texts with a logged model as users load it, in a fresh interpreter.

    Args:
        model: Folder with the model.
        texts: Any strings.
        folder: Empty folder for the process's files, which is created if it is missing.

    Returns:
        The spam probabilities, shape (texts,), float64.

    Raises:
        UserError: If the model cannot be loaded, or does not score the texts.
    """
    folder.mkdir(exist_ok=True)
    asked, answered = folder / "texts.json", folder / "scores.json"
    asked.write_text(json.dumps(list(texts)), encoding="utf-8")
    # With -P, Python does not look for packages beside the script.
    script = version_scoring.__file__
    command = [sys.executable, "-P", script, str(model), str(asked), str(answered)]
    done = _finished(command, folder, environment(folder / "home"))
    try:
        scores = np.array(json.loads(answered.read_text(encoding="utf-8")), dtype=np.float64)
        if done.returncode == 0 and scores.shape == (len(texts),):
            return scores
        reason = f"it gave scores of shape {scores.shape} for {len(texts)} texts"
    except (OSError, ValueError, TypeError):
        reason = last_words(done.stderr)
    raise UserError(f"the model does not score texts in a fresh interpreter: {reason}")


def last_words(output: str) -> str:
    """Return the line of a process's output that says why it ended: the last error, or line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    words = ([*lines, *errors] or ["it printed nothing"])[-1]
    return printable(words, _SHOWN)


def _finished(
    command: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SCORE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"the model did not score texts within {_SCORE_SECONDS} s") from error
