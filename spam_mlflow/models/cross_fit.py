"""Cross-fitting of linear heads: out-of-fold margins, calibration, and the network of the result.

Every head is solved for once for each fold, without the rows of that fold, and once with all rows.
The first give every message a margin from weights that were not trained on it; the last is kept.
Its scores are calibrated on those margins, and its threshold is chosen on them.

With additional messages from elsewhere there are two experts, between which a gate chooses for each
text: one for the messages, and one for what is like the additional ones. Mixed into a single head,
such messages would cost accuracy on the others, since the same words mean other things in them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spam_mlflow.data.augmentation import COPY, EXTRA, MESSAGE, MISSPELLED_COPY, PLAIN_COPY
from spam_mlflow.models import large_margin
from spam_mlflow.models.large_margin import Head
from spam_mlflow.scorer import keras_backend
from spam_mlflow.scorer.scorers import sigmoid
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer

if TYPE_CHECKING:
    import keras

PASSES = 2
"""Passes over the rows that count as an epoch."""

_ROWS_AT_ONCE = 1024  # rows that are scored at a time
_MESSAGES_IN_EXTRA = 0.3  # weight of a message where the second expert is calibrated

_ALONE = {MESSAGE: 1.0}
_MISSPELLED = {MESSAGE: 1.0, MISSPELLED_COPY: 1.0}
_OWN = (_MISSPELLED, {**_MISSPELLED, COPY: 1.0, PLAIN_COPY: 1.0})
"""Weight of each role in the heads whose mean is the expert for the messages.

Misspelled copies are in both, since a head without them relies on single spellings. The others cost
accuracy on messages as they are, for which the first head is without them.
"""


@dataclass(frozen=True)
class TrainingRows:
    """Rows to train on: messages, their altered copies, and additional messages.

    Attributes:
        inputs: CSR matrix of shape (rows, features).
        spam: Whether each row is spam, shape (rows,), bool.
        fold: Fold of each row, shape (rows,), int64.
        role: What each row is, one of the constants of `augmentation`; shape (rows,), str.
        weights: Weight of each row in the loss, shape (rows,).
    """

    inputs: Any
    spam: np.ndarray
    fold: np.ndarray
    role: np.ndarray
    weights: np.ndarray

    def has(self, role: str) -> bool:
        """Return whether there are rows of a role."""
        return bool((self.role == role).any())


class Mixture(NamedTuple):
    """Log-odds of spam: those of `own`, or with `gate` a mean of those of `own` and `extra`.

    Attributes:
        own: The expert for the messages, before calibration.
        slope: Factor that makes its margins log-odds.
        shift: What is added to them.
        extra: The log-odds of the expert for what is like the additional messages; None without
            them.
        gate: Log-odds that a text is like the additional messages; None without them.
    """

    own: Head
    slope: float
    shift: float
    extra: Head | None = None
    gate: Head | None = None


class Gate(NamedTuple):
    """How the gate between two experts is made.

    Attributes:
        cost: Weight of its loss against the length of its coefficients.
        slope: Factor on its log-odds. Below 1, both experts have a say in most texts, which is
            better than either of them alone.
        bias: What is added to its log-odds then; negative in favor of the messages' own expert.
    """

    cost: float
    slope: float
    bias: float


class CrossFit:
    """Solves for the heads of a cross-fitted linear model.

    Args:
        vectorizer: The fitted vectorizer.
        rows: The rows to train on, messages first.
        folds: Number of folds.
        cost: Weight of the loss against the length of the coefficients.
        extra_weights: Weight of each role in the expert for additional messages.
        gate: How the gate is made.
    """

    def __init__(
        self,
        vectorizer: NgramVectorizer,
        rows: TrainingRows,
        folds: int,
        cost: float,
        extra_weights: Mapping[str, float],
        gate: Gate,
    ) -> None:
        self._vectorizer, self._rows, self._folds = vectorizer, rows, folds
        self._cost, self._extra_weights, self._of_gate = cost, extra_weights, gate
        self._scored = np.flatnonzero(np.isin(rows.role, (MESSAGE, EXTRA)))

    def epoch(self, number: int) -> dict[str, float]:
        """Return the metrics of one head after so many epochs.

        It is the head that is trained on the messages alone, without fold 0, on which it is
        validated. A solver that starts anew takes the same path, so that this is a learning curve.

        Args:
            number: Number of epochs, from 1.
        """
        rows = self._rows
        messages, held_out = rows.role == MESSAGE, rows.fold == 0
        head = self._solve(_ALONE, ~held_out, number * PASSES)
        found = {}
        for prefix, part in (("", messages & ~held_out), ("val_", messages & held_out)):
            margins, spam = head.margins(rows.inputs[part]), rows.spam[part]
            found[f"{prefix}loss"] = large_margin.loss(margins, spam)
            found[f"{prefix}accuracy"] = float(np.mean((margins > 0) == spam))
        return found

    def finish(self, epochs: int) -> tuple[Mixture, np.ndarray]:
        """Solve for all heads and calibrate the result.

        Args:
            epochs: Number of epochs.

        Returns:
            The calibrated heads, and the out-of-fold spam probability of each message, shape
            (messages,).
        """
        passes = epochs * PASSES
        own, held_out = self._cross_fitted(lambda part: self._own(part, passes))
        spam = self._rows.spam[self._scored]
        of_messages = self._rows.role[self._scored] == MESSAGE
        slope, shift = large_margin.platt(held_out[of_messages], spam[of_messages])
        log_odds = held_out * slope + shift
        if not self._rows.has(EXTRA):
            return Mixture(own, slope, shift), sigmoid(log_odds[of_messages])
        extra, gate, log_odds = self._with_extra(log_odds, passes)
        again, more = large_margin.platt(log_odds[of_messages], spam[of_messages])
        mixture = Mixture(own, slope * again, shift * again + more, extra.scaled(again, more), gate)
        return mixture, sigmoid(log_odds[of_messages] * again + more)

    def held_out_alone(self, positions: np.ndarray, epochs: int) -> np.ndarray:
        """Return held-out probabilities of messages by heads that are trained on them alone.

        Args:
            positions: Positions of the messages among the rows, shape (messages,), int64.
            epochs: Number of epochs.

        Returns:
            Spam probabilities before calibration, shape (messages,), float64.
        """
        these = np.zeros(len(self._rows.fold), dtype=bool)
        these[positions] = True
        passes = epochs * PASSES
        return sigmoid(
            self._held_out(lambda part: self._solve(_ALONE, part & these, passes), positions)
        )

    def _with_extra(self, own: np.ndarray, passes: int) -> tuple[Head, Head, np.ndarray]:
        """Return the second expert, the gate, and the held-out log-odds of both experts together.

        Args:
            own: Held-out log-odds of the first expert, shape (messages and additional ones,).
            passes: Largest number of passes over the rows.
        """
        is_extra = self._rows.role[self._scored] == EXTRA
        spam = self._rows.spam[self._scored]
        extra, held_out = self._cross_fitted(
            lambda part: self._solve(self._extra_weights, part, passes)
        )
        weights = np.where(is_extra, 1, _MESSAGES_IN_EXTRA)
        slope, shift = large_margin.platt(held_out, spam, weights)
        extra, log_odds = extra.scaled(slope, shift), held_out * slope + shift
        gate, held_out = self._cross_fitted(lambda part: self._gate(part, passes))
        slope, shift = large_margin.platt(held_out, is_extra, balanced(is_extra))
        factor, bias = self._of_gate.slope, self._of_gate.bias
        slope, shift = slope * factor, shift * factor + bias
        share = sigmoid(held_out * slope + shift)
        return extra, gate.scaled(slope, shift), (1 - share) * own + share * log_odds

    def _own(self, part: np.ndarray, passes: int) -> Head:
        altered = self._rows.has(COPY) or self._rows.has(PLAIN_COPY)
        return large_margin.mean(
            [self._solve(weights, part, passes) for weights in _OWN[: 1 + altered]]
        )

    def _solve(self, of_roles: Mapping[str, float], part: np.ndarray, passes: int) -> Head:
        weights = sum((self._rows.role == role) * weight for role, weight in of_roles.items())
        weights = weights * self._rows.weights * part
        return large_margin.solve(self._rows.inputs, self._rows.spam, weights, self._cost, passes)

    def _gate(self, part: np.ndarray, passes: int) -> Head:
        is_extra = self._rows.role == EXTRA
        used = part & (is_extra | (self._rows.role == MESSAGE))
        weights = np.zeros(len(used))
        weights[used] = balanced(is_extra[used])
        return large_margin.solve(self._rows.inputs, is_extra, weights, self._of_gate.cost, passes)

    def _cross_fitted(self, solve: Callable[[np.ndarray], Head]) -> tuple[Head, np.ndarray]:
        """Return the head of all rows, and the held-out margins of messages and extra rows.

        Args:
            solve: From whether each row is trained on to the head.
        """
        held_out = self._held_out(solve, self._scored)
        return solve(np.ones(len(self._rows.fold), dtype=bool)), held_out

    def _held_out(self, solve: Callable[[np.ndarray], Head], scored: np.ndarray) -> np.ndarray:
        """Return the margins of rows by heads that were not trained on their fold.

        Args:
            solve: From whether each row is trained on to the head.
            scored: Positions of the rows, shape (scored,), int64.
        """
        margins = np.empty(len(scored))
        for fold in range(self._folds):
            head = solve(self._rows.fold != fold)
            # Features that occur in this fold alone would not be in the vocabulary for new texts.
            # Kept, they would add to a row's length, and make out-of-fold scores less extreme than
            # scores of new texts.
            trained = head.coefficients != 0
            positions = np.flatnonzero(self._rows.fold[scored] == fold)
            for at in np.split(positions, range(_ROWS_AT_ONCE, len(positions), _ROWS_AT_ONCE)):
                rows = self._rows.inputs[scored[at]]
                margins[at] = head.margins(self._vectorizer.mask_vocabulary(rows, trained))
        return margins


def balanced(positive: np.ndarray) -> np.ndarray:
    """Return weights of rows with which both classes weigh the same, shape (rows,).

    Args:
        positive: Whether each row is in the positive class, shape (rows,), bool.
    """
    share = min(max(float(positive.mean()), 1e-9), 1 - 1e-9)
    return np.where(positive, 0.5 / share, 0.5 / (1 - share))


def network(mixture: Mixture, name: str, n_features: int) -> "keras.Model":
    """Return the heads as a network from sparse input to probabilities of ham and spam.

    Args:
        mixture: The calibrated heads.
        name: Name of the network.
        n_features: Number of features.
    """
    keras = keras_backend.load()
    layers = keras.layers
    inputs = keras.Input((n_features,), sparse=True, name="features")
    heads = {"margin": layers.Dense(1, name="margin")}
    calibration = layers.Dense(1, name="calibration")
    log_odds = calibration(heads["margin"](inputs))
    if mixture.extra is not None:
        heads["extra"] = layers.Dense(1, name="extra")
        heads["gate"] = layers.Dense(1, "sigmoid", name="gate")
        difference = layers.Subtract(name="difference")([heads["extra"](inputs), log_odds])
        taken = layers.Multiply(name="share")([heads["gate"](inputs), difference])
        log_odds = layers.Add(name="mixture")([log_odds, taken])
    softmax = layers.Dense(2, activation="softmax", name="probabilities")
    model = keras.Model(inputs, softmax(log_odds), name=name)
    for key, head in (("margin", mixture.own), ("extra", mixture.extra), ("gate", mixture.gate)):
        if head is not None:
            heads[key].set_weights([head.coefficients[:, None], np.array([head.intercept])])
    calibration.set_weights([np.array([[mixture.slope]]), np.array([mixture.shift])])
    # softmax([0, z]) is sigmoid(z).
    softmax.set_weights([np.array([[0.0, 1.0]]), np.zeros(2)])
    return model


def linear_weights(model: "keras.Model") -> dict[str, np.ndarray]:
    """Return the heads of a network that `network` made, as `LinearScorer` takes them."""
    own, calibration = _weights(model, "margin"), _weights(model, "calibration")
    heads = {"": own.scaled(float(calibration.coefficients[0]), calibration.intercept)}
    if any(layer.name == "gate" for layer in model.layers):
        heads |= {"extra_": _weights(model, "extra"), "gate_": _weights(model, "gate")}
    coefficients = {f"{name}coefficients": head.coefficients for name, head in heads.items()}
    intercepts = {f"{name}intercept": np.array(head.intercept) for name, head in heads.items()}
    return coefficients | intercepts


def _weights(model: "keras.Model", layer: str) -> Head:
    kernel, bias = (w.astype(np.float64) for w in model.get_layer(layer).get_weights())
    return Head(kernel[:, 0], float(bias[0]))
