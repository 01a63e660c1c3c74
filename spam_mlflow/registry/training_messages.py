"""The messages that a logged model was trained on, as its run has recorded them."""

import tempfile

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spam_mlflow.data import csv_cells
from spam_mlflow.error_messages import require_space
from spam_mlflow.registry import model_logging
from spam_mlflow.scorer.normalization import duplicate_key
from spam_mlflow.tracking import run_folder
from spam_mlflow.tracking.run_folder import LARGE_SPLIT_FILE, SPLIT_FILE

_PARTS = ("train", "validation")  # fitted, or used to choose epochs, calibration and thresholds


def keys(client: MlflowClient, model_id: str) -> frozenset[str] | None:
    """Return the keys of the messages that a model was trained or tuned on.

    Args:
        client: Client of the tracking store.
        model_id: ID of the logged model.

    Returns:
        Keys as `duplicate_key` returns them; None if the model's run cannot be read.
    """
    model = model_logging.logged_model(client, model_id)
    if model is None or model.source_run_id is None:
        return None
    try:
        table = split_table(client, model.source_run_id)
        if table is None:
            return None
        return frozenset(table.loc[table["part"].isin(_PARTS), "key"])
    except (MlflowException, OSError, KeyError, ValueError) as error:
        require_space(error, f"the split of run {model.source_run_id}")
        return None


def split_table(client: MlflowClient, run_id: str) -> pd.DataFrame | None:
    """Return the table that `artifacts.write_split` wrote for a run, as text.

    Args:
        client: Client of the tracking store.
        run_id: ID of the run.

    Returns:
        The table; None if the run has none.

    Raises:
        ValueError: If it is damaged.
    """
    logged = {file.path for file in client.list_artifacts(run_id)}
    for name in (SPLIT_FILE, LARGE_SPLIT_FILE):
        if name in logged:
            with tempfile.TemporaryDirectory() as scratch:
                file = client.download_artifacts(run_id, name, scratch)
                safe = run_folder.has_safe_csv(client.get_run(run_id))
                return csv_cells.read(file, safe, dtype=str)
    return None


def is_among(texts: pd.Series, known: frozenset[str]) -> pd.Series:
    """Return for each text whether it, or a copy of it, is among the messages with these keys.

    Args:
        texts: The texts, shape (rows,).
        known: Keys, as `keys` returns them.

    Returns:
        Shape (rows,), bool.
    """
    return texts.map(duplicate_key).isin(known)
