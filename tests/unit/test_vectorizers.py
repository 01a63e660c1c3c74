import gc
import itertools
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from spam_mlflow.data.slow_texts import SLOW_TEXTS
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.errors import UserError
from spam_mlflow.scorer import vectorizers
from spam_mlflow.scorer.normalization import normalize
from spam_mlflow.scorer.payloads import LONGEST
from spam_mlflow.scorer.vectorizers import character_ngrams, chunk_memory, chunks, sparse_rows
from spam_mlflow.scorer.vectorizers.chunk_memory import ChunkMemory, Chunks, Lists
from spam_mlflow.scorer.vectorizers.key_table import KeyTable
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer
from spam_mlflow.scorer.vectorizers.sequence import SequenceVectorizer
from spam_mlflow.scorer.vectorizers.style_features import STYLE, shape
from spam_mlflow.scorer.vectorizers.vocabulary import BLOCKS

Fitted = tuple[NgramVectorizer, csr_matrix]
ODD = ["", "   ", "\U0001f600", "\u05e9\u05dc\u05d5\u05dd", "a" * 100_000, "x " * 50_000]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return SampleSource().load().frame["text"].tolist()


@pytest.fixture(scope="module")
def fitted(texts: list[str]) -> Fitted:
    """A vectorizer fitted on all texts, and the rows that fitting gave."""
    vectorizer = ngrams()
    return vectorizer, vectorizer.fit_transform(texts)


def ngrams(max_words: int = 0, min_count: int = 2) -> NgramVectorizer:
    return NgramVectorizer(
        max_words, min_count, characters=(2, 5), skeleton=(3, 6), style_weight=0.3
    )


@pytest.mark.parametrize(
    ("block", "reference"),
    [
        ("word", {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)}),
        ("char", {"analyzer": "char_wb", "ngram_range": (2, 5)}),
    ],
)
def test_blocks_equal_scikit_learns_tfidf(
    texts: list[str], block: str, reference: dict[str, object]
) -> None:
    short = [text for text in texts if max(map(len, text.split())) <= 20]  # nothing to tell apart
    train, other = short[::2], short[1::2]
    ours = ngrams()
    ours.fit_transform(train)
    theirs = TfidfVectorizer(
        **reference, preprocessor=lambda t: normalize(t).casefold(), min_df=2, sublinear_tf=True
    )
    theirs.fit(train)
    names = [n.removeprefix(f"{block}:") for n in ours.feature_names if n.startswith(f"{block}:")]
    assert sorted(names) == sorted(theirs.get_feature_names_out())
    at = [i for i, name in enumerate(ours.feature_names) if name.startswith(f"{block}:")]
    columns = [theirs.vocabulary_[name] for name in names]
    difference = ours.transform(other)[:, at] - theirs.transform(other)[:, columns]
    assert abs(difference).max() < 1e-6


def test_the_style_features_come_last() -> None:
    vectorizer = ngrams()
    vectorizer.fit_transform(["call now", "call now"])
    texts = ["Call NOW: £50,000 at www.x.com", "", "ÉCLAIR été 123456 ٣", "a\u2603"]
    expected = [
        [
            math.log1p(len(text) + 1) / 6,
            math.log1p(len(text.split())) / 5,
            sum(map(str.isupper, text)) / (sum(map(str.isalpha, text)) + 1),
            sum(map(str.isdigit, text)) / (len(text) + 1),
            sum(not c.isalnum() and c != " " for c in text) / (len(text) + 1),
            sum(c > "\x7f" for c in text) / (len(text) + 1),
            float("www" in text),
            float("£" in text),
            float("123456" in text),
        ]
        for text in texts
    ]
    tail = vectorizer.transform(texts).toarray()[:, -len(STYLE) :]
    np.testing.assert_allclose(tail, np.array(expected) * 0.3, rtol=1e-6)


def test_shapes() -> None:
    assert [shape(word) for word in ("Call", "MOBILE", "\xa3100", "u")] == [
        "Aaa",
        "AA",
        "\xa3000",
        "a",
    ]


def test_the_vocabulary_is_limited_to_the_most_frequent(texts: list[str]) -> None:
    vectorizer = ngrams(max_words=50)
    vectorizer.fit_transform(texts)
    assert vectorizer.n_features == len(BLOCKS) * 50 + len(STYLE)
    assert "word:the" in vectorizer.feature_names


def test_fitting_returns_the_rows_of_transform(texts: list[str], fitted: Fitted) -> None:
    vectorizer, rows = fitted
    # The sums of squares are taken in another order.
    assert abs(rows - vectorizer.transform(texts)).max() < 1e-6


def test_rows_as_if_less_were_known_are_those_of_the_smaller_vocabulary(
    texts: list[str], fitted: Fitted
) -> None:
    whole, smaller = fitted[0], ngrams(min_count=5)
    smaller.fit_transform(texts)
    at = {name: column for column, name in enumerate(whole.feature_names)}
    columns = [at[name] for name in smaller.feature_names]
    known = np.isin(np.arange(whole.n_features), columns)
    rows = whole.mask_vocabulary(whole.transform(texts[:50]), known)
    assert abs(rows[:, columns] - smaller.transform(texts[:50])).max() < 1e-6
    assert abs(rows).sum() == pytest.approx(abs(rows[:, columns]).sum())


@pytest.fixture
def switches_often() -> Iterator[None]:
    """Have the interpreter switch between threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_few_chunks_are_read_like_many(texts: list[str], fitted: Fitted) -> None:
    vectorizer, _ = fitted
    odd = ["\0", "a\0b", "caf\xe9", "\u20ac5", "\u4f60\u597d", "a", "!", "x" * 50]
    pieces = sorted({piece for text in texts for piece in text.split()}) + odd
    many = vectorizer._reader._read(pieces)
    few = [vectorizer._reader._read([piece]) for piece in pieces]
    for name, lists in many._asdict().items():
        if name == "counts":
            np.testing.assert_array_equal(lists, np.concatenate([one.counts for one in few]))
            continue
        ends = np.cumsum(lists.sizes)[:-1]
        for numbers, one in zip(np.split(lists.numbers, ends), few, strict=True):
            assert sorted(numbers) == sorted(getattr(one, name).numbers)


def test_threads_may_remember_chunks_at_the_same_time(switches_often: None) -> None:
    memory = ChunkMemory(2, np.int32)

    def add(thread: int) -> None:
        for n in range(100):
            own = np.array([thread, n])
            lists = Lists(np.array([2]), own)
            memory.add([f"{thread} {n}"], Chunks(lists, lists, lists, lists, own[None, :]))
            found = memory.take(np.array([memory.number[f"{thread} {n}"]]))
            assert [field.numbers.tolist() for field in found[:-1]] == [[thread, n]] * 4
            assert found.counts.tolist() == [[thread, n]]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert sorted(memory.number.values()) == list(range(1, 401))


def test_memory_of_chunks_begins_anew_where_it_has_grown(
    texts: list[str], fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectorizer, _ = fitted
    expected = vectorizer.transform(texts)
    memory = vectorizer._reader._memory
    assert 0 < memory.size < 5_000_000
    monkeypatch.setattr(chunks, "_REMEMBERED_BYTES", memory.size - 1)
    assert abs(vectorizer.transform(texts) - expected).max() == 0
    assert vectorizer._reader._memory is not memory


def test_chunks_that_could_not_be_remembered_change_no_later_row(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectorizer = ngrams()
    vectorizer.fit_transform(texts)
    fresh = vectorizers.from_dict(vectorizer.to_dict())
    usual, calls = chunk_memory._with_room, itertools.count()

    def run_out(array: np.ndarray, rows: int) -> np.ndarray:
        if next(calls) == failing:
            raise MemoryError
        return usual(array, rows)

    with monkeypatch.context() as patch:
        patch.setattr(chunk_memory, "_with_room", run_out)
        for failing in range(9):  # two arrays of each of four lists, and the counts
            calls = itertools.count()
            with pytest.raises(MemoryError):
                vectorizer.transform([f"unseen{failing} wörds and £{failing} at www.x.com"])
    assert abs(vectorizer.transform(texts) - fresh.transform(texts)).max() == 0


def test_products_are_those_of_the_rows(texts: list[str], fitted: Fitted) -> None:
    vectorizer, _ = fitted
    coefficients = np.random.default_rng(0).normal(size=vectorizer.n_features).astype(np.float32)
    many = [*texts * 2, *ODD]
    assert len(many) > 4096  # more than are read at once
    expected = vectorizer.transform(many) @ coefficients.astype(np.float64)
    np.testing.assert_allclose(vectorizer.dot(many, coefficients), expected, atol=1e-5)
    assert vectorizer.dot([], coefficients).shape == (0,)
    for text in (*texts[:20], *ODD):
        (alone,) = vectorizer.dot([text], coefficients)
        assert alone == pytest.approx(expected[many.index(text)], abs=1e-5)


@pytest.mark.parametrize("name", [*SLOW_TEXTS, "all of them"])
def test_no_text_takes_long(fitted: Fitted, name: str) -> None:
    vectorizer, _ = fitted
    texts = list(SLOW_TEXTS.values()) if name == "all of them" else [SLOW_TEXTS[name]]
    assert max(map(len, texts)) <= LONGEST
    start = time.process_time()
    vectorizer.dot(texts, np.ones(vectorizer.n_features, dtype=np.float32))
    # An explanation needs these as well.
    vectorizer.coordinates([normalize(text) for text in texts])
    assert time.process_time() - start < 0.5 * len(texts)  # a tenth of it was measured


def test_large_batches_are_read_in_pieces_to_the_same_rows(
    texts: list[str], fitted: Fitted
) -> None:
    vectorizer, once = fitted
    many = ngrams().fit_transform(texts * 2)  # more than are read at once
    assert many.shape[0] == 2 * len(texts) > 4096
    again = vectorizer.transform(texts * 2)
    assert abs(again[: len(texts)] - once).max() < 1e-6
    assert abs(again[-len(texts) :] - once).max() < 1e-6


def test_disguises_leave_the_skeleton_block_as_it_is(fitted: Fitted) -> None:
    vectorizer, _ = fitted
    at = [i for i, name in enumerate(vectorizer.feature_names) if name.startswith("skeleton:")]
    rows = vectorizer.transform(
        ["win a free prize", "WIN a fr-ee pri'ze!", "w i n a f r e e p r i z e"]
    )
    assert rows[0, at].nnz > 10
    assert abs(rows[0, at] - rows[1, at]).max() == 0
    assert abs(rows[0, at] - rows[2, at]).max() == 0


def test_words_run_together_are_told_apart_and_links_are_left_alone() -> None:
    vectorizer = ngrams(min_count=1)
    vectorizer.fit_transform(
        ["call now to claim your free prize", "free prize at http://win.example.com"]
    )
    together, apart = vectorizer.transform(
        ["Callnowtoclaimyour5000freeprize", "Call now to claim your 5000 free prize"]
    )
    words = [i for i, name in enumerate(vectorizer.feature_names) if name.startswith("word:")]
    assert abs(together[0, words] - apart[0, words]).max() == 0
    assert together[0, words].nnz > 10
    link = "http://callnowtoclaimyourfreeprize.example.com"
    assert "word:call" in vectorizer.feature_names
    call = vectorizer.feature_names.index("word:call")
    assert vectorizer.transform([link])[0, call] == 0


@pytest.mark.parametrize(
    "lengths", [{"characters": (5, 2)}, {"characters": (0, 3)}, {"skeleton": (3, 7)}], ids=str
)
def test_impossible_lengths_of_ngrams_are_refused(lengths: dict[str, tuple[int, int]]) -> None:
    given: dict[str, Any] = {"characters": (2, 5), "skeleton": (3, 6), **lengths}
    with pytest.raises(UserError, match=r"must be two lengths"):
        NgramVectorizer(0, 2, given["characters"], given["skeleton"], style_weight=0.3)


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_character_ngrams_are_those_of_a_plain_loop(texts: list[str], length: int) -> None:
    some = [f" {text} " for text in texts[:50]] + [
        "",
        " ",
        "ab",
        "a\x00b",
        "\ud800x",
        "5 €",
        "你好",
    ]
    owners, keys = character_ngrams.find_in_texts(some, length, length)
    found = sorted(zip(owners.tolist(), character_ngrams.unpack(keys), strict=True))
    expected = [
        (owner, re.sub("[^\0-\u036f€]", "\ufffd", text[i : i + length]))
        for owner, text in enumerate(some)
        for i in range(len(text) - length + 1)
        if " " not in text[i + 1 : i + length - 1] and "\0" not in text[i : i + length]
    ]
    assert found == sorted(expected)
    np.testing.assert_array_equal(character_ngrams.pack(character_ngrams.unpack(keys)), keys)


@pytest.mark.parametrize("vectorizer", [ngrams(), SequenceVectorizer(280, 40)])
def test_a_stored_vectorizer_gives_the_same_rows(
    vectorizer: NgramVectorizer | SequenceVectorizer, texts: list[str]
) -> None:
    vectorizer.fit_transform(texts)
    stored = vectorizers.from_dict(json.loads(json.dumps(vectorizer.to_dict())))
    difference = stored.transform(texts + ODD) - vectorizer.transform(texts + ODD)
    assert abs(difference).max() == 0


@pytest.mark.parametrize("vectorizer", [ngrams(), SequenceVectorizer(280, 40)])
def test_odd_texts_have_finite_rows_that_do_not_depend_on_their_neighbours(
    vectorizer: NgramVectorizer | SequenceVectorizer, texts: list[str]
) -> None:
    vectorizer.fit_transform(texts)
    together = vectorizer.transform(ODD)
    assert np.isfinite(together.sum())
    for row, text in enumerate(ODD):
        assert abs(together[[row]] - vectorizer.transform([text])).max() == 0


@pytest.mark.parametrize("n_columns", [1, 2, 90_000, 2**21, 2**40])
@pytest.mark.parametrize("size", [0, 1, 2, 50_000])
@pytest.mark.parametrize("compares", [True, False])
def test_occurrences_are_counted_and_sorted_by_row_and_column(
    n_columns: int, size: int, compares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_rows, "_compares_fast", lambda: compares)
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(2000, size=size), rng.integers(n_columns, size=size)
    rows[size // 2 :], columns[size // 2 :] = rows[: size - size // 2], columns[: size - size // 2]
    found = sparse_rows.occurrences(rows, columns, n_columns)
    pairs, counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    assert [entries.tolist() for entries in found] == [*pairs.tolist(), counts.tolist()]
    assert {entries.dtype for entries in found} == {np.dtype(np.int64)}


def test_garbage_is_collected_while_ways_to_sort_are_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collects = []
    monkeypatch.setattr(sparse_rows, "_sorted_by_bytes", lambda _: collects.append(gc.isenabled()))
    sparse_rows._compares_fast.__wrapped__()
    assert set(collects) == {True}


@pytest.mark.parametrize("size", [0, 1, 3, 40_000])
@pytest.mark.parametrize("largest", [2**17, 2**62])
def test_a_key_table_finds_known_keys_and_no_others(size: int, largest: int) -> None:
    rng = np.random.default_rng(0)
    keys = rng.permutation(np.unique(rng.integers(largest, size=size)))
    asked = np.concatenate([keys[::2], rng.integers(largest, size=10_000), keys[1::2]])
    assert KeyTable(keys).find(asked).tolist() == pd.Index(keys).get_indexer(asked).tolist()
