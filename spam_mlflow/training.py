"""Fitting a model: training part for the weights, validation part for every choice after that."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spam_mlflow import keras_backend
from spam_mlflow.classifier import Classifier, Metadata
from spam_mlflow.errors import UserError
from spam_mlflow.models import Architecture
from spam_mlflow.settings import TrainSettings
from spam_mlflow.split import Split

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number from 0 and its figures by name."""

LOW_FPR = 0.002  # the ham false-positive rate at which recall is compared between models


@dataclass(frozen=True)
class Fit:
    """What training gave.

    epochs: loss, accuracy, val_loss and val_accuracy of each epoch.
    seconds: wall time from raw texts to trained weights, vocabulary included.
    messages_per_second: training messages times epochs, per second of that time.
    """

    classifier: Classifier
    linear_weights: dict[str, np.ndarray] | None
    epochs: list[dict[str, float]]
    seconds: float
    messages_per_second: float


def fit(
    architecture: Architecture,
    split: Split,
    settings: TrainSettings,
    seed: int,
    data_digest: str,
    on_epoch: EpochListener,
) -> Fit:
    """Fit `architecture` on the split's training part, then calibrate and choose the thresholds.

    Raises UserError where the loss becomes NaN or infinite.
    """
    keras_backend.seed_everything(seed, settings.deterministic)
    train, validation = split.part("train"), split.part("validation")
    start = time.perf_counter()
    vectorizer = architecture.vectorizer()
    vectorizer.fit(list(train["text"]))
    inputs, held_out = (vectorizer.transform(list(part["text"])) for part in (train, validation))
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    network = architecture.build(vectorizer, settings.learning_rate, steps)
    validation_data = (held_out, spam_column(validation))
    epochs = _fit_network(network, inputs, spam_column(train), validation_data, settings, on_epoch)
    seconds = time.perf_counter() - start
    spam = spam_column(validation)[:, 0]
    calibrated = architecture.calibrated(network, held_out, spam)
    scores = np.asarray(calibrated.predict(held_out, batch_size=1024, verbose=0))[:, 1]
    metadata = Metadata(
        architecture=architecture.name,
        threshold=threshold_at_fpr(scores, spam, settings.ham_fpr),
        threshold_at_fpr_0_2pct=threshold_at_fpr(scores, spam, LOW_FPR),
        max_words=vectorizer.max_words,
        max_sequence=vectorizer.max_sequence,
        data_digest=data_digest,
    )
    return Fit(
        classifier=Classifier(vectorizer, calibrated, metadata),
        linear_weights=architecture.linear_weights(calibrated),
        epochs=epochs,
        seconds=seconds,
        messages_per_second=len(train) * len(epochs) / seconds,
    )


def spam_column(part: pd.DataFrame) -> np.ndarray:
    """Return 1 for spam and 0 for ham, shape (rows, 1), float32."""
    return (part["label"] == "spam").to_numpy(dtype=np.float32)[:, None]


def threshold_at_fpr(scores: np.ndarray, spam: np.ndarray, ham_fpr: float | None) -> float:
    """Return the lowest threshold with at most a share `ham_fpr` of ham at or above it.

    scores, spam: shape (rows,); spam is 1 for spam. The threshold lies halfway between the highest
    ham score that must stay below it and the next score above that. Without a `ham_fpr` it is 0.5.
    """
    if ham_fpr is None:
        return 0.5
    ham = np.sort(scores[spam == 0])[::-1]
    highest_below = ham[int(np.floor(ham_fpr * len(ham)))]
    above = scores[scores > highest_below]
    return float(np.mean([highest_below, above.min() if len(above) else 1.0], dtype=np.float64))


def _fit_network(
    network: Any,
    inputs: Any,
    spam: np.ndarray,
    validation_data: tuple[Any, np.ndarray],
    settings: TrainSettings,
    on_epoch: EpochListener,
) -> list[dict[str, float]]:
    """Run Keras's training loop and return every epoch's figures."""
    epochs: list[dict[str, float]] = []

    def record(epoch: int, logs: Mapping[str, float]) -> None:
        figures = {name: float(value) for name, value in logs.items()}
        _require_finite(figures, epoch, settings.learning_rate)
        epochs.append(figures)
        on_epoch(epoch, figures)

    network.fit(
        inputs,
        spam,
        validation_data=validation_data,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        class_weight=_class_weight(settings, spam),
        callbacks=_callbacks(settings, record),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return epochs


def _callbacks(settings: TrainSettings, record: EpochListener) -> list[Any]:
    callbacks = keras_backend.load().callbacks
    chosen = [callbacks.TerminateOnNaN(), callbacks.LambdaCallback(on_epoch_end=record)]
    if settings.early_stopping or settings.best_weights:
        patience = settings.early_stopping or settings.epochs
        best = settings.best_weights
        chosen.append(
            callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=best)
        )
    return chosen


def _class_weight(settings: TrainSettings, spam: np.ndarray) -> dict[int, float] | None:
    if settings.class_weight == "none":
        return None
    share = float(spam.mean())
    return {0: 0.5 / (1 - share), 1: 0.5 / share}


def _require_finite(figures: Mapping[str, float], epoch: int, learning_rate: float) -> None:
    if not np.isfinite(figures["loss"]):
        raise UserError(
            f"the loss became {figures['loss']} in epoch {epoch + 1}; "
            f"try a smaller train.learning_rate (now {learning_rate:g})"
        )
