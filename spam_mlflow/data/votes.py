"""From reports to labels to train on, so that no single reporter decides what the model learns.

Near-copies of a message are one case, in which a reporter has one vote. A label other than the one
that was predicted for all of them needs the weight of several reporters, or a reviewer; until then
the case is in quarantine.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from spam_mlflow.config.schema import FeedbackSettings
from spam_mlflow.data.near_duplicates import groups
from spam_mlflow.data.shingles import ShingleSets
from spam_mlflow.inference_store.records import Feedback
from spam_mlflow.inference_store.reports import Report
from spam_mlflow.scorer.labels import LABELS
from spam_mlflow.scorer.normalization import duplicate_key

Verdict = Literal["accepted", "quarantined", "undecided"]

_REVIEWED = "a reviewer says so"
_WRONG = 2  # how much more a report that a reviewer refuted counts than one that was confirmed


@dataclass(frozen=True)
class Case:
    """Messages of one chain of near-copies of which the same was decided, and why.

    Attributes:
        texts: The different messages, the one that was reported first first.
        inference_id: Of the first report.
        predicted: The label that was predicted; both, where the chain has both.
        confident: Whether a score of the chain was confident.
        votes: Sum of the reporters' weights by label, of the first message.
        reporters: How many reporters voted.
        label: The label that is trained on; "" without a verdict for one.
        verdict: Whether it is trained on.
        why: Why, in a few words.
        is_reviewed: Whether a reviewer decided it.
    """

    texts: tuple[str, ...]
    inference_id: str
    predicted: str
    confident: bool
    votes: Mapping[str, float]
    reporters: int
    label: str
    verdict: Verdict
    why: str
    is_reviewed: bool = False


def cases(reports: Sequence[Report], rules: FeedbackSettings) -> list[Case]:
    """Return the cases of some reports, the most recently reported first.

    Args:
        reports: The reports, the oldest first.
        rules: When they count.
    """
    chains = _chains([r for r in reports if r.feedback.reporter not in rules.blocked], rules)
    weights = _weights(chains)
    counted = _counted(chains, rules.per_day)
    decided: list[tuple[str, Case]] = []
    for chain, reporters in zip(chains, counted, strict=True):
        decided += _decided(chain, {r: weights.get(r, 1.0) for r in reporters}, rules)
    return [case for _, case in sorted(decided, key=lambda item: item[0], reverse=True)]


@dataclass(frozen=True)
class _Chain:
    """Messages that are near-copies, directly or through others, and what was said of them.

    A chain may lead from one message to one that has nothing to do with it. So what is said of a
    message counts for its own near-copies only.

    Attributes:
        reports: The reports, the oldest first.
        about: For each report, the position of its message in `texts`.
        texts: The different messages, the one that was reported first first.
        sets: Their sets of 5-grams.
        jaccard: Similarity from which two of them are near-copies.
    """

    reports: Sequence[Report]
    about: Sequence[int]
    texts: Sequence[str]
    sets: ShingleSets
    jaccard: float

    def last_said(self, numbers: Iterable[int]) -> list[Report | None]:
        """Return for each text the last of some reports on it and its near-copies.

        Args:
            numbers: Positions of the reports in `reports`, in their order.
        """
        last = sorted({self.about[number]: number for number in numbers}.values())
        if not last:
            return [None] * len(self.texts)
        near = self.sets.similar_to(np.array([self.about[n] for n in last]), self.jaccard)
        latest = len(last) - 1 - np.argmax(near[:, ::-1], axis=1)
        return [
            self.reports[last[n]] if found else None
            for n, found in zip(latest.tolist(), np.any(near, axis=1).tolist(), strict=True)
        ]

    def reviews(self) -> list[Report | None]:
        """Return for each text its last review."""
        return self.last_said(n for n, r in enumerate(self.reports) if r.feedback.kind == "review")

    def votes(self, reporter: str) -> list[Report | None]:
        """Return for each text what a reporter said last."""
        return self.last_said(
            n
            for n, report in enumerate(self.reports)
            if report.feedback.kind == "report" and report.feedback.reporter == reporter
        )


def _chains(reports: Sequence[Report], rules: FeedbackSettings) -> list[_Chain]:
    first: dict[str, str] = {}
    for report in reports:
        first.setdefault(duplicate_key(report.text), report.text)
    found = groups(list(first), pd.Series("", index=range(len(first))), rules.jaccard)
    chain_of = dict(zip(first, found.tolist(), strict=True))
    members: dict[int, list[str]] = defaultdict(list)
    for key, chain in chain_of.items():
        members[chain].append(key)
    said: dict[int, list[Report]] = defaultdict(list)
    for report in reports:
        said[chain_of[duplicate_key(report.text)]].append(report)
    return [_chain(said[chain], keys, first, rules.jaccard) for chain, keys in members.items()]


def _chain(
    reports: Sequence[Report], keys: Sequence[str], first: Mapping[str, str], jaccard: float
) -> _Chain:
    position = {key: number for number, key in enumerate(keys)}
    about = [position[duplicate_key(report.text)] for report in reports]
    return _Chain(reports, about, [first[key] for key in keys], ShingleSets.of(keys), jaccard)


def _weights(chains: Iterable[_Chain]) -> dict[str, float]:
    """Return how much each reporter counts, by what reviewers said of the same messages."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for chain in chains:
        reviews = chain.reviews()
        judged: dict[str, bool] = {}
        for report, about in zip(chain.reports, chain.about, strict=True):
            review = reviews[about]
            if report.feedback.kind == "report" and review is not None:
                said = report.feedback
                judged[said.reporter] = said.label == review.feedback.label
        right.update(reporter for reporter, is_right in judged.items() if is_right)
        wrong.update(reporter for reporter, is_right in judged.items() if not is_right)
    known = set(right) | set(wrong)
    return {r: (1 + right[r]) / (1 + right[r] + _WRONG * wrong[r]) for r in known}


def _counted(chains: Sequence[_Chain], per_day: int) -> list[list[str]]:
    """Return for each chain the reporters that count: of each day, the first ones of a reporter."""
    counted: list[list[str]] = [[] for _ in chains]
    given = [
        (said.id, said.day, reporter, number)
        for number, chain in enumerate(chains)
        for reporter, said in _latest(chain.reports).items()
    ]
    spent: Counter[tuple[str, str]] = Counter()
    for _, day, reporter, number in sorted(given):
        spent[reporter, day] += 1
        if spent[reporter, day] <= per_day:
            counted[number].append(reporter)
    return counted


def _latest(reports: Iterable[Report]) -> dict[str, Feedback]:
    """Return what each reporter said last, reviews left out."""
    return {r.feedback.reporter: r.feedback for r in reports if r.feedback.kind == "report"}


def _decided(
    chain: _Chain, weights: Mapping[str, float], rules: FeedbackSettings
) -> Iterator[tuple[str, Case]]:
    """Yield the cases of a chain, each with the ID of its last report.

    Args:
        chain: The chain.
        weights: Of the reporters that count.
        rules: When reports count.
    """
    predicted = {_predicted(report) for report in chain.reports}
    confident = any(_confidence(report) >= rules.confidence for report in chain.reports)
    sums, voters = _sums(chain, weights)
    alike: dict[tuple[str, Verdict, str], list[int]] = defaultdict(list)
    for position, review in enumerate(chain.reviews()):
        label = review.feedback.label if review else None
        alike[_verdict(sums[position], predicted, confident, label, rules)].append(position)
    for (label, verdict, why), texts in alike.items():
        reports = _reports_of(chain, texts)
        yield (
            reports[-1].feedback.id,
            Case(
                texts=tuple(chain.texts[position] for position in texts),
                inference_id=reports[0].inference.id,
                predicted=" and ".join(sorted(predicted)),
                confident=confident,
                votes=sums[texts[0]],
                reporters=voters[texts[0]],
                label=label,
                verdict=verdict,
                why=why,
                is_reviewed=why == _REVIEWED,
            ),
        )


def _sums(chain: _Chain, weights: Mapping[str, float]) -> tuple[list[dict[str, float]], list[int]]:
    """Return for each message the sum of weights by label, and how many reporters voted."""
    sums = [dict.fromkeys(LABELS, 0.0) for _ in chain.texts]
    voters = [0] * len(sums)
    for reporter, weight in weights.items():
        for position, vote in enumerate(chain.votes(reporter)):
            if vote is not None:
                sums[position][vote.feedback.label] += weight
                voters[position] += 1
    return sums, voters


def _reports_of(chain: _Chain, texts: Iterable[int]) -> list[Report]:
    """Return the reports of some messages, the oldest first."""
    wanted = set(texts)
    return [r for r, about in zip(chain.reports, chain.about, strict=True) if about in wanted]


def _predicted(report: Report) -> str:
    """Return the label that the version predicted by itself, not by a client's threshold."""
    return report.inference.predicted or report.inference.label


def _confidence(report: Report) -> float:
    """Return the probability of the predicted label."""
    spam = report.inference.spam_probability
    return spam if _predicted(report) == "spam" else 1 - spam


def _verdict(
    sums: Mapping[str, float],
    predicted: Collection[str],
    confident: bool,
    review: str | None,
    rules: FeedbackSettings,
) -> tuple[str, Verdict, str]:
    """Return label, verdict and reason for a message.

    Args:
        sums: The reporters' weights by label.
        predicted: What was predicted for the messages of its chain. With both labels, one reporter
            could have either one confirmed, so that several are needed for each.
        confident: Whether a score was confident.
        review: A reviewer's label; None without one.
        rules: When reports count.
    """
    if review is not None:
        return review, "accepted", _REVIEWED
    less, more = sorted(LABELS, key=lambda label: sums[label])
    if sums[more] == 0:
        return "", "undecided", "no vote counts: over a reporter's limit of a day"
    is_predicted = set(predicted) == {more}
    if is_predicted and sums[less] == 0:
        return more, "accepted", "as predicted"
    if is_predicted or sums[more] == sums[less]:
        return "", "undecided", "reporters disagree"
    if sums[more] - sums[less] >= rules.confirmations:
        return more, "accepted", "several reporters agree"
    how = "a confident score" if confident else "the predicted label"
    if len(predicted) > 1:
        how = "what was predicted for a near-copy"
    return "", "quarantined", f"contradicts {how}; needs {rules.confirmations:g} or a reviewer"


def training_rows(found: Iterable[Case], per_case: int) -> Iterator[tuple[str, Case]]:
    """Yield the text and the case of what is trained on, at most some messages of each case."""
    for case in found:
        if case.verdict == "accepted":
            yield from ((text, case) for text in case.texts[:per_case])
