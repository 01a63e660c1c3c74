import re
import unicodedata

import pytest

from spam_mlflow.scorer.normalization import decode, duplicate_key, normalize, skeleton


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


WORST = {
    "combining marks": "a" + "\u0345" * 100_000 + "\u0334" * 99_999,
    "the same as entities": "a" + "&#x345;" * 14_000 + "&#x334;" * 14_000,
    "expansions": "\ufdfa" * 200_000,
    "expansions between marks": "\ufdfa\u0345" * 100_000,
}


@pytest.mark.parametrize("name", WORST)
def test_what_makes_nfkc_slow_is_cut_off(name: str) -> None:
    """NFKC sorts runs of combining marks in quadratic time, and makes 18 characters of U+FDFA."""
    decoded = decode(WORST[name])
    assert len(decoded) <= 200_100
    runs = re.findall("[\u0334\u0345\u03b9]+", decoded)
    assert max(map(len, runs), default=0) <= 31


@pytest.mark.parametrize("text", ["Tie\u0302\u0301ng Vie\u0323\u0302t", "\ufdfa", "e\u0301" * 30])
def test_texts_that_people_write_are_decoded_as_before(text: str) -> None:
    for long in (text, f"{text} " * 300):
        assert decode(long) == unicodedata.normalize("NFKC", long)
