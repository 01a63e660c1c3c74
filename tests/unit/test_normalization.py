import pytest

from spam_mlflow.scorer.normalization import duplicate_key, normalize, skeleton


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
        ("Fr\u0435\u0435 \u0440riz\u0435", "Free prize"),  # Cyrillic letters
        ("\u4f60\u597d", "\u4f60\u597d"),
        ("caf\xe9 \xfc", "caf\xe9 \xfc"),  # accents are no disguise
        ("F r e e   p r i z e now", "Free prize now"),
        ("s p a c e d o u t", "spacedout"),
        ("a b c", "a b c"),  # too short to be spaced out
        ("f.r.e.e p-r-i-z-e", "free prize"),
        ("www.a.com 1.2.3 e.g. this", "www.a.com 1.2.3 e.g. this"),
        ("y0u h4v3 w0n 4 fr33 pr1z3", "you have won 4 free prize"),
        ("see u b4 2day at 5 ok", "see u b4 2day at 5 ok"),  # two of five are not all of it
    ],
)
def test_normalize(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_normalizing_twice_changes_nothing() -> None:
    for text in ("Tom &amp; Jerry", "ﬁne\u200b  print", "£100 \U0001f600"):
        assert normalize(normalize(text)) == normalize(text)


@pytest.mark.parametrize("text", ["FREE", "free!", "fr-ee", "fr33", "fr\xe9e", "'free'"])
def test_disguises_share_a_skeleton(text: str) -> None:
    assert skeleton(text) == "free"


def test_the_skeleton_of_a_number_tells_only_that_it_is_one() -> None:
    assert skeleton("09061701461") == skeleton("\xa3100") == "0"
    assert skeleton("!!!") == ""


def test_copies_with_other_digits_case_and_punctuation_share_a_key() -> None:
    assert duplicate_key("CALL 09061701461 now!!") == duplicate_key("call 123 - Now")
    assert duplicate_key("call now") != duplicate_key("call me")


def test_texts_without_letters_are_not_taken_for_one_another() -> None:
    assert duplicate_key("\U0001f600") != duplicate_key("\U0001f4a9")
    assert duplicate_key("...") != duplicate_key("?!")
