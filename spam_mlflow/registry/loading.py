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
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.store.artifact.utils.models import get_model_name_and_version

from spam_mlflow.batch_worker.version_scoring import (
    SPAM_PROBABILITY,
    low_confidence,
    predictions,
)
from spam_mlflow.error_messages import require_space
from spam_mlflow.errors import UserError
from spam_mlflow.registry import model_files
from spam_mlflow.registry.model_files import CODE
from spam_mlflow.registry.model_logging import SHARED_NAME, scorer_package
from spam_mlflow.scorer import scorers
from spam_mlflow.scorer.classifier import METADATA_FILE, TOKENIZER_FILE, Thresholds
from spam_mlflow.scorer.scorers import Scorer
from spam_mlflow.tracking.runs import REGISTERED_MODEL

ADDED = "registered_model_meta"
"""File with name and version that MLflow writes beside a version that it downloads."""

_IMPORT = re.compile(rf"^(\s*(?:from|import)\s+){SHARED_NAME}\b", re.MULTILINE)


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
        return self.scores_and_doubts(texts)[0]

    def scores_and_doubts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
        """Return the spam probabilities, and for each text why its score means little.

        Returns:
            Array of shape (texts,), float64, and for each text a reason, None where there is none
            and for versions that name none.
        """
        table = predictions(self.predict, texts)
        return table[SPAM_PROBABILITY].to_numpy(dtype=np.float64), low_confidence(table)


def run_of(client: MlflowClient, model_uri: str) -> Run | None:
    """Return the run that logged a model, or None if there is no such model or run.

    Args:
        client: Client of the tracking store.
        model_uri: As for `load_model`.
    """
    scheme, _, path = model_uri.partition(":/")
    name = path.strip("/").partition("/")[0]
    try:
        if scheme == "runs":
            return client.get_run(name)
        if name.startswith("m-"):
            return client.get_run(str(client.get_logged_model(name).source_run_id))
        version = client.get_model_version(*get_model_name_and_version(client, model_uri))
        return client.get_run(str(version.run_id))
    except MlflowException:
        return None


def load_model(model_uri: str) -> LoadedModel:
    """Return the model at `model_uri`.

    Args:
        model_uri: Such as "models:/spam-classifier/1" or "runs:/<run id>/model".

    Raises:
        UserError: If there is no model of this project, if it is pickled, if its files have
            changed since it was logged, or if this machine's disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
        return load_folder(download(model_uri, Path(scratch)))


def download(model_uri: str, folder: Path) -> Path:
    """Download a model and check its files, none of which is run by this.

    Args:
        model_uri: As for `load_model`.
        folder: Folder to download it to, which is created if it is missing.

    Returns:
        The folder with the model's files as they were logged; what Python compiled beside them, in
        a store on this machine, is left out.

    Raises:
        UserError: For the reasons of `load_model`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(folder)))
        model_files.require_code_only(model, model_uri)
    except (MlflowException, OSError, *model_files.UNREADABLE) as error:
        require_space(error, f"model_uri={model_uri!r}")
        raise _no_model(f"model_uri={model_uri!r}", error) from error
    scorers.verify(_files(model))
    (model / ADDED).unlink(missing_ok=True)
    for compiled in list(model.rglob("__pycache__")):
        shutil.rmtree(compiled)
    return model


def load_folder(folder: Path) -> LoadedModel:
    """Return the model in a local folder.

    Args:
        folder: Folder with a logged model, such as `download` returns.

    Raises:
        UserError: If there is no model of this project.
    """
    model: Any = load_pyfunc(folder)  # what it takes and returns is annotated as much else, too
    assert model.model_id is not None  # MLflow 3 gives every logged model an ID
    return LoadedModel(model.predict, thresholds(folder), model.model_id)


def load_pyfunc(folder: Path) -> PyFuncModel:
    """Return the model in a local folder as MLflow has it.

    Args:
        folder: Folder with a logged model, such as `download` returns.

    Raises:
        UserError: If there is no model of this project.
    """
    try:
        with _own_code(folder) as own:
            return mlflow.pyfunc.load_model(str(own))
    except (MlflowException, OSError) as error:
        require_space(error, f"a copy of {folder}")
        raise _no_model(str(folder), error) from error


def linear_scorer(folder: Path) -> Scorer | None:
    """Return a model's scorer, whose files this project's code reads; none of the model's is run.

    Args:
        folder: Folder with a logged model, such as `download` returns.

    Returns:
        The scorer; None if the model is not linear, or if its code is not that of this project, so
        that its own might score otherwise.

    Raises:
        UserError: If its files are incomplete or have changed.
    """
    if model_files.package(folder) != scorer_package():
        return None
    linear = (_files(folder) / scorers.LINEAR_FILE).is_file()
    return scorers.load(_files(folder)) if linear else None


def thresholds(folder: Path) -> Thresholds:
    """Return the thresholds of a model, whatever its format version.

    Args:
        folder: Local folder with a logged model.

    Raises:
        UserError: If there is no model of this project.
    """
    values = _metadata(folder)
    try:
        return Thresholds(float(values["threshold"]), float(values["threshold_at_fpr_0_2pct"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _no_model(str(folder), error) from error


def data_digest(folder: Path) -> str:
    """Return the digest of the messages that a model was trained on, as its own metadata has it.

    Args:
        folder: Local folder with a logged model.

    Raises:
        UserError: If there is no model of this project.
    """
    return str(_metadata(folder).get("data_digest", "unknown"))


def _metadata(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((_files(folder) / METADATA_FILE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise _no_model(str(folder), error) from error


@contextlib.contextmanager
def _own_code(folder: Path) -> Iterator[Path]:
    """Yield a folder with the model, whose code has an import name of its own.

    For most models this is `folder` itself. The code of older models has this project's name, and
    Python would import this project's modules instead; it is renamed in a copy of the model.
    """
    path_before = list(sys.path)
    try:
        if not (folder / CODE / SHARED_NAME).is_dir():
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
            copy = Path(scratch, "model")
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
            name = scorer_package(copy / CODE / SHARED_NAME)
            for file in copy.rglob("*.py"):
                code = file.read_text(encoding="utf-8")
                file.write_text(_IMPORT.sub(rf"\g<1>{name}", code), encoding="utf-8")
            (copy / CODE / SHARED_NAME).rename(copy / CODE / name)
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
        scratch: Folder to download the model and the run's artifacts to.

    Raises:
        UserError: If there is no model of this project, if its run cannot be read, or if the run's
            artifacts are not those of the model.
    """
    model = download(model_uri, scratch / "model")
    run_id = mlflow.models.Model.load(str(model)).run_id
    try:
        keras = Path(
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path="keras", dst_path=str(scratch)
            )
        )
        tags = MlflowClient().get_run(run_id).data.tags
    except (MlflowException, OSError) as error:
        require_space(error, f"what run {run_id} has logged")
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
    source = {
        "model_uri": model_uri,
        "run_id": str(run_id),
        "data_digest": tags["data.digest"],
        "code_package": model_files.package(model),
    }
    return Origin(keras, model / CODE, source)


def _files(folder: Path) -> Path:
    return folder / "artifacts" / scorers.CLASSIFIER


def _no_model(named: str, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(
        f"{named} is not a model of this project ({reason}); try models:/{REGISTERED_MODEL}/1"
    )
