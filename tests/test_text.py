import pytest

from spam_mlflow.text import duplicate_key, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two \n\t spaces ", "two spaces"),
        ("&lt;#&gt; &amp; more", "<#> & more"),
        ("\ufeffHi\ufeff", "Hi"),
        ("fr\u200bee", "free"),
        ("\uff26\uff32\uff25\uff25", "FREE"),  # full-width letters
        ("", ""),
        ("Call ME", "Call ME"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_normalising_twice_changes_nothing() -> None:
    for text in ("Tom &amp; Jerry", "ﬁne\u200b  print", "£100 \U0001f600"):
        assert normalise(normalise(text)) == normalise(text)


def test_copies_with_other_digits_case_and_punctuation_share_a_key() -> None:
    assert duplicate_key("CALL 09061701461 now!!") == duplicate_key("call 123 - Now")
    assert duplicate_key("call now") != duplicate_key("call me")


def test_texts_without_letters_are_not_taken_for_one_another() -> None:
    assert duplicate_key("\U0001f600") != duplicate_key("\U0001f4a9")
    assert duplicate_key("...") != duplicate_key("?!")
