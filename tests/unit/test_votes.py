"""Which labels of people are trained on, and which attacks come to nothing."""

import dataclasses
import random
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.inferences import feedback, inference

from spam_mlflow.config.schema import FeedbackSettings
from spam_mlflow.data import training_only, votes
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.sources import feedback as source
from spam_mlflow.data.splitters import GroupedSplitter, TutorialSplitter
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.reports import Report

RULES = FeedbackSettings(
    per_day=20,
    per_case=3,
    confirmations=2,
    confidence=0.9,
    jaccard=0.6,
    blocked=("mallory",),
    max_share=0.05,
)
SCAM = "URGENT your parcel is held at customs, pay 2.99 at post-fees.example to release it"


def report(
    text: str, label: str, reporter: str = "ann", score: float = 0.99, **changes: Any
) -> Report:
    """Return a report of a message that was scored."""
    predicted = "spam" if score >= 0.5 else "ham"
    about = inference(text, spam_probability=score, label=predicted)
    return Report(feedback(about.id, label, reporter=reporter, **changes), about, text)


def rows(reports: Sequence[Report]) -> list[tuple[str, str]]:
    found = votes.training_rows(votes.cases(reports, RULES), RULES.per_case)
    return [(text, case.label) for text, case in found]


def only(reports: Sequence[Report]) -> votes.Case:
    (case,) = votes.cases(reports, RULES)
    return case


def test_one_reporter_confirms_a_label_but_does_not_change_it() -> None:
    assert only([report(SCAM, "spam")]).verdict == "accepted"
    case = only([report(SCAM, "ham")])
    assert (case.verdict, case.label, case.confident) == ("quarantined", "", True)
    assert "confident" in case.why
    assert only([report(SCAM, "ham", score=0.6)]).verdict == "quarantined"


def test_two_reporters_change_a_label_unless_others_disagree() -> None:
    two = [report(SCAM, "ham", "ann"), report(SCAM, "ham", "bob")]
    assert (only(two).verdict, only(two).label) == ("accepted", "ham")
    assert only([*two, report(SCAM, "spam", "cid")]).verdict == "quarantined"
    split = [*two, report(SCAM, "spam", "cid"), report(SCAM, "spam", "dan")]
    assert only(split).verdict == "undecided"


def test_near_copies_are_one_case_in_which_a_reporter_has_one_vote() -> None:
    copies = [report(SCAM.replace("2.99", f"{n}.50"), "ham", "ann") for n in range(30)]
    case = only(copies)
    assert (case.reporters, case.votes["ham"], case.verdict) == (1, 1.0, "quarantined")
    again = [*copies, report(SCAM, "spam", "ann")]
    assert only(again).votes == {"ham": 0.0, "spam": 1.0}  # the last word counts


def test_a_case_gives_few_messages_to_train_on() -> None:
    copies = [
        report(SCAM + f" now {word}", "ham", who)
        for who in ("ann", "bob")
        for word in ("quickly", "soon", "today", "please", "friend")
    ]
    assert len(rows(copies)) == RULES.per_case
    assert {label for _, label in rows(copies)} == {"ham"}


def test_a_review_counts_more_than_all_reporters() -> None:
    angry = [report(SCAM, "ham", f"user {n}") for n in range(9)]
    case = only([*angry, report(SCAM, "spam", "boss", kind="review")])
    assert (case.verdict, case.label) == ("accepted", "spam")


def test_a_snapshot_keeps_who_has_decided(tmp_path: Path) -> None:
    reviewed = [report(SCAM, "ham"), report(SCAM, "ham", "boss", kind="review")]
    other = report("lunch at the museum at noon, all of us?", "ham", score=0.1)
    rows = source.frame(votes.cases([*reviewed, other], RULES), RULES.per_case)
    assert sorted(rows["source"]) == ["feedback", "feedback_reviewed"]
    file = tmp_path / "said.jsonl"
    source.write(rows, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pd.testing.assert_frame_equal(source._read(file), rows)
    file.write_text(file.read_text().replace("feedback_reviewed", "uci"))
    with pytest.raises(UserError, match="no snapshot of feedback: source 'uci'"):
        source._read(file)  # it would get into the holdout


def test_reporters_whom_reviewers_refuted_count_less() -> None:
    refuted = []
    for text in ("please call your grandmother tonight", "lunch at the museum at noon?"):
        refuted += [report(text, "spam", "ann", 0.01), report(text, "ham", "boss", kind="review")]
    pair = [report(SCAM, "ham", "ann"), report(SCAM, "ham", "bob")]
    case = next(c for c in votes.cases([*refuted, *pair], RULES) if c.texts[0] == SCAM)
    assert case.votes["ham"] == pytest.approx(1 + 1 / 5)
    assert case.verdict == "quarantined"


def test_a_blocked_reporter_does_not_count_and_a_day_has_a_limit() -> None:
    assert not votes.cases([report(SCAM, "spam", "mallory")], RULES)
    texts = distinct(30)
    found = votes.cases([report(text, "spam", "ann") for text in texts], RULES)
    assert sum(case.verdict == "accepted" for case in found) == RULES.per_day
    tomorrow = [report(text, "spam", "ann", day="2030-01-01") for text in texts[20:]]
    found = votes.cases([*(report(text, "spam", "ann") for text in texts[:20]), *tomorrow], RULES)
    assert all(case.verdict == "accepted" for case in found)


def distinct(count: int) -> list[str]:
    """Return texts that are not near-copies of each other."""
    draw = random.Random(0)
    return [
        " ".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(9))
        for _ in range(count)
    ]


@pytest.mark.parametrize("labels", [30, 300, 2000])
@pytest.mark.parametrize("reporters", [1, 5])
def test_a_campaign_cannot_be_voted_down(labels: int, reporters: int) -> None:
    """False labels on one campaign, whose messages differ in a name and an amount."""
    draw = random.Random(labels)
    attack = [
        report(
            SCAM.replace("2.99", f"{draw.randint(1, 99)}.99") + f" ref {draw.randint(0, 10**6)}",
            "ham",
            f"user {n % reporters}",
        )
        for n in range(labels)
    ]
    known = sample()
    campaign = pd.DataFrame(
        {
            "text": [f"{SCAM} ref {n}" for n in "abcdefgh"],
            "label": "spam",
            "source": "known",
            "group": "",
        }
    )
    found = rows(attack)
    # One reporter changes nothing; five would, but the labels of the data itself stand.
    assert len(found) <= (0 if reporters == 1 else RULES.per_case)
    split = splitter().split(with_feedback(pd.concat([known, campaign]), found))
    copies = split.frame[split.frame["text"].str.contains("customs")]
    assert set(copies["label"]) == {"spam"}


@pytest.mark.parametrize("labels", [30, 300, 2000])
def test_feedback_is_a_small_part_of_the_training_rows(labels: int) -> None:
    texts = distinct(labels)
    attack = [
        report(text, "ham", f"user {n % 5 if labels < 2000 else n}", day=f"day {n // 20}")
        for n, text in enumerate(texts)
    ]
    pairs = [*attack, *(report(r.text, "ham", "other", day=r.feedback.id) for r in attack)]
    split = splitter().split(with_feedback(sample(), rows(pairs)))
    from_feedback = split.frame["source"] == "feedback"
    before = (split.frame["part"] == "train") & ~from_feedback
    assert 0 < from_feedback.sum() <= RULES.max_share * before.sum()


def sample() -> pd.DataFrame:
    draw = random.Random(1)
    words = ["call", "meet", "lunch", "prize", "free", "claim", "tomorrow", "train", "cash", "home"]
    texts = [f"{' '.join(draw.choices(words, k=12))} {text}" for text in distinct(400)]
    labels = ["spam" if n % 3 == 0 else "ham" for n in range(400)]
    return pd.DataFrame({"text": texts, "label": labels, "source": "known", "group": ""})


def splitter() -> GroupedSplitter:
    return GroupedSplitter(test=0.2, validation=0.15, jaccard=0.6, seed=0)


def with_feedback(base: pd.DataFrame, found: Sequence[tuple[str, str]]) -> Messages:
    extra = pd.DataFrame(found, columns=["text", "label"], dtype=object)
    extra = extra.assign(source="feedback", group="").astype(str)
    frame = pd.concat([base, extra], ignore_index=True)
    return Messages(frame, "both", train_only=("feedback",), train_only_share=RULES.max_share)


def test_the_other_messages_are_split_as_without_feedback() -> None:
    base = sample()
    plain = splitter().split(Messages(base, "base"))
    held = plain.part("test")["text"].iloc[0]
    trained = plain.part("train").iloc[0]
    other = "ham" if trained["label"] == "spam" else "spam"
    found = [
        ("a message about nothing that is known so far, with enough words", "spam"),
        (held + " x", "ham"),  # a near-copy of a message of the holdout
        (trained["text"] + " y", other),  # contradicts the label of its near-copy
        (trained["text"] + " z", trained["label"]),
        (trained["text"], other),  # is known
    ]
    split = splitter().split(with_feedback(base, found))
    pd.testing.assert_frame_equal(split.frame.head(len(plain.frame)), plain.frame)
    added = split.frame.iloc[len(plain.frame) :]
    assert list(added["text"]) == [found[0][0], found[3][0]]
    assert set(added["part"]) == {"train"}
    groups = plain.frame.set_index("text")["group"]
    assert list(added["group"]) == [plain.frame["group"].max() + 1, groups[trained["text"]]]


def test_feedback_stays_where_other_sources_are_left_out() -> None:
    base = pd.concat([sample(), sample().assign(source="other")])
    messages = with_feedback(base, [("hello there", "ham")]).only(["known"])
    assert set(messages.frame["source"]) == {"known", "feedback"}
    assert messages.is_train_only.sum() == 1


def test_a_leaky_split_is_refused_with_feedback() -> None:
    messages = with_feedback(sample(), [("hello there", "ham")])
    with pytest.raises(UserError, match="split=grouped"):
        TutorialSplitter(test=0.2, seed=0).split(messages)
    training_only.refuse(messages.splittable, "tutorial")


OTHER = "can you bring the blue folder and two pens to the meeting at noon tomorrow"
CHAIN = [SCAM, SCAM[24:] + " " + OTHER[:26], SCAM[58:] + " " + OTHER[:58], OTHER]
"""Each is a near-copy of its neighbors, and the first and the last have nothing in common."""


def chained(score: float = 0.01) -> list[Report]:
    """Return reports that lead from the one end of the chain to the other."""
    return [report(text, "ham", "link", score) for text in CHAIN[1:3]]


def loose(reports: Sequence[Report]) -> dict[str, votes.Case]:
    """Return the case of each message, where near-copies are less alike."""
    rules = dataclasses.replace(RULES, jaccard=0.3)
    return {text: case for case in votes.cases(reports, rules) for text in case.texts}


def test_the_label_that_a_client_had_chosen_by_its_threshold_was_not_predicted() -> None:
    about = inference(SCAM, spam_probability=0.99, label="ham", threshold=1.0, predicted="spam")
    said = Report(feedback(about.id, "ham"), about, SCAM)
    assert only([said]).verdict == "quarantined"


def test_repeated_reports_do_not_change_what_was_predicted() -> None:
    copy = SCAM + " please"
    stuffed = [report(SCAM, "ham"), *(report(copy, "ham", score=0.01) for _ in range(2))]
    case = only(stuffed)
    assert (case.verdict, case.predicted) == ("quarantined", "ham and spam")
    again = only([*stuffed, report(SCAM, "ham")])
    assert again.texts == (SCAM, copy)  # the one that was reported first stays first
    agreed = only([*stuffed, report(copy, "ham", "bob", 0.01)])
    assert (agreed.verdict, agreed.label) == ("accepted", "ham")


def test_a_chain_of_near_copies_carries_no_decision_to_another_message() -> None:
    reviewed = report(CHAIN[0], "spam", "boss", 0.01, kind="review")
    found = loose([*chained(), report(CHAIN[3], "ham", score=0.01), reviewed])
    assert found[CHAIN[0]].label == "spam"
    assert found[CHAIN[3]].label == "ham"
    three = [report(CHAIN[0], "spam", who, 0.01) for who in ("ann", "bob", "dan")]
    found = loose([*chained(), *three, report(CHAIN[3], "spam", "cid", 0.01)])
    assert found[CHAIN[0]].label == "spam"
    assert found[CHAIN[3]].votes == {"ham": 1.0, "spam": 1.0}
    assert found[CHAIN[3]].verdict == "undecided"
