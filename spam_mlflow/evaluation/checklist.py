"""Behavioral tests of a classifier: minimum functionality, invariance and direction.

After Ribeiro et al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList".
"""

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from spam_mlflow.data import attacks
from spam_mlflow.data.sources import modern

Score = Callable[[Sequence[str]], np.ndarray]
"""From texts to their spam probabilities, shape (texts,)."""

_DROP = 0.05  # drop of the spam probability from which on a direction test fails

MFT_EXAMPLES = {
    "spam": (
        "You have won £5000! Call 09061234567 now to claim your prize",
        "FREE ringtone! Text TONE to 85555, 150p per msg",
        "Subscribe to my channel please, I make great music videos http://youtu.be/abc",
        "Hot singles are waiting to chat with you, txt CHAT to 69696",
        "Congratulations, your number was selected for a free holiday, call 08001234567",
    ),
    "ham": (
        "Ok, see you at seven then",
        "Can you pick up some milk on your way home?",
        "This song is amazing, I love it so much",
        "Sorry I'm late, the train was delayed by 20 minutes",
        "Happy birthday mum! Love you",
    ),
}
"""Minimum functionality test: plain examples of each class, by their label."""

INVARIANCE_CHANGES: dict[str, Callable[[str], str]] = {
    "full stop at the end": lambda text: f"{text}.",
    "twice the spaces": lambda text: text.replace(" ", "  "),
    "another phone number": lambda text: "".join(
        "7" if c.isdigit() and c != "0" else c for c in text
    ),
    "a name in front": lambda text: f"Alex: {text}",
    "soft hyphens": "\u00ad".join,
}
"""Invariance tests: changes of a text that must not change its label, by name."""

DIRECTION_SUFFIXES = (
    " Call 09061701461 now to claim",
    " Text WIN to 80086",
    " Check out my channel",
)
"""Direction tests: ends that must not make a text less likely to be spam."""


def failure_rates(
    score: Score, threshold: float, texts: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Run all behavioral tests.

    Args:
        score: The classifier.
        threshold: Spam probability from which a text is predicted as spam.
        texts: Messages for the tests of invariance and direction.

    Yields:
        The name of each test, and the fraction of messages that fail it, 0 to 1.
    """
    for label, examples in MFT_EXAMPLES.items():
        predicted = score(list(examples)) >= threshold
        yield f"minimum: plain {label}", float(np.mean(predicted != (label == "spam")))
    before = score(texts)
    for name, change in INVARIANCE_CHANGES.items():
        predicted = score([change(text) for text in texts]) >= threshold
        yield f"invariance: {name}", float(np.mean(predicted != (before >= threshold)))
    for tail in DIRECTION_SUFFIXES:
        after = score([text + tail for text in texts])
        yield f"direction: +{tail!r} is no less spam", float(np.mean(after < before - _DROP))


TRANSACTIONAL = ("otp", "bank", "delivery", "operator", "links", "newsletter")
"""Kinds of ham among today's messages that look like spam to a model of older messages."""


def modern_error_rates(score: Score, threshold: float) -> Iterator[tuple[str, float]]:
    """Label the held-out messages of today.

    Args:
        score: The classifier.
        threshold: Spam probability from which a text is predicted as spam.

    Yields:
        The name of each slice, and the fraction of its messages that get the wrong label, 0 to 1:
        all ham, all spam, each kind of TRANSACTIONAL ham, and spam without digits, punctuation and
        capitals.
    """
    rows = modern.held_out()
    spam, kind = (rows["label"] == "spam").to_numpy(), rows["kind"].to_numpy()
    wrong = (score(rows["text"].tolist()) >= threshold) != spam
    yield "ham", float(np.mean(wrong[~spam]))
    yield "spam", float(np.mean(wrong[spam]))
    for name in TRANSACTIONAL:
        yield f"ham, {name}", float(np.mean(wrong[~spam & (kind == name)]))
    rng = random.Random(0)  # noqa: S311 - not used for cryptography
    plain = [attacks.plain(text, rng, 1.0) for text in rows["text"][spam]]
    yield "spam without digits", float(np.mean(score(plain) < threshold))
