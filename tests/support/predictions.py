"""Tables as runs log them to predictions.csv."""

import numpy as np
import pandas as pd

MARKUP = "<script>alert('win')</script> & call now"


def predictions(right: int, seed: int, messages: int = 200) -> pd.DataFrame:
    """Return a run's predictions: the same messages every time, `right` of 100 spam found."""
    label = np.where(np.arange(messages) % 2 == 0, "spam", "ham")
    found = np.isin(np.arange(messages), 2 * np.random.default_rng(seed).permutation(100)[:right])
    texts = [f"message {number} of some length" for number in range(messages)]
    return pd.DataFrame(
        {
            "text": [MARKUP, *texts[1:]],
            "label": label,
            "source": "own",
            "group": np.arange(messages) // 4,
            "spam_probability": np.where(found, 0.9, 0.1),
            "predicted": np.where(found, "spam", "ham"),
        }
    )
