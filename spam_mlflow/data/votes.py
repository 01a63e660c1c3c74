"""From reports to labels to train on, so that no single reporter decides what the model learns.

Near-copies of a message are one case, in which a reporter has one vote. A label other than the one
that was predicted needs the weight of several reporters, or a reviewer; until then the case is in
quarantine.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from spam_mlflow.config.schema import FeedbackSettings
from spam_mlflow.data.near_duplicates import groups
from spam_mlflow.inference_store.reports import Report
from spam_mlflow.scorer.labels import LABELS
from spam_mlflow.scorer.normalization import duplicate_key

Verdict = Literal["accepted", "quarantined", "undecided"]

_WRONG = 2  # how much more a report that a reviewer refuted counts than one that was confirmed


@dataclass(frozen=True)
class Case:
    """A message and its near-copies, and what was said of them.

    Attributes:
        texts: The different messages, the one that was reported first first.
        inference_id: Of the first report.
        predicted: The label that was predicted for most.
        confident: Whether the score of one of them was confident.
        votes: Sum of the reporters' weights by label.
        reporters: How many reporters voted.
        label: The label that is trained on; "" without a verdict for one.
        verdict: Whether it is trained on.
        why: Why, in a few words.
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


def cases(reports: Sequence[Report], rules: FeedbackSettings) -> list[Case]:
    """Return the cases of some reports, the most recently reported first.

    Args:
        reports: The reports, the oldest first.
        rules: When they count.
    """
    counted = [r for r in reports if r.feedback.reporter not in rules.blocked]
    by_case = _by_case(counted, rules.jaccard)
    reviewed = {case: label for case, found in by_case.items() if (label := _review(found))}
    weights = _weights(by_case, reviewed)
    votes = _votes(by_case, rules.per_day)
    decided = [
        _decided(by_case[case], votes.get(case, {}), weights, reviewed.get(case), rules)
        for case in by_case
    ]
    newest = {id(case): by_case[number][-1].feedback.id for number, case in enumerate(decided)}
    return sorted(decided, key=lambda case: newest[id(case)], reverse=True)


def _by_case(reports: Sequence[Report], jaccard: float) -> dict[int, list[Report]]:
    """Return the reports by the number of their case, from 0."""
    keys = [duplicate_key(report.text) for report in reports]
    distinct = list(dict.fromkeys(keys))
    found = groups(distinct, pd.Series("", index=range(len(distinct))), jaccard)
    case = dict(zip(distinct, found.tolist(), strict=True))
    by_case: dict[int, list[Report]] = {}
    for key, report in zip(keys, reports, strict=True):
        by_case.setdefault(case[key], []).append(report)
    return by_case


def _review(reports: Iterable[Report]) -> str | None:
    """Return the label of the last review, None without one."""
    labels = [r.feedback.label for r in reports if r.feedback.kind == "review"]
    return labels[-1] if labels else None


def _latest(reports: Iterable[Report]) -> dict[str, Report]:
    """Return the last report of each reporter, reviews left out."""
    return {r.feedback.reporter: r for r in reports if r.feedback.kind == "report"}


def _weights(
    by_case: Mapping[int, Sequence[Report]], reviewed: Mapping[int, str]
) -> dict[str, float]:
    """Return how much each reporter counts, by what reviewers said of the cases."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for case, label in reviewed.items():
        for reporter, report in _latest(by_case[case]).items():
            (right if report.feedback.label == label else wrong)[reporter] += 1
    known = set(right) | set(wrong)
    return {r: (1 + right[r]) / (1 + right[r] + _WRONG * wrong[r]) for r in known}


def _votes(by_case: Mapping[int, Sequence[Report]], per_day: int) -> dict[int, dict[str, Report]]:
    """Return the votes of each case by reporter: of each day, the first cases of a reporter."""
    votes: dict[int, dict[str, Report]] = defaultdict(dict)
    spent: Counter[tuple[str, str]] = Counter()
    given = ((case, vote) for case, found in by_case.items() for vote in _latest(found).values())
    for case, vote in sorted(given, key=lambda item: item[1].feedback.id):
        day = vote.feedback.reporter, vote.feedback.day
        spent[day] += 1
        if spent[day] <= per_day:
            votes[case][vote.feedback.reporter] = vote
    return votes


def _decided(
    reports: Sequence[Report],
    votes: Mapping[str, Report],
    weights: Mapping[str, float],
    review: str | None,
    rules: FeedbackSettings,
) -> Case:
    texts = {duplicate_key(report.text): report.text for report in reversed(reports)}
    predicted = Counter(report.inference.label for report in reports).most_common(1)[0][0]
    confident = any(_confidence(report) >= rules.confidence for report in reports)
    sums = dict.fromkeys(LABELS, 0.0)
    for reporter, vote in votes.items():
        sums[vote.feedback.label] += weights.get(reporter, 1.0)
    label, verdict, why = _verdict(sums, predicted, confident, review, rules)
    return Case(
        tuple(reversed(texts.values())),
        *(reports[0].inference.id, predicted, confident, sums, len(votes)),
        *(label, verdict, why),
    )


def _confidence(report: Report) -> float:
    """Return the probability of the predicted label."""
    spam = report.inference.spam_probability
    return spam if report.inference.label == "spam" else 1 - spam


def _verdict(
    sums: Mapping[str, float],
    predicted: str,
    confident: bool,
    review: str | None,
    rules: FeedbackSettings,
) -> tuple[str, Verdict, str]:
    if review is not None:
        return review, "accepted", "a reviewer says so"
    other = next(label for label in LABELS if label != predicted)
    if sums[other] == 0:
        if sums[predicted] == 0:
            return "", "undecided", "no vote counts: over a reporter's limit of a day"
        return predicted, "accepted", "as predicted"
    if sums[predicted] >= sums[other]:
        return "", "undecided", "reporters disagree"
    if sums[other] - sums[predicted] >= rules.confirmations:
        return other, "accepted", "several reporters agree"
    how = "a confident score" if confident else "the predicted label"
    return "", "quarantined", f"contradicts {how}; needs {rules.confirmations:g} or a reviewer"


def training_rows(found: Iterable[Case], per_case: int) -> Iterator[tuple[str, str]]:
    """Yield text and label of what is trained on, at most some messages of each case."""
    for case in found:
        if case.verdict == "accepted":
            yield from ((text, case.label) for text in case.texts[:per_case])
