"""The no-op baseline, a model without any work, with which a served model's costs are compared."""

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class NoopModel(PythonModel):
    """A pyfunc model that labels every text as ham."""

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row per text.

        Args:
            context: MLflow's; not used.
            model_input: Texts in a column `text`. MLflow may pass a list of texts in one cell.
            params: Not used.
        """
        first = model_input["text"].iloc[0]
        packed = len(model_input) == 1 and isinstance(first, list | np.ndarray)
        size = len(first) if packed else len(model_input)
        return pd.DataFrame(
            {"label": ["ham"] * size, "spam_probability": 0.0, "ham_probability": 1.0}
        )


mlflow.models.set_model(NoopModel())
