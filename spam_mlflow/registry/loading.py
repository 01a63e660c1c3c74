"""Loading logged models, each with its own code."""

import contextlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spam_mlflow.errors import UserError
from spam_mlflow.registry.model_logging import scorer_package
from spam_mlflow.scorer import scorers
from spam_mlflow.scorer.classifier import METADATA_FILE, TOKENIZER_FILE, Thresholds
from spam_mlflow.scorer.pyfunc_model import TEXT
from spam_mlflow.tracking.runs import REGISTERED_MODEL

_CODE = "code"  # folder of a logged model
# Versions that were logged before the scorer was a package of its own hold a package of this name.
_SHARED_NAME = "spam_mlflow"
_IMPORT = re.compile(rf"^(\s*(?:from|import)\s+){_SHARED_NAME}\b", re.MULTILINE)


@dataclass(frozen=True)
class LoadedModel:
    """A logged model as users get it, with the thresholds that were chosen in training.

    Attributes:
        predict: Maps a data frame with a column `text` to one with a column `spam_probability`.
        thresholds: The model's own threshold, and the one for a ham false-positive rate of 0.2 %.
        model_id: ID of the logged model in the tracking store that it was logged to.
    """

    predict: Callable[[pd.DataFrame], pd.DataFrame]
    thresholds: Thresholds
    model_id: str

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the spam probability of each text, shape (texts,), float64."""
        table = self.predict(pd.DataFrame({TEXT: list(texts)}))
        return table["spam_probability"].to_numpy(dtype=np.float64)


def load_model(model_uri: str) -> LoadedModel:
    """Return the model at `model_uri`.

    Args:
        model_uri: Such as "models:/spam-classifier/1" or "runs:/<run id>/model".

    Raises:
        UserError: If there is no model of this project, or if its files have changed since it was
            logged.
    """
    return load_folder(download(model_uri))


def download(model_uri: str) -> Path:
    """Download a model and check its files.

    Args:
        model_uri: As for `load_model`.

    Returns:
        A local folder with the model.

    Raises:
        UserError: For the reasons of `load_model`.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(model_uri))
    except (MlflowException, OSError) as error:
        raise _no_model(f"model_uri={model_uri!r}", error) from error
    scorers.verify(_files(folder))
    return folder


def load_folder(folder: Path) -> LoadedModel:
    """Return the model in a local folder.

    Args:
        folder: Folder with a logged model, such as `download` returns.

    Raises:
        UserError: If there is no model of this project.
    """
    try:
        with _own_code(folder) as own:
            model = mlflow.pyfunc.load_model(str(own))
    except (MlflowException, OSError) as error:
        raise _no_model(str(folder), error) from error
    assert model.model_id is not None  # MLflow 3 gives every logged model an ID
    return LoadedModel(model.predict, thresholds(folder), model.model_id)


def thresholds(folder: Path) -> Thresholds:
    """Return the thresholds of a model, whatever its format version.

    Args:
        folder: Local folder with a logged model.

    Raises:
        UserError: If there is no model of this project.
    """
    try:
        values = json.loads((_files(folder) / METADATA_FILE).read_text(encoding="utf-8"))
        return Thresholds(float(values["threshold"]), float(values["threshold_at_fpr_0_2pct"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _no_model(str(folder), error) from error


@contextlib.contextmanager
def _own_code(folder: Path) -> Iterator[Path]:
    """Yield a folder with the model, whose code has an import name of its own.

    For most models this is `folder` itself. The code of older models has this project's name, and
    Python would import this project's modules instead; it is renamed in a copy of the model.
    """
    path_before = list(sys.path)
    try:
        if not (folder / _CODE / _SHARED_NAME).is_dir():
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
            copy = Path(scratch, "model")
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
            name = scorer_package(copy / _CODE / _SHARED_NAME)
            for file in copy.rglob("*.py"):
                code = file.read_text(encoding="utf-8")
                file.write_text(_IMPORT.sub(rf"\g<1>{name}", code), encoding="utf-8")
            (copy / _CODE / _SHARED_NAME).rename(copy / _CODE / name)
            yield copy
    finally:
        sys.path[:] = path_before  # MLflow adds the folder of the code and does not remove it


@dataclass(frozen=True)
class Origin:
    """The files that a model is exported from.

    Attributes:
        keras: Folder with the artifacts `keras` of the model's run.
        code: Folder with the code that the model is served with.
        source: Model URI, run ID, data digest and import name of the code, for readers of the
            export.
    """

    keras: Path
    code: Path
    source: Mapping[str, str]


def origin(model_uri: str, scratch: Path) -> Origin:
    """Download the files that a model is exported from.

    Args:
        model_uri: As for `load_model`.
        scratch: Folder to download the run's artifacts to.

    Raises:
        UserError: If there is no model of this project, if its run cannot be read, or if the run's
            artifacts are not those of the model.
    """
    model = download(model_uri)
    run_id = mlflow.models.Model.load(str(model)).run_id
    try:
        keras = Path(
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path="keras", dst_path=str(scratch)
            )
        )
        tags = MlflowClient().get_run(run_id).data.tags
    except (MlflowException, OSError) as error:
        raise UserError(
            f"the files of model_uri={model_uri!r} are artifacts of run {run_id}, which cannot be "
            f"read ({str(error).splitlines()[0]}); restore the run, or train again"
        ) from error
    for name in (TOKENIZER_FILE, METADATA_FILE):
        if scorers.sha256(keras / name) != scorers.sha256(_files(model) / name):
            raise UserError(
                f"keras/{name} of run {run_id} is not that of model_uri={model_uri!r}; restore "
                "the artifact, or train again"
            )
    (package,) = (path.name for path in (model / _CODE).iterdir() if path.is_dir())
    source = {
        "model_uri": model_uri,
        "run_id": str(run_id),
        "data_digest": tags["data.digest"],
        "code_package": package,
    }
    return Origin(keras, model / _CODE, source)


def _files(folder: Path) -> Path:
    return folder / "artifacts" / scorers.CLASSIFIER


def _no_model(named: str, error: Exception) -> UserError:
    return UserError(
        f"{named} is not a model of this project ({str(error).splitlines()[0]}); "
        f"try models:/{REGISTERED_MODEL}/1"
    )
