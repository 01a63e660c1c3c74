"""The version that is being served, which follows its alias."""

import json
import logging
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel, scoring_server

from spam_mlflow import error_messages
from spam_mlflow.drift import references
from spam_mlflow.drift.reference import Reference
from spam_mlflow.drift.references import DRIFT_TAG
from spam_mlflow.errors import UserError
from spam_mlflow.registry import loading, versions

Invocations = Callable[[bytes, str | None, PyFuncModel, Any], Any]
"""MLflow's function from a request's body to its answer, or what stands in its place."""

_APP = "mlflow.pyfunc.scoring_server.app"  # what a model looks for, to see that it is served
_SLOT = vars(scoring_server)  # where a model puts its own answers in place of MLflow's
_KEY = "invocations"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedVersion:
    """A version that is loaded and ready to score.

    Attributes:
        reference: The version.
        run_id: ID of the run that trained it; None if that is unknown.
        model: The model as MLflow has it.
        threshold: Its own threshold.
        invocations: Answers requests to it.
        loaded: When it was loaded, in seconds since 1970.
        drift: What its messages are compared with; None if its training has logged nothing.
    """

    reference: versions.Reference
    run_id: str | None
    model: PyFuncModel
    threshold: float
    invocations: Invocations
    loaded: float
    drift: Reference | None = None

    @property
    def name(self) -> str:
        """The registered model's name; the given address if no version is named."""
        return self.reference.name or self.reference.uri

    @property
    def number(self) -> str:
        """The version's number; the model's ID if no version is named."""
        return self.reference.version or str(self.model.model_id)


class ServedModel:
    """A model URI and the version that it means now.

    Args:
        client: Client of the tracking store.
        model_uri: Such as "models:/spam-classifier@champion".

    Attributes:
        current: The version that answers requests.
        error: Why the last look at the registry failed; None if it did not.
        drift: What `drift` found last of the version; None if it was not run.

    Raises:
        UserError: If there is no such model.
    """

    def __init__(self, client: MlflowClient, model_uri: str) -> None:
        self._client, self.model_uri = client, model_uri
        self._lock = threading.Lock()
        self.error: str | None = None
        self.drift: str | None = None
        self.current = _loaded(client, versions.resolve(client, model_uri))
        self.refresh()

    def refresh(self) -> bool:
        """Load the version that the model URI means now, if it is another one.

        Requests are answered by the former version until the new one is ready, and also if the
        registry or the new version fails; `error` says why then.

        Returns:
            Whether the version was changed.
        """
        with self._lock:
            try:
                found = versions.resolve(self._client, self.model_uri)
                if found.uri == self.current.reference.uri:
                    self.drift = _drift_status(self._client, found)
                    self._say(None)
                    return False
                self.current = _loaded(self._client, found)
                self.drift = _drift_status(self._client, found)
            except Exception as error:
                self._say(error_messages.reason(error))
                return False
            self._say(None)
            logger.info("%s is served now", found)
            return True

    def _say(self, error: str | None) -> None:
        """Note an error, and log it once."""
        if error is not None and error != self.error:
            logger.warning("version %s is still served: %s", self.current.number, error)
        self.error = error


def _drift_status(client: MlflowClient, reference: versions.Reference) -> str | None:
    """Return what `drift` found last of a version."""
    if reference.version is None:
        return None
    found = client.get_model_version(str(reference.name), reference.version)
    return found.tags.get(DRIFT_TAG)


def _loaded(client: MlflowClient, reference: versions.Reference) -> ServedVersion:
    """Download and load a version.

    Raises:
        UserError: If that fails.
    """
    with tempfile.TemporaryDirectory(prefix="spam_mlflow-") as scratch:
        folder = loading.download(reference.uri, Path(scratch))
        _name(folder, reference)
        model, invocations = _with_answers(folder)
        threshold = loading.thresholds(folder).chosen
    if model.metadata is None:
        raise UserError(f"{reference.uri} has no description that MLflow can read")
    run_id = model.metadata.run_id
    known = references.of_run(client, run_id)
    return ServedVersion(reference, run_id, model, threshold, invocations, time.time(), known)


def _name(folder: Path, reference: versions.Reference) -> None:
    """Write name and version beside a model, as MLflow does, so that its answers have them."""
    if reference.version is not None:
        named = {"model_name": reference.name, "model_version": reference.version}
        (folder / loading.ADDED).write_text(json.dumps(named), encoding="utf-8")


def _with_answers(folder: Path) -> tuple[PyFuncModel, Invocations]:
    """Return a model and what answers requests to it: its own code, else MLflow's.

    A model puts its own function in the place of MLflow's while it is loaded, if it finds itself in
    a scoring server. What stood there before is put back at once. A request that comes in between
    is for the former model, which the new function sees, and hands it on.
    """
    sys.modules.setdefault(_APP, types.ModuleType(_APP))
    before = _SLOT[_KEY]
    try:
        model = loading.load_pyfunc(folder)
        found = _SLOT[_KEY]
    finally:
        _SLOT[_KEY] = before
    return model, _mlflows if found is before else found


_mlflows: Invocations = scoring_server.invocations
