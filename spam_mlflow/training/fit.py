"""Fitting a model: weights, calibration and thresholds."""

import contextlib
import logging
import math
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from spam_mlflow import progress
from spam_mlflow.config.schema import TrainSettings
from spam_mlflow.data import augmentation
from spam_mlflow.data.splitters import Split, assign_folds
from spam_mlflow.errors import UserError
from spam_mlflow.models import Architecture, SolvedNetwork, TrainedNetwork
from spam_mlflow.models.cross_fit import TrainingRows
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.classifier import Classifier, Metadata, Thresholds
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.scorer.vectorizers import Vectorizer
from spam_mlflow.tracking.run_logging import THRESHOLD_TAG
from spam_mlflow.training import agreement, memory, thresholds
from spam_mlflow.training.thresholds import Choice

logger = logging.getLogger(__name__)

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number, from 0, and its metrics by name."""

_SHOWN = ("loss", "val_loss", "val_accuracy")  # metrics of an epoch that are printed

LOW_FPR = 0.002
"""Ham false-positive rate at which recall is compared between models."""

_FEWEST_STEPS = 20
"""Steps of an epoch. With fewer, small data would be trained so little that scores of new messages
are not on the scale of out-of-fold scores, which come from fewer messages, and that no threshold
chosen on those fits: on 200 messages of UCI, F1 was 0.59 instead of 0.87."""


@dataclass(frozen=True)
class Fit:
    """A fitted model, and how the fit went.

    Attributes:
        classifier: The model, calibrated and with its thresholds.
        linear_weights: As `Architecture.linear_weights` returns them, None if it is not linear.
        validation_scores: Out-of-fold spam probability of each row of the validation part, shape
            (rows,).
        held_out_scores: Those of all messages that the threshold was chosen on; for a cross-fitted
            model, these are the training part's as well. Shape (messages,).
        held_out_spam: 1 for spam, 0 for ham; shape (messages,).
        choice: How the threshold was chosen.
        doubt: Why labels and texts may not belong together, None where they agree.
        better_alone: Which sources a model of their own would suit better, None where no source is
            told or the model is not cross-fitted.
        epochs: `loss`, `accuracy`, `val_loss` and `val_accuracy` of each epoch.
        seconds: Wall time from raw texts to trained weights, vocabulary included.
        messages_per_second: Messages trained on, copies included, times epochs, per second of
            `seconds`.
    """

    classifier: Classifier
    linear_weights: dict[str, np.ndarray] | None
    validation_scores: np.ndarray
    held_out_scores: np.ndarray
    held_out_spam: np.ndarray
    choice: Choice
    doubt: str | None
    better_alone: str | None
    epochs: list[dict[str, float]]
    seconds: float
    messages_per_second: float

    @property
    def tags(self) -> dict[str, str]:
        """What a run is tagged with."""
        said = {"labels.doubt": self.doubt, "sources.better_alone": self.better_alone}
        told = {name: text for name, text in said.items() if text}
        return {
            "threshold.policy": self.choice.policy,
            THRESHOLD_TAG: repr(self.classifier.metadata.threshold),
            **told,
        }


@dataclass(frozen=True)
class _Trained:
    """A network with its weights, and what it says about messages that were held out.

    Attributes:
        network: From the vectorizer's rows to probabilities of ham and spam, shape (rows, 2).
        held_out: Messages that were held out, those of the validation part first, as fold 0.
        scores: Their spam probabilities, shape (held out messages,).
        epochs: Metrics of each epoch.
        rows: Number of rows that were trained on, copies included.
        seconds: Wall time from raw texts to trained weights.
        held_out_alone: As `CrossFit.held_out_alone`, of positions alone; None for no cross-fitting.
    """

    network: Any
    held_out: pd.DataFrame
    scores: np.ndarray
    epochs: list[dict[str, float]]
    rows: int
    seconds: float
    held_out_alone: Callable[[np.ndarray], np.ndarray] | None = None


def fit(
    architecture: Architecture,
    split: Split,
    settings: TrainSettings,
    seed: int,
    data_digest: str,
    on_epoch: EpochListener,
    quiet: bool = False,
) -> Fit:
    """Train the network, calibrate its scores and choose the thresholds.

    Weights come from the training part; calibration and thresholds come from the validation part.
    A cross-fitted architecture trains on both parts, and uses the out-of-fold scores of both.

    Args:
        architecture: What the model is.
        split: The messages; the test part is not used.
        settings: How the model is fitted.
        seed: Seed of the initial weights, the augmentation and the order of the messages.
        data_digest: SHA-256 (hex) of the messages, for the metadata.
        on_epoch: Called after each epoch.
        quiet: Print no line for each epoch.

    Raises:
        UserError: Where the loss becomes NaN or infinite, and where a cross-fitted architecture
            meets a leaky split.
    """
    rows = _rows_with_folds(split, architecture.folds, seed)
    vectorizer = architecture.vectorizer()
    shown = on_epoch if quiet else _logged(on_epoch, settings.epochs)
    if isinstance(architecture, SolvedNetwork):
        rows_with_extra = _with_extra(rows, split.extra, architecture.folds)
        trained = _solve(architecture, vectorizer, rows_with_extra, settings, seed, shown)
    else:
        assert isinstance(architecture, TrainedNetwork)
        validation = split.part("validation").assign(fold=0)
        trained = _train(architecture, vectorizer, rows, validation, settings, seed, shown)
    spam = is_spam(trained.held_out["label"]).astype(np.float32)
    choice = thresholds.choose(trained.scores, spam, settings.threshold)
    low_fpr = thresholds.at_fpr(trained.scores, spam, LOW_FPR)
    metadata = _metadata(architecture, vectorizer, Thresholds(choice.value, low_fpr), data_digest)
    return Fit(
        classifier=Classifier(vectorizer, trained.network, metadata),
        linear_weights=architecture.linear_weights(trained.network),
        validation_scores=trained.scores[: int((trained.held_out["fold"] == 0).sum())],
        held_out_scores=trained.scores,
        held_out_spam=spam,
        choice=choice,
        doubt=agreement.doubt(trained.held_out, trained.scores),
        better_alone=_better_alone(trained),
        epochs=trained.epochs,
        seconds=trained.seconds,
        messages_per_second=trained.rows * len(trained.epochs) / trained.seconds,
    )


def _better_alone(trained: _Trained) -> str | None:
    if trained.held_out_alone is None:
        return None
    with progress.step("Comparing sources"):
        return agreement.better_alone(trained.held_out, trained.scores, trained.held_out_alone)


def _rows_with_folds(split: Split, folds: int, seed: int) -> pd.DataFrame:
    """Return the messages to train on with their `fold`; the validation part comes first, as 0.

    Without `folds`, these are the training part alone, all in fold 1. With them, the training part
    is assigned to the folds from 1 to `folds` - 1, groups together.
    """
    train, validation = split.part("train"), split.part("validation")
    if not folds:
        return train.assign(fold=1)
    if split.leaky:
        raise UserError(
            f"split={split.name} scores its validation part as test part, too, so a model that "
            "also trains on that part cannot be tested on it; choose split=grouped or another "
            "model"
        )
    train = train.assign(fold=assign_folds(train, folds - 1, seed) + 1)
    return pd.concat([validation.assign(fold=0), train], ignore_index=True)


def _with_extra(rows: pd.DataFrame, extra: pd.DataFrame, folds: int) -> pd.DataFrame:
    """Return `rows`, followed by additional messages in folds, groups together, with their role."""
    rows = rows.assign(role=augmentation.MESSAGE)
    if extra.empty:
        return rows
    fold = [zlib.crc32(str(group).encode()) % folds for group in extra["group"]]
    return pd.concat([rows, extra.assign(fold=fold, role=augmentation.EXTRA)], ignore_index=True)


def _with_copies(rows: pd.DataFrame, settings: TrainSettings, seed: int) -> pd.DataFrame:
    """Return `rows`, followed by their altered copies, with the role of each row."""
    messages = rows[rows["role"] == augmentation.MESSAGE]
    extra = rows[rows["role"] == augmentation.EXTRA]
    copies = augmentation.copies(
        messages,
        settings.obfuscated_fraction,
        settings.padded_fraction,
        settings.max_augmented,
        seed,
    )
    plain, of_extra = (
        augmentation.plain_copies(part, settings.plain_fraction, settings.max_augmented, seed)
        for part in (messages, extra)
    )
    misspelled = augmentation.misspelled_copies(
        messages, settings.misspelled_fraction, settings.max_augmented, seed
    )
    altered = {
        augmentation.COPY: copies,
        augmentation.PLAIN_COPY: plain,
        augmentation.EXTRA_COPY: of_extra,
        augmentation.MISSPELLED_COPY: misspelled,
    }
    return pd.concat([rows, *(part.assign(role=role) for role, part in altered.items())])


def _encode(texts: pd.Series, encode: Callable[[Sequence[str]], Any]) -> Any:
    encoded = encode(list(texts))
    memory.release()
    return encoded


def _metadata(
    architecture: Architecture, vectorizer: Vectorizer, chosen: Thresholds, data_digest: str
) -> Metadata:
    return Metadata(
        architecture=architecture.name,
        threshold=chosen.chosen,
        threshold_at_fpr_0_2pct=chosen.low_fpr,
        max_words=vectorizer.max_words,
        max_sequence=vectorizer.max_sequence,
        data_digest=data_digest,
    )


def _solve(
    architecture: SolvedNetwork,
    vectorizer: Vectorizer,
    rows: pd.DataFrame,
    settings: TrainSettings,
    seed: int,
    on_epoch: EpochListener,
) -> _Trained:
    """Solve for the weights of a cross-fitted model, with out-of-fold scores of its messages."""
    _warn_of_no_effect(architecture, settings)
    start = time.perf_counter()
    every = _with_copies(rows, settings, seed)
    with progress.step("Fitting the features"):
        inputs = _encode(every["text"], vectorizer.fit_transform)
    spam = is_spam(every["label"])
    weights = _row_weights(settings, spam.astype(np.float32))
    roles, folds = every["role"].to_numpy(), every["fold"].to_numpy()
    solver = architecture.solver(vectorizer, TrainingRows(inputs, spam, folds, roles, weights))
    epochs: list[dict[str, float]] = []
    with progress.step("Training", settings.epochs + 1) as training:
        while len(epochs) < settings.epochs and not _stops_early(epochs, settings.early_stopping):
            training.detail = f"epoch {len(epochs) + 1} of {settings.epochs}"
            epochs.append(solver.epoch(len(epochs) + 1))
            training.advance()
            on_epoch(len(epochs) - 1, epochs[-1])
        training.detail = "all heads"
        mixture, scores = solver.finish(len(epochs))
    seconds = time.perf_counter() - start
    memory.release()
    # Only now, so that its half a gigabyte does not add to what the features take at their peak.
    _load_tensorflow(seed, settings)
    messages = rows[rows["role"] == augmentation.MESSAGE]
    network = architecture.network(mixture, vectorizer)
    alone = partial(solver.held_out_alone, epochs=len(epochs))
    return _Trained(network, messages, scores, epochs, len(every), seconds, alone)


def _load_tensorflow(seed: int, settings: TrainSettings) -> None:
    with progress.step("Loading TensorFlow"):
        keras_backend.seed_everything(seed, settings.deterministic)


def _warn_of_no_effect(architecture: Architecture, settings: TrainSettings) -> None:
    """Warn of settings that a solver does not have, where they are given."""
    given = {
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "steps_per_epoch": settings.steps_per_epoch or None,
    }
    without = [f"train.{name}" for name, value in given.items() if value is not None]
    if without:
        logger.warning(
            "%s: no effect on model=%s, whose weights a solver finds from all messages at once",
            ", ".join(without),
            architecture.name,
        )


def _stops_early(epochs: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Return whether so many epochs have gone by since the lowest val_loss; 0 is for never."""
    losses = [epoch["val_loss"] for epoch in epochs]
    return (
        bool(patience)
        and len(losses) > patience
        and len(losses) - 1 - patience >= int(np.argmin(losses))
    )


def _train(
    architecture: TrainedNetwork,
    vectorizer: Vectorizer,
    rows: pd.DataFrame,
    validation: pd.DataFrame,
    settings: TrainSettings,
    seed: int,
    on_epoch: EpochListener,
) -> _Trained:
    """Train the network on `rows` and their copies, and score the validation part."""
    _load_tensorflow(seed, settings)
    start = time.perf_counter()
    every = _with_copies(rows.assign(role=augmentation.MESSAGE), settings, seed)
    with progress.step("Fitting the features"):
        inputs = _encode(every["text"], vectorizer.fit_transform)
        held_out = _encode(validation["text"], vectorizer.transform)
    spam = is_spam(every["label"]).astype(np.float32)
    assert settings.batch_size is not None
    assert settings.learning_rate is not None
    batch_size = min(settings.batch_size, -(-len(every) // _FEWEST_STEPS))
    network = architecture.build(vectorizer, settings.learning_rate)
    fit_arguments = {
        **architecture.validation(held_out, is_spam(validation["label"]).astype(np.float32)),
        **architecture.batches(inputs, spam, _row_weights(settings, spam), batch_size),
    }
    epochs = _fit_network(network, fit_arguments, settings, on_epoch)
    scores = network.predict(held_out, batch_size=1024, verbose=0)[:, 1]
    seconds = time.perf_counter() - start
    return _Trained(network, validation, scores, epochs, len(every), seconds)


def _fit_network(
    network: Any,
    fit_arguments: Mapping[str, Any],
    settings: TrainSettings,
    on_epoch: EpochListener,
) -> list[dict[str, float]]:
    """Run Keras's training loop and return the metrics of every epoch."""
    epochs: list[dict[str, float]] = []

    def record(epoch: int, logs: Mapping[str, float]) -> None:
        metrics = {name: float(value) for name, value in logs.items()}
        _require_finite_loss(metrics["loss"], epoch, settings.learning_rate)
        epochs.append(metrics)
        on_epoch(epoch, metrics)

    with (
        _defer_interrupts() as raise_if_interrupted,
        progress.step("Training", settings.epochs) as training,
    ):

        def after_batch(share: float) -> None:
            raise_if_interrupted()
            training.done = len(epochs) + share
            training.detail = f"epoch {len(epochs) + 1} of {settings.epochs}"

        network.fit(
            **fit_arguments,
            epochs=settings.epochs,
            steps_per_epoch=settings.steps_per_epoch or None,
            callbacks=_callbacks(settings, record, after_batch),
            verbose=0,
        )
        raise_if_interrupted()
    return epochs


def _logged(on_epoch: EpochListener, epochs: int) -> EpochListener:
    """Return a listener that also logs a line for each epoch."""
    before = time.perf_counter()

    def listen(epoch: int, metrics: Mapping[str, float]) -> None:
        nonlocal before
        now = time.perf_counter()
        values = ", ".join(f"{n} {metrics[n]:.4f}" for n in _SHOWN if n in metrics)
        logger.info("Epoch %s of %s: %s, %.1f s", epoch + 1, epochs, values, now - before)
        before = now
        on_epoch(epoch, metrics)

    return listen


@contextlib.contextmanager
def _defer_interrupts() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C and SIGTERM.

    Python may handle a signal while TensorFlow calls it for the next batch. A KeyboardInterrupt
    that is raised there is lost, and training goes on.

    Yields:
        A function that raises KeyboardInterrupt if a signal has arrived.
    """
    received: list[int] = []

    def raise_if_interrupted() -> None:
        if received:
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: received.append(1)) for number in signals]
    try:
        yield raise_if_interrupted
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


def _callbacks(
    settings: TrainSettings, record: EpochListener, after_batch: Callable[[float], None]
) -> list[Any]:
    """Return the callbacks of Keras's training loop.

    Args:
        settings: How the model is fitted.
        record: Called after each epoch.
        after_batch: Called after each batch with the fraction of the epoch that is done.
    """
    callbacks = keras_backend.load().callbacks
    listener: Any = callbacks.LambdaCallback(
        on_epoch_end=record,
        on_train_batch_end=lambda batch, logs: after_batch(
            (batch + 1) / (listener.params["steps"] or math.inf)
        ),
    )
    chosen = [callbacks.TerminateOnNaN(), listener]
    if settings.early_stopping or settings.best_weights:
        patience = settings.early_stopping or settings.epochs
        best = settings.best_weights
        chosen.append(
            callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=best)
        )
    return chosen


def _row_weights(settings: TrainSettings, spam: np.ndarray) -> np.ndarray:
    """Return the weight of each row in the loss, shape (rows,); spam is 1 for spam."""
    if settings.class_weight == "none":
        return np.ones(len(spam), dtype=np.float32)
    share = float(spam.mean())
    return np.where(spam == 1, 0.5 / share, 0.5 / (1 - share))


def _require_finite_loss(loss: float, epoch: int, learning_rate: float | None) -> None:
    if not np.isfinite(loss):
        raise UserError(
            f"the loss became {loss} in epoch {epoch + 1}; "
            f"try a smaller train.learning_rate (now {learning_rate:g})"
        )
