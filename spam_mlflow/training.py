"""Fitting a model: training part for the weights, validation part for every choice after that."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spam_mlflow import augmentation, keras_backend
from spam_mlflow.classifier import Classifier, Metadata
from spam_mlflow.errors import UserError
from spam_mlflow.models import Architecture
from spam_mlflow.settings import TrainSettings
from spam_mlflow.split import Split, deal_groups

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number from 0 and its figures by name."""

LOW_FPR = 0.002  # the ham false-positive rate at which recall is compared between models


@dataclass(frozen=True)
class Fit:
    """What training gave.

    validation_scores: spam probability of each row of the validation part, shape (rows,), from
        weights that never saw it.
    epochs: loss, accuracy, val_loss and val_accuracy of each epoch.
    seconds: wall time from raw texts to trained weights, vocabulary included.
    messages_per_second: messages learnt from, times epochs, per second of that time.
    """

    classifier: Classifier
    linear_weights: dict[str, np.ndarray] | None
    validation_scores: np.ndarray
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
    quiet: bool = False,
) -> Fit:
    """Fit `architecture` on the split's training part, then calibrate and choose the thresholds.

    A cross-fitted architecture learns from the validation part, too; what is chosen on scores is
    then chosen on those that each row gets from weights that never saw it.

    quiet: print no line for each epoch.

    Raises UserError where the loss becomes NaN or infinite, and for a cross-fitted architecture on
    a leaky split.
    """
    keras_backend.seed_everything(seed, settings.deterministic)
    rows = _learning_rows(split, architecture.folds, seed)
    start = time.perf_counter()
    copies = augmentation.copies(
        rows, settings.disguised, settings.padded, settings.copies_at_most, seed
    )
    learnt = pd.concat([rows, copies])
    vectorizer = architecture.vectorizer()
    inputs = vectorizer.fit_transform(list(learnt["text"]))
    held_out = rows if architecture.folds else split.part("validation").assign(fold=0)
    validation = held_out[held_out["fold"] == 0]
    held_out_inputs = inputs if architecture.folds else vectorizer.transform(list(held_out["text"]))
    steps = settings.epochs * -(-len(learnt) // settings.batch_size)
    network = architecture.build(vectorizer, settings.learning_rate, steps)
    targets = architecture.targets(spam(learnt), learnt["fold"].to_numpy())
    weights = _row_weights(settings, spam(learnt))
    epochs = _fit_network(
        network,
        {
            **architecture.validation(held_out_inputs[: len(validation)], spam(validation)),
            **architecture.batches(inputs, targets, weights, settings.batch_size, seed),
        },
        settings,
        on_epoch,
        quiet,
    )
    seconds = time.perf_counter() - start
    calibrated, scores = architecture.calibrated(
        network, vectorizer, held_out_inputs, spam(held_out), held_out["fold"].to_numpy()
    )
    metadata = Metadata(
        architecture=architecture.name,
        threshold=threshold_at_fpr(scores, spam(held_out), settings.ham_fpr),
        threshold_at_fpr_0_2pct=threshold_at_fpr(scores, spam(held_out), LOW_FPR),
        max_words=vectorizer.max_words,
        max_sequence=vectorizer.max_sequence,
        data_digest=data_digest,
    )
    return Fit(
        classifier=Classifier(vectorizer, calibrated, metadata),
        linear_weights=architecture.linear_weights(calibrated),
        validation_scores=scores[: len(validation)],
        epochs=epochs,
        seconds=seconds,
        messages_per_second=len(learnt) * len(epochs) / seconds,
    )


def _learning_rows(split: Split, folds: int, seed: int) -> pd.DataFrame:
    """Return the rows to learn from, with their `fold`: 0 is the validation part and comes first.

    Without `folds`, these are the training part alone, all in fold 1. With them, the training part
    is dealt to the folds from 1 to `folds` - 1, groups whole.
    """
    train, validation = split.part("train"), split.part("validation")
    if not folds:
        return train.assign(fold=1)
    if split.leaky:
        raise UserError(
            f"split={split.name} scores its validation part as test part, too, so a model that "
            "also learns from that part cannot be tried on it; choose split=grouped or another "
            "model"
        )
    train = train.assign(fold=deal_groups(train, folds - 1, seed) + 1)
    return pd.concat([validation.assign(fold=0), train], ignore_index=True)


def spam(part: pd.DataFrame) -> np.ndarray:
    """Return 1 for spam and 0 for ham, shape (rows,), float32."""
    return (part["label"] == "spam").to_numpy(dtype=np.float32)


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
    dealt: Mapping[str, Any],
    settings: TrainSettings,
    on_epoch: EpochListener,
    quiet: bool,
) -> list[dict[str, float]]:
    """Run Keras's training loop and return every epoch's figures."""
    epochs: list[dict[str, float]] = []

    def record(epoch: int, logs: Mapping[str, float]) -> None:
        figures = {name: float(value) for name, value in logs.items()}
        _require_finite(figures, epoch, settings.learning_rate)
        epochs.append(figures)
        on_epoch(epoch, figures)

    with _interrupts_held_back() as let_through:
        network.fit(
            **dealt,
            epochs=settings.epochs,
            steps_per_epoch=settings.steps_per_epoch or None,
            callbacks=_callbacks(settings, record, let_through),
            verbose=0 if quiet else 1 if sys.stdout.isatty() else 2,
        )
        let_through()
    return epochs


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[Callable[[], None]]:
    """Hold back Ctrl-C and SIGTERM until the function that is yielded lets them through.

    Python may handle a signal while TensorFlow calls it for the next batch; raised there, the
    interrupt would be lost, and training would go on.
    """
    received: list[int] = []

    def let_through() -> None:
        if received:
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: received.append(1)) for number in signals]
    try:
        yield let_through
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _callbacks(
    settings: TrainSettings, record: EpochListener, let_through: Callable[[], None]
) -> list[Any]:
    callbacks = keras_backend.load().callbacks
    chosen = [
        callbacks.TerminateOnNaN(),
        callbacks.LambdaCallback(
            on_epoch_end=record, on_train_batch_end=lambda batch, logs: let_through()
        ),
    ]
    if settings.early_stopping or settings.best_weights:
        patience = settings.early_stopping or settings.epochs
        best = settings.best_weights
        chosen.append(
            callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=best)
        )
    return chosen


def _row_weights(settings: TrainSettings, spam: np.ndarray) -> np.ndarray:
    """Return the weight of each row in the loss, shape (rows,)."""
    if settings.class_weight == "none":
        return np.ones(len(spam), dtype=np.float32)
    share = float(spam.mean())
    return np.where(spam == 1, 0.5 / share, 0.5 / (1 - share))


def _require_finite(figures: Mapping[str, float], epoch: int, learning_rate: float) -> None:
    if not np.isfinite(figures["loss"]):
        raise UserError(
            f"the loss became {figures['loss']} in epoch {epoch + 1}; "
            f"try a smaller train.learning_rate (now {learning_rate:g})"
        )
