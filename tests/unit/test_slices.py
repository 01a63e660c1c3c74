import pandas as pd

from spam_mlflow.evaluation import slices


def test_slices() -> None:
    frame = pd.DataFrame(
        {
            "text": ["see www.x.com", "SHOUTING ALL DAY LONG", "caf\xe9", "pay £5 " + "x" * 40],
            "source": ["a", "b", "b", "b"],
        }
    )
    found = {name: rows.tolist() for name, rows in slices.masks(frame)}
    assert found == {
        "source a": [True, False, False, False],
        "source b": [False, True, True, True],
        "short": [True, True, True, False],
        "link": [True, False, False, False],
        "digits or currency": [False, False, False, True],
        "capitals": [False, True, False, False],
        "not ASCII": [False, False, True, True],
    }
