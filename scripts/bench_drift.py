"""Simulate months of messages, and count false alarms of `drift` and the days until it finds drift.

    python -m scripts.bench_drift --data-dir FOLDER [--months 20] [--per-day 1000]

The default model is trained on 40 % of UCI's groups of near-duplicates. Of the other messages, half
are the reference, and each day draws from the other half, without repetition within the day; both
have 24 % spam. The halves are drawn anew for each month. From its 15th day on, a month has one kind
of drift. Results go to standard output as Markdown.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np

from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.data import attacks
from spam_mlflow.drift.comparison import findings
from spam_mlflow.drift.reference import Reference, Sample
from spam_mlflow.drift.signals import known_words, signals
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.scorer.classifier import Classifier
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.training.experiment import Experiment, load_messages

DAYS, ONSET = 30, 14
SPAM_SHARE, SHIFTED = 0.24, 0.10
_WORDS = (
    *("angebot", "rechnung", "paket", "heute", "morgen", "bitte", "danke", "termin", "freunde"),
    *("abend", "wetter", "zug", "kaffee", "geschenk", "konto", "woche", "schule", "essen"),
    *("fahren", "kommen", "bringen", "warten", "anrufen", "vielleicht"),
)
_NAMES = ("ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal")


@dataclass(frozen=True)
class Pool:
    """Messages with what is known of each; all arrays have shape (messages,).

    Attributes:
        scores: Spam probability.
        signals: What drift is found by.
        spam: Whether it is spam.
    """

    scores: np.ndarray
    signals: np.ndarray
    spam: np.ndarray

    def take(self, rows: np.ndarray) -> "Pool":
        """Return some messages, by number or by a mask."""
        return Pool(self.scores[rows], self.signals[rows], self.spam[rows])

    def sample(self) -> Sample:
        """Return the messages as they are compared."""
        return Sample.of(self.scores.tolist(), self.signals.tolist(), ["bench"] * len(self.scores))


def joined(pools: Sequence[Pool]) -> Pool:
    """Return the messages of several pools."""
    parts = ([getattr(pool, name) for pool in pools] for name in ("scores", "signals", "spam"))
    return Pool(*map(np.concatenate, parts))


@dataclass(frozen=True)
class Scorer:
    """The model, and the words that it was trained on."""

    classifier: Classifier
    words: frozenset[int]

    def pool(self, texts: Sequence[str], spam: np.ndarray) -> Pool:
        """Return messages with their scores and signals."""
        found = np.empty(len(texts), dtype=object)
        found[:] = [signals(text, self.words) for text in texts]
        return Pool(self.classifier.spam_probability(list(texts)), found, spam)


Day = Callable[[np.random.Generator, int], Pool]
"""From random numbers and a number of messages to a day."""


def main() -> None:
    """Train, simulate every kind of drift, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--months", type=int, default=20)
    parser.add_argument("--per-day", type=int, default=1000)
    arguments = parser.parse_args()
    scorer, texts, spam = trained(arguments.data_dir)
    pool = scorer.pool(texts, spam)
    rng = Random(0)
    hidden = [attacks.homoglyphs(attacks.leet(t, rng, 0.5), rng, 0.3) for t in texts]
    obfuscated = scorer.pool(hidden, spam)
    rows = [
        row(name, *simulated(kind, pool, obfuscated, scorer, arguments.months, arguments.per_day))
        for name, kind in KINDS.items()
    ]
    heads = (
        "drift from the 15th day on",
        "months",
        "false alarms (days without drift)",
        "found",
        "days until then, median and most",
        "by",
    )
    print(markdown(heads, rows))


def trained(data_dir: str) -> tuple[Scorer, list[str], np.ndarray]:
    """Return the model, and messages that it was not trained on, with whether each is spam."""
    given = [f"data_dir={data_dir}", "split.test=0.6", "split.validation=0.1", "register=false"]
    settings = validate("main", compose("main", given))
    with TemporaryDirectory() as folder:
        messages = load_messages(settings, Path(folder))
        split = settings.split.split(messages)
        experiment = Experiment(settings.model, settings.train, 0, messages, split)
        fitted = experiment.fit(Path(folder), lambda epoch, values: None, quiet=True)
    seen = split.rows_without_test
    held_out = split.part("test")
    scorer = Scorer(fitted.classifier, known_words(seen["text"]))
    return scorer, list(held_out["text"]), is_spam(held_out["label"])


def simulated(
    kind: str, pool: Pool, obfuscated: Pool, scorer: Scorer, months: int, per_day: int
) -> tuple[int, int, int, list[tuple[int, str]]]:
    """Return months, false alarms, days without drift, and for each month when drift was found."""
    false_alarms, quiet, found = 0, 0, []
    for month in range(months):
        draw = np.random.default_rng(month)
        half = draw.random(len(pool.scores)) < 0.5
        known = with_share(pool.take(half), draw, SPAM_SHARE, None)
        reference = Reference(scorer.words, known.sample(), SPAM_SHARE)
        stream, hidden = pool.take(~half), obfuscated.take(~half)
        for day in range(DAYS):
            drifts = kind != "none" and day >= ONSET
            made = (
                drifted(kind, stream, hidden, scorer, draw, per_day)
                if drifts
                else with_share(stream, draw, SPAM_SHARE, per_day)
            )
            alarms = [f.name for f in findings(made.sample(), reference) if f.alarm]
            if not drifts:
                quiet += 1
                false_alarms += bool(alarms)
            elif alarms:
                found.append((day - ONSET + 1, ", ".join(alarms)))
                break
    return months, false_alarms, quiet, found


def with_share(pool: Pool, draw: np.random.Generator, share: float, count: int | None) -> Pool:
    """Return messages of which a share, up to chance, is spam; as many as there are for None."""
    spam, ham = (draw.permutation(np.flatnonzero(pool.spam == kind)) for kind in (True, False))
    if count is None:
        count = int(min(len(spam) / share, len(ham) / (1 - share)))
        n_spam = int(share * count)
    else:
        n_spam = int(draw.binomial(count, share))
    return pool.take(np.concatenate([spam[:n_spam], ham[: count - n_spam]]))


def drifted(
    kind: str, stream: Pool, hidden: Pool, scorer: Scorer, draw: np.random.Generator, count: int
) -> Pool:
    """Return a day with drift."""
    if kind == "label shift":
        return with_share(stream, draw, SHIFTED, count)
    if kind == "obfuscation":
        both = draw.random(len(stream.scores)) < 0.5
        wave = Pool(
            np.where(both & stream.spam, hidden.scores, stream.scores),
            np.where(both & stream.spam, hidden.signals, stream.signals),
            stream.spam,
        )
        return with_share(wave, draw, SPAM_SHARE, count)
    share, text = (0.05, campaign) if kind == "campaign" else (0.10, german)
    texts = [text(draw) for _ in range(int(share * count))]
    new = scorer.pool(texts, np.full(len(texts), kind == "campaign"))
    return joined([with_share(stream, draw, SPAM_SHARE, count - len(texts)), new])


def campaign(draw: np.random.Generator) -> str:
    """Return a message of a campaign that the model does not know."""
    name, number = draw.choice(_NAMES), draw.integers(1000, 9999)
    return (
        f"Dear {name}, your toll for crossing {number} is still open. Settle it at "
        f"toll-desk{number}.example before it rises, or your vehicle will be reported."
    )


def german(draw: np.random.Generator) -> str:
    """Return a message in another language."""
    return " ".join(draw.choice(_WORDS, size=draw.integers(6, 14)))


def row(
    name: str, months: int, false_alarms: int, quiet: int, found: list[tuple[int, str]]
) -> tuple[str, ...]:
    """Return a row of the table."""
    days = [day for day, _ in found]
    by = sorted({alarm for _, alarms in found for alarm in alarms.split(", ")})
    when = f"{np.median(days):g}, {max(days)}" if days else "-"
    of = "-" if name.startswith("none") else f"{len(found)} of {months}"
    return name, str(months), f"{false_alarms} ({quiet})", of, when, ", ".join(by) or "-"


KINDS = {
    "none": "none",
    f"spam share {SPAM_SHARE:.2f} to {SHIFTED:.2f}": "label shift",
    "a campaign, 5 % of the messages": "campaign",
    "another language, 10 % of the messages": "language",
    "half of the spam is obfuscated": "obfuscation",
}
"""Kinds of drift by their names in the table."""

if __name__ == "__main__":
    main()
