"""Which files of a logged model are accepted, and what their digest covers."""

import importlib.util
import py_compile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.model_folder import BEFORE, describe, make_model

from spam_mlflow.errors import UserError
from spam_mlflow.registry import model_files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def module(model: Path) -> Path:
    return model / "code" / model_files.package(model) / "labels.py"


def append(file: Path, text: str = "\n") -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as stream:
        stream.write(text)


def describe_top(model: Path, **changes: object) -> None:
    described = yaml.safe_load((model / "MLmodel").read_text())
    (model / "MLmodel").write_text(yaml.safe_dump({**described, **changes}))


CHANGES: dict[str, Callable[[Path], object]] = {
    "code": lambda model: append(module(model)),
    "entry file": lambda model: append(model / "spam_model.py"),
    "weights": lambda model: append(model / "artifacts" / "classifier" / "linear-weights.npz"),
    "checksums": lambda model: append(model / "artifacts" / "classifier" / "checksums.json"),
    "packages to install": lambda model: append(model / "requirements.txt", "evil==1\n"),
    "a further file": lambda model: append(model / "notes.txt"),
    "a removed file": lambda model: module(model).unlink(),
    "a renamed file": lambda model: module(model).rename(module(model).with_name("labels_.py")),
    "how it is loaded": lambda model: describe(model, predict_fn="other"),
    "the signature": lambda model: describe_top(model, signature={}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_covers_every_file_that_a_model_is_loaded_from(model: Path, change: str) -> None:
    before = model_files.digest(model)
    CHANGES[change](model)
    assert model_files.digest(model) != before


def test_the_digest_of_a_copy_in_another_store_is_the_same(model: Path) -> None:
    before = model_files.digest(model)
    describe_top(model, run_id="another", model_id="m-other", utc_time_created="later")
    assert model_files.digest(model) == before


def compiled(model: Path, mode: py_compile.PycInvalidationMode) -> None:
    py_compile.compile(str(module(model)), invalidation_mode=mode)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "another loader": (
        lambda model: describe(model, loader_module="mlflow.sklearn"),
        "mlflow.sklearn would unpickle it or run other code",
    ),
    "pickled": (
        lambda model: describe(model, loader_module="mlflow.pyfunc.model"),
        "mlflow.pyfunc.model would unpickle it",
    ),
    "named pickle": (lambda model: describe(model, python_model="python_model.x"), "unpickle it"),
    "pickle": (lambda model: append(model / "python_model.pkl"), "python_model.pkl is pickled"),
    "joblib": (lambda model: append(model / "artifacts" / "a.joblib"), "artifacts/a.joblib is"),
    "code elsewhere": (lambda model: describe(model, code="other"), "names other folders than"),
    "files elsewhere": (
        lambda model: describe(model, artifacts={"classifier": {"path": "../other"}}),
        "names other folders than code and artifacts/classifier",
    ),
    "a module that would be imported instead of another": (
        lambda model: append(model / "code" / "numpy.py"),
        "holds numpy.py, spam_scorer_",
    ),
    "a library in place of a module": (
        lambda model: append(module(model).with_suffix(".so")),
        "labels.so is pickled or compiled",
    ),
    "compiled code without source": (
        lambda model: append(module(model).with_suffix(".pyc")),
        "labels.pyc is pickled or compiled",
    ),
    "compiled code that is not compared with its source": (
        lambda model: compiled(model, py_compile.PycInvalidationMode.UNCHECKED_HASH),
        ".pyc is pickled or compiled",
    ),
    "compiled code that goes with its source": (
        lambda model: compiled(model, py_compile.PycInvalidationMode.CHECKED_HASH),
        ".pyc is pickled or compiled",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_run_other_code_is_refused_in_one_line(model: Path, kind: str) -> None:
    model_files.require_code_only(model, "models:/m/1")
    change, message = REFUSED[kind]
    change(model)
    with pytest.raises(UserError) as refused:
        model_files.require_code_only(model, "models:/m/1")
    assert message in str(refused.value)
    assert str(refused.value).startswith("model_uri='models:/m/1' is not loaded, since ")
    assert "\n" not in str(refused.value)


def test_what_python_compiles_by_itself_is_accepted(model: Path) -> None:
    compiled(model, py_compile.PycInvalidationMode.TIMESTAMP)
    assert Path(importlib.util.cache_from_source(str(module(model)))).is_file()
    model_files.require_code_only(model, "models:/m/1")


def test_a_version_of_before_is_accepted() -> None:
    model_files.require_code_only(BEFORE / "model", "models:/m/1")
    assert model_files.package(BEFORE / "model") in model_files.UNDIGESTED


def test_a_package_is_named_by_its_content_and_loaded_by_the_usual_entry(model: Path) -> None:
    assert model_files.is_self_consistent(model)
    entry = (model / "spam_model.py").read_text()
    append(model / "spam_model.py", "import os\n")
    assert not model_files.is_self_consistent(model)
    (model / "spam_model.py").write_text(entry)
    (model / "own.py").write_text(entry)
    describe(model, model_code_path="own.py")
    assert not model_files.is_self_consistent(model)
    describe(model, model_code_path="spam_model.py")
    module(model).rename(module(model).with_name("labels_.py"))
    assert not model_files.is_self_consistent(model)
    module(model).with_name("labels_.py").rename(module(model))
    assert model_files.is_self_consistent(model)
    append(module(model))
    assert not model_files.is_self_consistent(model)
