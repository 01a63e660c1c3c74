import pytest

from spam_mlflow.scorer.vectorizers import familiarity
from spam_mlflow.scorer.vectorizers.ngram import NgramVectorizer
from spam_mlflow.scorer.vectorizers.sequence import SequenceVectorizer

TRAINED = ["please call me when you are at home", "see you at home then", "call me please"] * 2


@pytest.fixture(scope="module")
def vectorizer() -> NgramVectorizer:
    made = NgramVectorizer(0, 1, (2, 5), (3, 5), 0.3)
    made.fit_transform(TRAINED)
    return made


def doubts(vectorizer: NgramVectorizer, *texts: str) -> list[str | None]:
    import numpy as np

    return vectorizer.dot_and_doubts(texts, np.zeros((vectorizer.n_features, 1)))[1]


@pytest.mark.parametrize(
    "text",
    ["please call me", "call 07700900123", "Home", "call \U0001f600", "Ok, see you", "me zzz"],
)
def test_texts_like_those_trained_on_raise_no_doubt(vectorizer: NgramVectorizer, text: str) -> None:
    assert doubts(vectorizer, text) == [None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("selamat pagi semua teman", "4 of 4 words are unknown to the model"),
        ("Guten Morgen, wir sehen uns", "5 of 5 words are unknown to the model"),
        ("привет", "the model was not trained on Cyrillic script"),
        ("مرحبا كيف حالك", "the model was not trained on Arabic script"),
        ("你好", "the model was not trained on Cjk script"),
        ("Hola!!!!!!!!", "1 of 1 word is unknown to the model"),
        ("Anda menang", "2 of 2 words are unknown to the model"),
        ("\U0001f600\U0001f600", "nothing in the text is known to the model"),
        ("2 + 3", "nothing in the text is known to the model"),
        ("", "nothing in the text is known to the model"),
        ("आप कैसे हैं", "the model was not trained on Devanagari script"),
    ],
)
def test_other_languages_and_scripts_raise_one(
    vectorizer: NgramVectorizer, text: str, reason: str
) -> None:
    assert doubts(vectorizer, "call me", text) == [None, reason]


def sequence(max_words: int) -> SequenceVectorizer:
    made = SequenceVectorizer(max_words, 20)
    made.fit_transform([*TRAINED, "don't call"])
    return made


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Don't call me!", None),
        ("selamat pagi semua teman", "4 of 4 words are unknown to the model"),
        ("Guten Tag", "2 of 2 words are unknown to the model"),
        ("привет", "the model was not trained on Cyrillic script"),
        ("!!", "nothing in the text is known to the model"),
    ],
)
def test_networks_over_words_tell_likewise(text: str, reason: str | None) -> None:
    made = sequence(100)
    assert made.doubts(["call me", text]) == [None, reason]
    assert type(made).from_dict(made.to_dict()).doubts([text]) == [reason]


def test_unknown_words_tell_nothing_where_the_vocabulary_is_cut() -> None:
    small = sequence(4)
    assert small.doubts(["see you at home then, call me", "zzz", "привет"]) == [
        None,
        "nothing in the text is known to the model",
        "the model was not trained on Cyrillic script",
    ]


def test_a_script_that_was_trained_on_is_known() -> None:
    made = NgramVectorizer(0, 1, (2, 5), (3, 5), 0.3)
    made.fit_transform(["привет как дела", "дела хорошо привет"])
    assert doubts(made, "привет как дела") == [None]
    assert "CYRILLIC" in familiarity.scripts(["привет", "дела"])
