"""Upload a model's files to an S3 store."""

import logging
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow.config.schema import PublishSettings
from spam_mlflow.registry import loading, versions
from spam_mlflow.storage import export, s3
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)


def run(settings: PublishSettings, cfg: DictConfig) -> None:
    """Collect the files of a model and upload them, unless the store has them already.

    The settings describe the store that they are uploaded to; the model is read from the store that
    its run was logged to.

    Raises:
        UserError: If the model cannot be read, or if the store fails.
    """
    location = export.S3Location(s3.client(settings.store), settings.bucket, settings.prefix)
    runs.connect()
    logged = loading.run_of(MlflowClient(), settings.model_uri)
    if logged is not None:  # else, reading the model says why not
        s3.configure_mlflow(runs.storage_of(logged, settings.store))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "export")
        folder.mkdir()
        # The alias may move meanwhile, and later: what is published is a version.
        model = versions.resolve(MlflowClient(), settings.model_uri)
        origin = loading.origin(model.uri, Path(scratch))
        export.collect(origin.keras, origin.code, settings.h5, folder)
        changed = export.publish(folder, {**origin.source, **_registered(model)}, location)
    logger.info(
        "%s is %s at %s",
        model,
        "published" if changed else "published already",
        location,
    )


def _registered(model: versions.Reference) -> dict[str, str]:
    """Return what the manifest says of a registered version, for readers of the export."""
    values = {"model_name": model.name, "version": model.version, "alias": model.alias}
    return {name: value for name, value in values.items() if value is not None}
