import functools
from typing import Any

import pytest
from omegaconf import DictConfig
from optuna.trial import FixedTrial

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.paths import choices
from spam_mlflow.errors import UserError
from spam_mlflow.sweep.search_space import SearchSpace, applied


@functools.cache
def sweep() -> DictConfig:
    return compose("sweep", [])


def space(*parameters: dict[str, Any]) -> SearchSpace:
    cfg = sweep().copy()
    cfg.search.parameters = list(parameters)
    return space_of(cfg)


def space_of(cfg: DictConfig) -> SearchSpace:
    return SearchSpace.of(validate("sweep", cfg).search, cfg)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"name": "train.epochs", "type": "int", "low": 5, "high": 2}, "needs low <= high"),
        ({"name": "train.epochs", "type": "int"}, "needs low <= high, not None and None"),
        ({"name": "train.epochs", "type": "categorical"}, "train.epochs needs choices"),
        (
            {"name": "train.learning_rate", "type": "float", "low": 0, "high": 1, "log": True},
            "with log needs low > 0",
        ),
        ({"name": "seed", "type": "int", "low": 0, "high": 9}, "'seed' is not a key of this model"),
        ({"name": "train.epoch", "type": "int", "low": 1, "high": 2}, "'train.epoch' is not a key"),
        (
            {"name": "train.epochs", "type": "int", "low": 1, "high": 2, "when": {"model.x": 1}},
            "'model.x' is not a key",
        ),
        ({"name": "train.epochs", "type": "integer"}, "search.parameters.0.type='integer': "),
    ],
)
def test_a_search_space_that_makes_no_sense_is_refused(
    parameter: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        space(parameter)


def test_a_parameter_with_an_unmet_condition_is_left_alone() -> None:
    weights = {"name": "train.class_weight", "type": "categorical", "choices": ["none", "balanced"]}
    copies = {"name": "train.obfuscated_fraction", "type": "float", "low": 0, "high": 0.5}
    found = space(weights, {**copies, "when": {"train.class_weight": "balanced"}})
    drawn = {"train.class_weight": "none", "train.obfuscated_fraction": 0.3}
    assert found.suggest(FixedTrial(drawn)) == {"train.class_weight": "none"}  # type: ignore[arg-type]
    drawn["train.class_weight"] = "balanced"
    assert found.suggest(FixedTrial(drawn)) == drawn  # type: ignore[arg-type]


def test_the_configuration_as_it_stands_is_tried_first() -> None:
    cfg = sweep()
    current = space_of(cfg).current(cfg)
    assert current["train.epochs"] == cfg.train.epochs
    assert current["model.characters"] == "[2,5]"
    assert applied(cfg, current) == cfg
    assert "train.epochs" not in space(
        {"name": "train.epochs", "type": "int", "low": 7, "high": 9}
    ).current(cfg)


@pytest.mark.parametrize("name", choices("search"))
def test_every_search_space_fits_its_model(name: str) -> None:
    cfg = compose("sweep", [f"search={name}", f"model={name}"])
    found = space_of(cfg)
    assert set(found.current(cfg)) == {parameter.name for parameter in found.parameters}


def test_trials_have_all_in_common_that_is_not_drawn() -> None:
    epochs = {"name": "train.epochs", "type": "int", "low": 1, "high": 3}
    copies = {"name": "train.plain_fraction", "type": "float", "low": 0, "high": 1}
    found = space(epochs, {**copies, "when": {"train.epochs": 2}})
    before = found.common(sweep())

    def changed(key: str, value: Any) -> set[str]:
        after = found.common(applied(sweep(), {key: value}))
        return {name for name in {**before, **after} if before.get(name) != after.get(name)}

    assert changed("train.epochs", 9) == set()
    assert changed("trials", 9) == set()
    assert changed("train.plain_fraction", 0.9) == {"train.plain_fraction"}  # where none is drawn
    assert changed("model.cost", 9.0) == {"model.cost"}
    assert changed("seed", 9) == {"seed"}
    wider = space({**epochs, "high": 4}, {**copies, "when": {"train.epochs": 2}}).common(sweep())
    assert {name for name in wider if wider[name] != before[name]} == {"search of train.epochs"}
