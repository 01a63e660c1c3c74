"""What users of Python get from a logged model, by MLflow's own loading."""

import logging
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel
from support.project import Trained

TEXTS = ["Ok, see you at seven then", "Subscribe to my channel for free gift cards"]


@pytest.fixture(scope="module")
def model(trained: Trained) -> Any:
    uri = trained.project.client.get_model_version_download_uri("spam-classifier", "1")
    folder = mlflow.artifacts.download_artifacts(uri, tracking_uri=trained.project.store)
    return mlflow.pyfunc.load_model(folder)


FORMS: dict[str, Any] = {
    "list": TEXTS,
    "series": pd.Series(TEXTS),
    "named series": pd.Series(TEXTS, name="message"),
    "array of strings": np.array(TEXTS),
    "array of objects": np.array(TEXTS, dtype=object),
    "data frame": pd.DataFrame({"text": TEXTS}),
    "text not first": pd.DataFrame({"id": [1, 2], "text": TEXTS}),
    "records": [{"text": text} for text in TEXTS],
    "columns": {"text": TEXTS},
    "columns of arrays": {"text": np.array(TEXTS)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_texts_gets_the_same_answer(model: Any, form: str) -> None:
    expected = model.predict(pd.DataFrame({"text": TEXTS}))
    assert expected["label"].tolist() == ["ham", "spam"]
    pd.testing.assert_frame_equal(model.predict(FORMS[form]), expected)


@pytest.mark.parametrize("text", ["one text", "", "\U0001f600"])
def test_a_single_text_is_one_row(model: Any, text: str) -> None:
    for form in (text, [text], {"text": text}, {"text": [text]}):
        assert len(model.predict(form)) == 1


@pytest.mark.parametrize("empty", [[], np.array([]), pd.Series([], dtype=object), {"text": []}])
def test_no_texts_give_no_rows(model: Any, empty: Any) -> None:
    assert len(model.predict(empty)) == 0


@pytest.mark.parametrize("index", [[7, 3], ["a", "b"], pd.date_range("2026-01-01", periods=2)])
def test_the_callers_index_is_kept(model: Any, index: Any) -> None:
    for given in (pd.DataFrame({"text": TEXTS}, index=index), pd.Series(TEXTS, index=index)):
        assert model.predict(given).index.equals(given.index)


BAD: dict[str, tuple[Any, str]] = {
    "a record whose text is a list": (
        pd.DataFrame({"text": [TEXTS]}),
        r"row 0 is list: \['Ok, see you",
    ),
    "the same among records": ([{"text": TEXTS}], "row 0 is list"),
    "a list within a list": ([TEXTS], "row 0 is list"),
    "a matrix": (np.array([[text] for text in TEXTS]), "list of strings, not ndarray"),
    "a number": (5, "list of strings, not int 5"),
    "a number in a list": ([TEXTS[0], 5], "row 1 is int: 5"),
    "null in a list": ([TEXTS[0], None], "row 1 is null"),
    "a number in a series": (pd.Series([TEXTS[0], 5], dtype=object), "row 1 is int: 5"),
    "no column text": (pd.DataFrame({"body": TEXTS}), r"one column 'text'; got \['body'\]"),
    "a record without text": ([{"text": "a"}, {"body": "b"}], r"one column 'text'; got \['body'\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_but_texts_is_refused_with_its_row(model: Any, name: str) -> None:
    given, message = BAD[name]
    with pytest.raises(MlflowException, match=message):
        model.predict(given)


@pytest.mark.parametrize("params", [{"thresold": 0.5}, {"threshold": 0.5, "explian": True}])
def test_a_misspelled_parameter_is_refused(model: Any, params: dict[str, Any]) -> None:
    with pytest.raises(MlflowException, match="the parameters are threshold and explain"):
        model.predict(TEXTS, params=params)


def test_a_long_value_is_not_repeated(model: Any) -> None:
    with pytest.raises(MlflowException) as caught:
        model.predict([["a long text"] * 5000])
    assert len(caught.value.message) < 200


def test_mlflow_does_not_warn_that_it_ignores_what_is_scored(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("mlflow").propagate = True
    for form in ("list", "named series", "array of objects"):
        model.predict(FORMS[form])
    assert "will be ignored" not in caplog.text
    model.predict(FORMS["text not first"])
    assert "`['id']`. These inputs will be ignored." in caplog.text


class Wrapper(PythonModel):
    """A model of the user's own around ours."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return self.inner.predict(context, pd.DataFrame({"text": ["free prize"]}), params)


def test_texts_are_those_of_the_nearest_caller(model: Any) -> None:
    """Called from another model, ours scores what that one gives it."""
    outer = Wrapper(model.unwrap_python_model())
    found = outer.predict(None, ["a", "b", "c"])
    assert len(found) == 1


def test_the_signature_names_all_that_an_answer_can_hold(model: Any) -> None:
    signature = model.metadata.signature
    assert signature
    assert signature.inputs
    assert signature.outputs
    assert signature.inputs.input_names() == ["text"]
    required = {spec.name: spec.required for spec in signature.outputs}
    assert required == {
        "label": True,
        "spam_probability": True,
        "ham_probability": True,
        "low_confidence": False,
        "explanation": False,
    }
    unfamiliar = "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430"
    explained = model.predict(["Call now", unfamiliar], params={"explain": True})
    assert list(explained) == list(required)
    assert explained["low_confidence"][0] == ""
    assert explained["low_confidence"][1] == "the model was not trained on Cyrillic script"
    assert "low_confidence" not in model.predict(["Call now"])


def test_the_recipe_for_mlflows_evaluation(
    model: Any, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spam_mlflow.data.sources.sample import SampleSource

    frame = SampleSource().load().frame[["text", "label"]].sample(200, random_state=0)
    store = shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    result = mlflow.models.evaluate(
        lambda rows: model.predict(rows)["label"],
        frame,
        targets="label",
        model_type="classifier",
        evaluator_config={"pos_label": "spam", "log_model_explainability": False},
    )
    mlflow.end_run()
    right = (model.predict(frame)["label"] == frame["label"]).mean()
    assert result.metrics["accuracy_score"] == pytest.approx(right)
    assert result.metrics["f1_score"] > 0.8
