from spam_mlflow.config.compose import compose


def test_presets_have_the_last_word() -> None:
    assert compose("main", ["debug=fast"]).register is False
    assert compose("main", ["experiment=tutorial"]).seed == 42


def test_the_tutorial_preset_is_faithful() -> None:
    cfg = compose("main", ["experiment=tutorial"])
    assert (cfg.split.test, cfg.split.seed, cfg.train.epochs, cfg.train.batch_size) == (
        0.33,
        42,
        5,
        32,
    )
    assert {**cfg.model} == {
        "_target_": "spam_mlflow.models.tutorial_lstm.TutorialLstm",
        "name": "tutorial_lstm",
        "max_words": 280,
        "max_sequence": 280,
        "embedding": 128,
        "spatial_dropout": 0.4,
        "units": 196,
        "dropout": 0.3,
        "recurrent_dropout": 0.3,
        "batch_size": 32,
        "learning_rate": 0.001,
    }
