import re
import unicodedata

import pytest

from spam_mlflow.data.slow_texts import SLOW_TEXTS
from spam_mlflow.scorer.normalization import READ, decode, duplicate_key, normalize, skeleton


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


@pytest.mark.parametrize("name", SLOW_TEXTS)
def test_what_makes_later_steps_slow_is_cut_off(name: str) -> None:
    """NFKC sorts runs of combining marks in quadratic time, and makes 18 characters of U+FDFA."""
    decoded = decode(SLOW_TEXTS[name])
    assert len(decoded) <= READ + 18
    runs = re.findall("[\u0334\u0345\u0f71\u0f72\u03b9]+", decoded)
    between_invisible = name == "marks between invisible characters"
    assert between_invisible or max(map(len, runs), default=0) <= 31


def test_of_a_longer_text_start_and_end_are_read() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + READ)))
    assert decode(text) == text
    longer = decode(f"{text}!")
    assert len(longer) == READ
    start, end = longer.split(" ")
    assert text.startswith(start)
    assert f"{text}!".endswith(end)
    assert abs(len(start) - len(end)) <= 1
    assert decode(longer) == longer


def test_an_entity_with_a_huge_number_is_no_character() -> None:
    """Python makes no numbers of more than 4,300 digits."""
    assert decode(f"win &#{'9' * 5000};now &#38; here") == "win \ufffdnow & here"


@pytest.mark.parametrize("marks", ["\u0301\u0334", "\u0f73\u0f81", "\u0301\u0323\u0f75"])
def test_a_skeleton_is_that_of_nfkd_without_sorting_marks(marks: str) -> None:
    chunk = f"caf\xe9\uac01{marks * 10}\u1e69"
    parts = unicodedata.normalize("NFKD", chunk)
    assert skeleton(chunk) == "".join(p for p in parts if not unicodedata.combining(p))
    assert skeleton(marks * 10_000) == ""


@pytest.mark.parametrize("text", ["Tie\u0302\u0301ng Vie\u0323\u0302t", "\ufdfa", "e\u0301" * 30])
def test_texts_that_people_write_are_decoded_as_before(text: str) -> None:
    for long in (text, f"{text} " * 300):
        assert decode(long) == unicodedata.normalize("NFKC", long)
