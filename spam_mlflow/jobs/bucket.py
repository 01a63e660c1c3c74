"""Use an S3 bucket for artifacts, without a tracking server."""

import itertools
import logging
import os
import shlex
from dataclasses import asdict

from mlflow import MlflowClient
from omegaconf import DictConfig

from spam_mlflow.config import commands
from spam_mlflow.config.compose import flatten
from spam_mlflow.config.schema import BucketSettings
from spam_mlflow.errors import UserError
from spam_mlflow.storage import s3
from spam_mlflow.tracking import runs

logger = logging.getLogger(__name__)


def run(settings: BucketSettings, cfg: DictConfig) -> None:
    """Check access to the bucket, then create the experiment whose artifacts go there.

    Raises:
        UserError: If the bucket cannot be used, or the experiment keeps its artifacts elsewhere;
            the message has the command that makes another experiment.
    """
    runs.connect()
    tracking = MlflowClient()
    # That of MLFLOW_EXPERIMENT_ID, which `mlflow run` sets, exists and cannot be moved.
    name = settings.name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or runs.EXPERIMENT
    client = s3.client(settings.store)
    if settings.create:
        s3.create_bucket(client, settings.bucket, settings.store.region)
    s3.check_access(client, settings.bucket, settings.prefix)
    location = f"s3://{settings.bucket}/{settings.prefix.strip('/')}"
    try:
        created = runs.create_experiment(tracking, name, location)
    except UserError as error:
        other = _with_free_name(tracking, name, cfg)
        raise UserError(f"{error}; make another one: `{other}`") from error
    logger.info(
        "%s can be written, read, listed and deleted; the experiment %s %s there",
        location,
        name,
        "now puts its artifacts" if created else "puts its artifacts",
    )
    logger.info("For training, `mlflow server`, `mlflow models serve` and other processes, export:")
    for variable, value in _variables(tracking, settings, name).items():
        logger.info("export %s=%s", variable, shlex.quote(value))
    logger.info("Then train: %s", _training(settings))


def _with_free_name(client: MlflowClient, name: str, cfg: DictConfig) -> str:
    """Return the same command with a name that no experiment has."""
    endings = itertools.chain(["s3"], (f"s3-{number}" for number in itertools.count(2)))
    names = (f"{name}-{ending}" for ending in endings)
    free = next(entry for entry in names if client.get_experiment_by_name(entry) is None)
    wanted = {**flatten(cfg), "name": free}
    return commands.command("bucket", commands.overrides("bucket", wanted, ["storage"]))


def _variables(client: MlflowClient, settings: BucketSettings, name: str) -> dict[str, str]:
    """Return what processes need to reach the store, and to log to the experiment."""
    chosen = {} if name == runs.experiment_name(client) else {"MLFLOW_EXPERIMENT_NAME": name}
    return s3.environment(settings.store) | chosen


def _training(settings: BucketSettings) -> str:
    """Return the command that trains with the store that the settings name."""
    storage = {f"storage.{key}": value for key, value in asdict(settings.store).items()}
    return commands.command("main", commands.overrides("main", storage, ["storage"]))
