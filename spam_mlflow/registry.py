"""The servable model: logging it to a run, registering it as a version, loading it again."""

import contextlib
import importlib.metadata
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from spam_mlflow import scoring
from spam_mlflow.classifier import METADATA_FILE, TOKENIZER_FILE, Classifier, Metadata, Thresholds
from spam_mlflow.errors import UserError
from spam_mlflow.scoring import CLASSIFIER
from spam_mlflow.tracking import REGISTERED_MODEL, despite_others

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo

_PACKAGE = Path(__file__).resolve().parent
# Only what scoring imports travels with the model.
_SERVED_CODE = (
    "__init__.py",
    "classifier.py",
    "data/__init__.py",
    "data/messages.py",
    "errors.py",
    "keras_backend.py",
    "scoring.py",
    "text.py",
    "vectorizers/__init__.py",
    "vectorizers/character_ngrams.py",
    "vectorizers/ngram.py",
    "vectorizers/sequence.py",
    "vectorizers/writing.py",
)
VALIDATION_TAG = "validation_status"
"""Tag of a version that passed or failed the gate."""

EXAMPLES = ["Ok, see you at seven then", "URGENT! You have won a £1000 prize, call 09061701461 now"]


def log_model(classifier: Classifier, weights: dict[str, np.ndarray] | None) -> "ModelInfo":
    """Log the servable model as `model`; linear `weights` let it be served without TensorFlow."""
    with tempfile.TemporaryDirectory() as scratch:
        files, code = Path(scratch, CLASSIFIER), Path(scratch, "code", _PACKAGE.name)
        scoring.export(classifier, weights, files)
        for name in _SERVED_CODE:
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_PACKAGE / name, code / name)
        with quiet():
            return mlflow.pyfunc.log_model(
                name="model",
                python_model=str(_PACKAGE / "servable.py"),
                artifacts={CLASSIFIER: str(files)},
                code_paths=[str(code)],
                signature=signature(classifier.metadata.threshold),
                input_example=pd.DataFrame({"text": EXAMPLES}),
                pip_requirements=_requirements(linear=weights is not None),
            )


def finished_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """Return the model that the run has logged, None where there is none.

    One that was begun and not finished is deleted: MLflow cannot go on with it.
    """
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs else ():
        model = logged_model(client, output.model_id)
        if model is None:
            continue  # deleted earlier; the run still names it
        if model.status == LoggedModelStatus.READY:
            return model
        client.delete_logged_model(model.model_id)
    return None


def logged_model(client: MlflowClient, model_id: str) -> LoggedModel | None:
    """Return the logged model, None where this tracking store has none of that id."""
    try:
        return client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None


def save_noop(folder: Path) -> None:
    """Write a model that does nothing, in the form of the served one, to `folder`."""
    with quiet():
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(_PACKAGE / "noop_servable.py"),
            signature=signature(0.5),
            input_example=pd.DataFrame({"text": EXAMPLES}),
            pip_requirements=_requirements(linear=True),
        )


def signature(threshold: float) -> ModelSignature:
    """Return the model's signature: text in, label and probabilities out, threshold optional."""
    # Not "string": for that, MLflow turns null and numbers in `inputs` and `instances` into the
    # texts "None" and "5" before the model sees them. The model itself refuses what is no string.
    inputs = Schema([ColSpec(AnyType(), "text")])
    outputs = Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "spam_probability"),
            ColSpec(DataType.double, "ham_probability"),
        ]
    )
    params = ParamSchema(
        [
            ParamSpec("threshold", DataType.double, threshold),
            ParamSpec("explain", DataType.boolean, False),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)


def _requirements(linear: bool) -> list[str]:
    packages = ["confusable-homoglyphs", "mlflow", "numpy", "pandas"] + (
        [] if linear else ["keras", "tensorflow"]
    )
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]


def register(
    client: MlflowClient, model_id: str, run_id: str, tags: Mapping[str, str], description: str
) -> str:
    """Register the logged model as a new version of spam-classifier and return its number.

    A run's version that is registered already is completed, not registered again.

    description: Markdown, shown on the version's page.
    """
    earlier = client.search_model_versions(f"name='{REGISTERED_MODEL}' and run_id='{run_id}'")
    with quiet():
        entry = (
            earlier[0]
            if earlier
            else despite_others(
                lambda: mlflow.register_model(
                    f"models:/{model_id}", REGISTERED_MODEL, tags=dict(tags)
                )
            )
        )
        client.update_model_version(REGISTERED_MODEL, str(entry.version), description)
    return str(entry.version)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back MLflow's notes on its steps, and its warning that an environment has no pip."""
    levels = {"mlflow": logging.WARNING, "mlflow.utils.environment": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@dataclass(frozen=True)
class Version:
    """A registered version: its number, its own tags and those of the run that trained it."""

    number: str
    run_id: str | None
    tags: Mapping[str, str]
    run_tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The address that MLflow knows the version by."""
        return f"models:/{REGISTERED_MODEL}/{self.number}"


def find_version(client: MlflowClient, version: str) -> Version:
    """Return the registered version of that number; "latest" is the highest.

    Raises UserError where there is none, naming those that exist.
    """
    found = {str(entry.version): entry for entry in versions(client)}
    number = next(reversed(found), "none") if version == "latest" else version
    if number not in found:
        existing = ", ".join(found) or "none"
        raise UserError(
            f"version={version!r} of {REGISTERED_MODEL} does not exist; existing: {existing}"
        )
    entry = found[number]
    run_tags = client.get_run(entry.run_id).data.tags if entry.run_id else {}
    return Version(number, entry.run_id, dict(entry.tags), dict(run_tags))


def versions(client: MlflowClient) -> list[ModelVersion]:
    """Return what MLflow knows of every registered version, the oldest first."""
    found = client.search_model_versions(f"name='{REGISTERED_MODEL}'")
    return sorted(found, key=lambda entry: int(entry.version))


def find_alias(client: MlflowClient, alias: str) -> str | None:
    """Return the version that `alias` points to, None where it points nowhere."""
    try:
        return str(client.get_model_version_by_alias(REGISTERED_MODEL, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@dataclass(frozen=True)
class ServedModel:
    """A logged model as users get it, with the thresholds it was trained to.

    predict: from a table with a column `text` to one with `spam_probability`.
    model_id: in the tracking store that it was logged to.
    """

    predict: Callable[[pd.DataFrame], pd.DataFrame]
    thresholds: Thresholds
    model_id: str

    def spam_probability(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of spam for each text, shape (texts,), float64."""
        table = self.predict(pd.DataFrame({"text": list(texts)}))
        return table["spam_probability"].to_numpy(dtype=np.float64)


def load_model(model_uri: str) -> ServedModel:
    """Return the model at `model_uri`.

    Raises UserError where there is none, where it was not logged by this project, and where its
    files are not those that were logged.
    """
    return load_folder(download(model_uri))


def download(model_uri: str) -> Path:
    """Return a local folder with the model at `model_uri`, its files checked; errors likewise."""
    try:
        folder = Path(mlflow.artifacts.download_artifacts(model_uri))
    except (MlflowException, OSError) as error:
        raise _no_model(f"model_uri={model_uri!r}", error) from error
    scoring.verify(_files(folder))
    return folder


@dataclass(frozen=True)
class Origin:
    """What a model was exported from: its run's `keras` folder, the code it is served with.

    source: run, version and data digest by name.
    """

    keras: Path
    code: Path
    source: Mapping[str, str]


def origin(model_uri: str, scratch: Path) -> Origin:
    """Return the files behind the logged model at `model_uri`, downloaded into `scratch`.

    Raises UserError where it is no model of this project, or its run is gone.
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
        if scoring.sha256(keras / name) != scoring.sha256(_files(model) / name):
            raise UserError(
                f"keras/{name} of run {run_id} is not that of model_uri={model_uri!r}; restore "
                "the artifact, or train again"
            )
    source = {"model_uri": model_uri, "run_id": run_id, "data_digest": tags["data.digest"]}
    return Origin(keras, model / "code", source)


def metadata(folder: Path) -> Metadata:
    """Return the metadata of the model in the local `folder`."""
    try:
        file = _files(folder) / METADATA_FILE
        return Metadata(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise _no_model(str(folder), error) from error


def load_folder(folder: Path) -> ServedModel:
    """Return the model in the local `folder`."""
    try:
        model = mlflow.pyfunc.load_model(str(folder))
    except (MlflowException, OSError) as error:
        raise _no_model(str(folder), error) from error
    assert model.model_id is not None  # MLflow 3 gives every logged model one
    return ServedModel(model.predict, metadata(folder).thresholds, model.model_id)


def _files(folder: Path) -> Path:
    return folder / "artifacts" / CLASSIFIER


def _no_model(named: str, error: Exception) -> UserError:
    return UserError(
        f"{named} is not a model of this project ({str(error).splitlines()[0]}); "
        f"try models:/{REGISTERED_MODEL}/1"
    )
