import numpy as np
import pandas as pd
import pytest

from spam_mlflow.data.messages import Messages
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation import model_card
from spam_mlflow.scorer.classifier import Metadata

ENGLISH = ["see you at home", "call me now please", "is it free", "win the prize"]
RUSSIAN = ["привет как дела", "увидимся завтра дома", "вы выиграли приз", "спасибо большое"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(ENGLISH, ("Latin 100.0%", "mostly English")), (RUSSIAN, ("Cyrillic 100.0%", "mostly not"))],
    ids=["English", "Russian"],
)
def test_the_card_names_what_was_trained_on(texts: list[str], expected: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"text": texts * 5, "label": ["ham", "spam"] * 10, "source": "mine"})
    frame = frame.assign(group=np.arange(20), part=["train", "test"] * 10)
    split = Split(frame, "grouped", leaky=False, duplicates=0)
    card = model_card.write(
        Metadata("m", 0.5, 0.9, 0, None, "0"), Messages(frame, "csv"), split, {}, "so"
    )
    assert "English only" not in card
    for text in expected:
        assert text in card
