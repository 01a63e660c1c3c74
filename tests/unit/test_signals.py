import json
import time

import numpy as np
import pytest

from spam_mlflow.data.slow_texts import SLOW_TEXTS
from spam_mlflow.models import lexicons
from spam_mlflow.scorer.normalization import normalize
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer
from spam_mlflow.scorer.vectorizers.signals import KINDS, PAIRS, Signals


@pytest.fixture(scope="module")
def vectorizer() -> NgramVectorizer:
    made = NgramVectorizer(0, 1, (2, 5), (3, 5), 0.3, 0.15, lexicons.read())
    made.fit_transform(["call now", "see you"])
    return made


def signals(vectorizer: NgramVectorizer, text: str) -> set[str]:
    row = vectorizer.transform([text])
    names = vectorizer.names(row.indices)
    return {name.removeprefix("signal:") for name in names if name.startswith("signal:")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Text WIN to 80086", {"texting", "prize", "number of 5", "texting + number of 5"}),
        ("your code is 482913", {"code", "number of 6", "code + number of 6"}),
        ("call 09061701461", {"contact", "premium number", "contact + premium number"}),
        ("call +44 7700 900123", {"contact"}),
        ("ring +447700900123", {"international number"}),
        ("ring 07700900123", {"mobile number"}),
        ("ring 1-800-555-0199", {"toll-free number"}),
        ("only 150p/msg", {"price per message"}),
        ("pay £1,250.00 now", {"price", "price of four digits or more", "urgency"}),
        ("www.royalmail-fee.top/x1", {"link", "odd_tld", "link with a path"}),
        ("https://www.bbc.co.uk/news", {"link", "known_site"}),
        ("bit.ly/3abc", {"link", "shortener"}),
        ("FREE prize", {"word in capitals", "free", "prize"}),
        ("f.r.e.e prize", {"free", "prize"}),
        ("card XX1234 debited", {"masked number", "bank"}),
        ("check out my channel", {"look", "channel", "look + channel", "any request"}),
        ("claim 50% off", {"any request", "any price", "any request + any price"}),
        ("win a voucher, reply now", {"any promise + any pressure", "any request + any promise"}),
    ],
)
def test_signals_are_found(vectorizer: NgramVectorizer, text: str, expected: set[str]) -> None:
    assert expected <= signals(vectorizer, text)


@pytest.mark.parametrize("text", ["ok.see you", "i.e. later", "", "\U0001f600", "a.b", "e.g.this"])
def test_plain_texts_have_no_link(vectorizer: NgramVectorizer, text: str) -> None:
    assert "link" not in signals(vectorizer, text)


def test_every_pair_is_of_signals_that_exist() -> None:
    known = set(Signals(lexicons.read()).chunk_names)
    assert {name for members in KINDS.values() for name in members} <= known
    assert {name for pair in PAIRS for name in pair} <= known | set(KINDS)
    assert len(known) < 256  # a signal is stored in one byte


def test_one_text_and_many_have_the_same_signals(vectorizer: NgramVectorizer) -> None:
    texts = ["Text WIN to 80086", "", "call 09061701461 now!!", "https://bit.ly/x?"] * 40
    many = vectorizer.transform(texts).toarray()
    for at in range(4):
        fresh = NgramVectorizer.from_dict(vectorizer.to_dict())
        np.testing.assert_allclose(fresh.transform([texts[at]]).toarray()[0], many[at], atol=1e-6)


def test_signals_are_where_their_words_are(vectorizer: NgramVectorizer) -> None:
    chunks, places = vectorizer.places(["Text WIN to 80086", "", "See 80086 or text"])
    flat = [(n, chunk) for n, of_text in enumerate(chunks) for chunk in of_text]
    where: dict[str, set[tuple[int, str]]] = {}
    for name, chunk in zip(vectorizer.names(places.columns), places.chunks, strict=True):
        where.setdefault(name, set()).add(flat[chunk])
    assert where["signal:prize"] == {(0, "WIN")}
    both = {(0, "Text"), (0, "80086"), (2, "text"), (2, "80086")}
    assert where["signal:texting + number of 5"] == both


@pytest.mark.parametrize("text", ["Text WIN to 80086", "", *SLOW_TEXTS.values()])
def test_every_feature_but_those_of_style_has_a_place(
    vectorizer: NgramVectorizer, text: str
) -> None:
    _, columns, _ = vectorizer.coordinates([normalize(text)])
    _, places = vectorizer.places([normalize(text)])
    shares = np.bincount(places.columns, places.shares, minlength=vectorizer.n_features)
    assert set(places.columns) <= set(columns)
    missing = set(columns) - set(np.flatnonzero(shares > 0))
    assert all(name.startswith("style:") for name in vectorizer.names(np.array(list(missing))))


def test_a_stored_vectorizer_keeps_the_words_it_was_made_with() -> None:
    made = NgramVectorizer(0, 1, (2, 5), (3, 5), 0.3, 0.15, {"prize": ("bounty",)})
    made.fit_transform(["a bounty", "no"])
    stored = NgramVectorizer.from_dict(json.loads(json.dumps(made.to_dict())))
    assert signals(stored, "Bounty!") == {"prize", "any promise", "exclamation"}


def test_states_from_before_signals_are_read_as_they_were() -> None:
    made = NgramVectorizer(0, 1, (2, 5), (3, 5), 0.3)
    rows = made.fit_transform(["call now", "see you"]).toarray()
    state = made.to_dict()
    del state["signal_weight"], state["lexicons"]
    again = NgramVectorizer.from_dict(state).transform(["call now", "see you"])
    np.testing.assert_array_equal(again.toarray(), rows)


@pytest.mark.parametrize("name", SLOW_TEXTS)
def test_no_text_takes_long(vectorizer: NgramVectorizer, name: str) -> None:
    start = time.process_time()
    vectorizer.dot([SLOW_TEXTS[name]], np.ones(vectorizer.n_features, dtype=np.float32))
    assert time.process_time() - start < 1  # a tenth of it was measured
