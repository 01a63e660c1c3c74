"""Replay an attack by false feedback, and measure what the refitted model still catches.

    python -m scripts.bench_feedback --data-dir FOLDER [--labels 30 300 2000] [--reporters 1 5]

A campaign of scam messages that differ in a name and a code is reported as ham. Either the data has
20 of its messages, rightly labeled ("known"), or none ("new"). The default model is fitted to the
data alone, to the data and all false labels ("as they are"), and to the data and what the rules of
`retrain` leave of them ("by the rules"). Recall is that of 200 other messages of the campaign; F1
is that of the test part, in which the campaign is not. The gate compares the refitted model with
the first one by its check of feedback churn. Results go to standard output as Markdown.
"""

import argparse
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from scripts import bench_quality
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.schema import RetrainSettings
from spam_mlflow.data import training_only, votes
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.sources import feedback as feedback_source
from spam_mlflow.data.splitters import Split
from spam_mlflow.evaluation.tables import markdown
from spam_mlflow.gate import known_groups
from spam_mlflow.gate.check import Holdout, Scored
from spam_mlflow.gate.known_groups import KnownGroups
from spam_mlflow.inference_store.records import DAY_SECONDS, Inference, new_feedback, new_id
from spam_mlflow.inference_store.reports import Report
from spam_mlflow.scorer.labels import is_spam
from spam_mlflow.training import fit as training

How = Literal["as they are", "by the rules"]
Fitter = Callable[[Split], training.Fit]

LABELS, REPORTERS = (30, 300, 2000), (1, 5)
HEADER = (
    *("campaign", "false labels", "reporters", "used", "trained on"),
    *("recall before", "after", "F1 before", "after", "feedback churn"),
)
_KNOWN = 20  # messages of a known campaign that the data has
_MEASURED = 200  # messages of the campaign that recall is measured on
_NAMES = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lou")


@dataclass(frozen=True)
class Attack:
    """A campaign and the data that it is reported beside.

    Attributes:
        base: The data, split, with the campaign's messages in its training part where it is known.
        champion: The model that is fitted to it.
        fitter: Fits a model to a split.
        settings: Those of `retrain`.
    """

    base: Split
    champion: training.Fit
    fitter: Fitter
    settings: RetrainSettings
    _fits: dict[str, training.Fit] = field(default_factory=dict)

    @classmethod
    def on(cls, base: Split, known: bool, fitter: Fitter, settings: RetrainSettings) -> "Attack":
        """Return the attack on a model of a data set.

        Args:
            base: The data set, split.
            known: Whether it gets some messages of the campaign.
            fitter: Fits a model to a split.
            settings: Those of `retrain`.
        """
        if known:
            group = int(base.frame["group"].max()) + 1
            rows = pd.DataFrame({"text": campaign(_KNOWN, "data"), "label": "spam"})
            base = _with_rows(base, rows.assign(source="known", group=group))
        return cls(base, fitter(base), fitter, settings)

    def replay(self, labels: int, reporters: int, how: How) -> "Outcome":
        """Fit a model with false labels, and compare it with the champion.

        Args:
            labels: How many messages of the campaign are reported as ham.
            reporters: By how many.
            how: What is used of that.
        """
        reports = self._reports(labels, reporters)
        if how == "as they are":
            rows = pd.DataFrame({"text": [r.text for r in reports], "label": "ham"})
            group = int(self.base.frame["group"].max()) + 1
            split = _with_rows(self.base, rows.assign(source=feedback_source.SOURCE, group=group))
        else:
            split = self._by_the_rules(reports)
        fitted = self._fitted(split)
        texts = campaign(_MEASURED, "measured")
        known = KnownGroups.of(_holdout(split))
        scored = _scored(fitted, known.texts)
        before = scored if fitted is self.champion else _scored(self.champion, known.texts)
        (churn,) = known_groups.checks(scored, before, known, self.settings.gate)
        return Outcome(
            used=len(split.frame) - len(self.base.frame),
            recall=(_recall(self.champion, texts), _recall(fitted, texts)),
            f1=(self._f1(self.champion), self._f1(fitted)),
            churn=churn.verdict,
        )

    def _reports(self, labels: int, reporters: int) -> list[Report]:
        """Return reports that messages are ham, each with the champion's score."""
        texts = campaign(labels, "attack")
        scores = self.champion.classifier.spam_probability(texts)
        threshold = self.champion.classifier.metadata.threshold
        return [
            _report(text, float(score), threshold, f"user {number % reporters}")
            for number, (text, score) in enumerate(zip(texts, scores, strict=True))
        ]

    def _by_the_rules(self, reports: Sequence[Report]) -> Split:
        rules = self.settings.feedback
        rows = feedback_source.frame(votes.cases(reports, rules), rules.per_case)
        extra = rows.assign(group="").astype(str)
        messages = replace(_messages(extra), train_only_share=rules.max_share)
        return replace(self.base, frame=training_only.added(self.base.frame, messages, 0.6))

    def _fitted(self, split: Split) -> training.Fit:
        """Fit a model, unless the same rows were fitted before."""
        if split.digest == self.base.digest:
            return self.champion
        if split.digest not in self._fits:
            self._fits[split.digest] = self.fitter(split)
        return self._fits[split.digest]

    def _f1(self, fitted: training.Fit) -> float:
        from sklearn.metrics import f1_score

        test = self.base.part("test")
        scores = fitted.classifier.spam_probability(list(test["text"]))
        predicted = scores >= fitted.classifier.metadata.threshold
        return float(f1_score(is_spam(test["label"]), predicted))


@dataclass(frozen=True)
class Outcome:
    """What an attack has done.

    Attributes:
        used: False labels that were trained on.
        recall: Recall on the campaign before and after.
        f1: F1 on the test part before and after.
        churn: Verdict of the gate's check of feedback churn.
    """

    used: int
    recall: tuple[float, float]
    f1: tuple[float, float]
    churn: str


def campaign(count: int, seed: str) -> list[str]:
    """Return messages of the campaign, which are near-copies of each other and differ by letters.

    Args:
        count: How many.
        seed: Of their names and codes.
    """
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        code = "".join(draw.choices(string.ascii_lowercase, k=4))
        text = (
            f"{draw.choice(_NAMES)}, your mobile number has been awarded a £2000 prize! To claim "
            f"it call 09061{draw.randrange(10**6):06} from a land line before Friday, code {code}"
        )
        found[text] = None
    return list(found)


def _with_rows(split: Split, rows: pd.DataFrame) -> Split:
    """Return a split with more rows in its training part."""
    more = rows.assign(part="train")[list(split.frame.columns)]
    return replace(split, frame=pd.concat([split.frame, more], ignore_index=True))


def _messages(frame: pd.DataFrame) -> Messages:
    return Messages(
        frame, "feedback", train_only=(feedback_source.SOURCE, feedback_source.REVIEWED)
    )


def _holdout(split: Split) -> Holdout:
    return Holdout(_messages(split.frame), split)


def _scored(fitted: training.Fit, known: Sequence[str]) -> Scored:
    scores = fitted.classifier.spam_probability(known)
    return Scored(fitted.classifier.metadata.thresholds, np.zeros(0), scores)


def _recall(fitted: training.Fit, texts: Sequence[str]) -> float:
    scores = fitted.classifier.spam_probability(texts)
    return float((scores >= fitted.classifier.metadata.threshold).mean())


def _report(text: str, score: float, threshold: float, reporter: str) -> Report:
    made, label = new_id(), "spam" if score >= threshold else "ham"
    said = new_feedback(made, "ham", reporter, "report", "", days=30)
    expires = int(DAY_SECONDS)
    about = Inference(
        made,
        said.at,
        said.day,
        "m",
        "1",
        label,
        score,
        threshold,
        "bench",
        expires,
        predicted=label,
    )
    return Report(said, about, text)


def fitter(overrides: Sequence[str]) -> Fitter:
    """Return what fits the model of a configuration.

    Args:
        overrides: Of `main`.
    """
    settings = validate("main", compose("main", overrides))

    def fitted(split: Split) -> training.Fit:
        return training.fit(
            settings.model, split, settings.train, 0, "", lambda *_: None, quiet=True
        )

    return fitted


def main() -> None:
    """Run what the command line asks for and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with the UCI files")
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="false labels")
    parser.add_argument("--reporters", type=int, nargs="+", default=REPORTERS, help="who report")
    arguments = parser.parse_args()
    messages = bench_quality.load(arguments.data_dir).drop(columns="video")
    (base, *_) = bench_quality.repeated(messages, 5, 1)
    settings = validate("retrain", compose("retrain", []))
    rows = []
    for name in ("known", "new"):
        attack = Attack.on(base, name == "known", fitter([]), settings)
        for labels in arguments.labels:
            for reporters in arguments.reporters:
                for how in ("as they are", "by the rules"):
                    found = attack.replay(labels, reporters, how)
                    figures = [f"{value:.3f}" for value in (*found.recall, *found.f1)]
                    counts = (str(labels), str(reporters), how, str(found.used))
                    rows.append((name, *counts, *figures, found.churn))
    print(markdown(HEADER, rows))


if __name__ == "__main__":
    main()
