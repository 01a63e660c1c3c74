"""The obvious way to serve the tutorial's LSTM: Keras's `predict` on every request."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class NaiveModel(PythonModel):
    """Text in, spam probability out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier."""
        from spam_mlflow.scorer.classifier import Classifier

        self._classifier = Classifier.load(Path(context.artifacts["classifier"]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row per text."""
        texts = model_input["text"].tolist()
        if len(texts) == 1 and not isinstance(texts[0], str):
            texts = list(texts[0])
        spam = self._classifier.spam_probability(texts)
        return pd.DataFrame({"spam_probability": spam})


mlflow.models.set_model(NaiveModel())
