"""Logging a model to a run: its data files, and the scorer that reads them.

A version is only ever scored by its own code. The folder `spam_mlflow/scorer` is copied whole into
the logged model, as a package whose name holds the digest of its content. In one Python process, it
therefore collides neither with the installed project nor with another version.
"""

import contextlib
import hashlib
import importlib.metadata
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property

from spam_mlflow import scorer
from spam_mlflow.registry import aliases, registry_page
from spam_mlflow.scorer import scorers
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.scorer.pyfunc_model import TEXT
from spam_mlflow.tracking.runs import REGISTERED_MODEL, retry_on_conflict

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo

EXAMPLES = ["Ok, see you at seven then", "URGENT! You have won a £1000 prize, call 09061701461 now"]
"""Texts of the input example that is logged with a model."""

_SCORER = Path(scorer.__file__).parent
ENTRY_FILE = "spam_model.py"
"""File of a logged model that MLflow runs to load it."""

SHARED_NAME = "spam_mlflow"
"""Package with the code of versions that were logged before the scorer was a package."""

_ENTRY = """\"\"\"The model that MLflow loads, with the scorer that it was logged with.\"\"\"

import mlflow

from {package}.pyfunc_model import SpamModel

mlflow.models.set_model(SpamModel())
"""


def scorer_package(folder: Path = _SCORER) -> str:
    """Return the import name of a scorer, which depends on its content alone.

    Args:
        folder: Folder with the scorer's Python files.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
    return f"spam_scorer_{digest.hexdigest()[:12]}"


def entry(package: str) -> str:
    """Return the text of the entry file of a model whose code has the import name `package`."""
    return _ENTRY.format(package=package)


def log_model(
    classifier: Classifier,
    weights: dict[str, np.ndarray] | None,
    details: Mapping[str, float] | None = None,
) -> "ModelInfo":
    """Log a classifier to the active run, as the pyfunc model `model`.

    Args:
        classifier: The trained classifier.
        weights: `coefficients` and `intercept` of a linear model, which is then served without
            TensorFlow; None for any other model.
        details: Metrics that are shown on the model's page, among its parameters.
    """
    with tempfile.TemporaryDirectory() as scratch, quiet_mlflow():
        files, package = Path(scratch, scorers.CLASSIFIER), Path(scratch, scorer_package())
        scorers.export(classifier, weights, files)
        shutil.copytree(_SCORER, package, ignore=shutil.ignore_patterns("__pycache__"))
        entry_file = Path(scratch, ENTRY_FILE)
        entry_file.write_text(entry(package.name), encoding="utf-8")
        with _importable(package):
            return mlflow.pyfunc.log_model(
                name="model",
                python_model=str(entry_file),
                artifacts={scorers.CLASSIFIER: str(files)},
                code_paths=[str(package)],
                signature=signature(classifier.metadata.threshold),
                input_example=pd.DataFrame({TEXT: EXAMPLES}),
                pip_requirements=requirements(linear=weights is not None),
                params={name: f"{value:.6g}" for name, value in (details or {}).items()},
                tags={"architecture": classifier.metadata.architecture},
            )


@contextlib.contextmanager
def _importable(package: Path) -> Iterator[None]:
    """Make `package` importable, since MLflow runs a model's code when it logs the model."""
    path_before = list(sys.path)
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path[:] = path_before
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]


def signature(threshold: float) -> ModelSignature:
    """Return the model's signature: text in, label and probabilities out.

    Args:
        threshold: Default of the optional parameter `threshold`, a spam probability.
    """
    # The type is not "string": MLflow would turn null and numbers in `inputs` and `instances` into
    # the texts "None" and "5" before the model sees them. The column is not required: MLflow would
    # refuse lists and arrays, which have no column names. The model itself refuses other types.
    inputs = Schema([ColSpec(AnyType(), TEXT, required=False)])
    part = Object([Property("feature", DataType.string), Property("contribution", DataType.double)])
    outputs = Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "spam_probability"),
            ColSpec(DataType.double, "ham_probability"),
            ColSpec(DataType.string, "low_confidence", required=False),
            ColSpec(Array(part), "explanation", required=False),
        ]
    )
    params = ParamSchema(
        [
            ParamSpec("threshold", DataType.double, threshold),
            ParamSpec("explain", DataType.boolean, False),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)


def requirements(linear: bool) -> list[str]:
    """Return the packages that a served model needs, with the installed versions.

    Args:
        linear: Whether the model is linear and is served without TensorFlow.
    """
    packages = ["confusable-homoglyphs", "mlflow", "numpy", "pandas"] + (
        [] if linear else ["keras", "tensorflow"]
    )
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]


def finished_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """Return the model that a run has logged, or None if there is none.

    A model whose logging was not finished is deleted, since MLflow cannot continue it.
    """
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs else ():
        model = logged_model(client, output.model_id)
        if model is None:
            continue  # the model was deleted earlier, but the run still names it
        if model.status == LoggedModelStatus.READY:
            return model
        client.delete_logged_model(model.model_id)
    return None


def logged_model(client: MlflowClient, model_id: str) -> LoggedModel | None:
    """Return a logged model by its ID, or None if this tracking store does not have it."""
    try:
        return client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None


def register(
    client: MlflowClient, model_id: str, run_id: str, tags: Mapping[str, str], description: str
) -> str:
    """Register a logged model as a new version of spam-classifier.

    If the run has a registered version already, that version is completed instead.

    Args:
        client: Client of the tracking store.
        model_id: ID of the logged model.
        run_id: ID of the run that logged it.
        tags: Tags of the version.
        description: Markdown text for the version's page.

    Returns:
        The version's number, such as "3".
    """
    earlier = client.search_model_versions(f"name='{REGISTERED_MODEL}' and run_id='{run_id}'")
    with quiet_mlflow():
        entry = (
            earlier[0]
            if earlier
            else retry_on_conflict(
                lambda: mlflow.register_model(
                    f"models:/{model_id}", REGISTERED_MODEL, tags=dict(tags)
                )
            )
        )
        client.update_model_version(REGISTERED_MODEL, str(entry.version), description)
    if not client.get_registered_model(REGISTERED_MODEL).description:
        experiment_id = client.get_run(run_id).info.experiment_id
        registry_page.write(client, aliases.events(client), experiment_id)
    return str(entry.version)


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Suppress MLflow's notes on its steps, and its warning that an environment has no pip."""
    levels = {"mlflow": logging.WARNING, "mlflow.utils.environment": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
