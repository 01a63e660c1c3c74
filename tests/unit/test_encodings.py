"""Encodings of text files."""

import logging
from pathlib import Path

import pytest
from support.own_files import load

from spam_mlflow.data.sources.encodings import decode

ENGLISH = "label,text\nham,£3 a day – it’s ok…\nspam,Win €1000 now\n"
SPANISH = "label,text\nham,mañana comemos ¿vale? sí señor\nspam,Ganó un teléfono, llame ahora\n"
RUSSIAN = "label,text\nham,Привет, как дела? Увидимся завтра\nspam,Вы выиграли приз! Позвоните\n"
CHINESE = (
    "label,text\nham,你好,明天一起吃饭吧,我在公司等你\nspam,恭喜您中奖了,请立即拨打电话领取奖品\n"
)
JAPANESE = "label,text\nham,明日の会議は何時ですか\nspam,おめでとうございます！賞金が当たりました\n"
POLISH = "label,text\nham,Cześć, źle się czuję, jutro będę później\nspam,Wygrałeś! Wyślij SMS\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((ENGLISH, name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
        *((ENGLISH, name) for name in ("utf-32", "cp1252")),
        *((SPANISH, name) for name in ("utf-8", "latin-1", "cp1252")),
        *((RUSSIAN, name) for name in ("utf-8", "cp1251", "koi8-r", "utf-16-le")),
        *((CHINESE, name) for name in ("utf-8", "gb18030", "utf-16")),
        (JAPANESE, "shift_jis"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        ("label,text\nham,caf\xe9\n", "latin-1"),
        ("label,text\nham,plain\n", "ascii"),
    ],
)
def test_encodings_are_found_out(
    text: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert decode(text.encode(encoding), "auto", "messages.csv")[0] == text
    assert decode(text.encode(encoding), encoding, "messages.csv")[0] == text
    assert not caplog.messages


def test_a_line_in_another_encoding_is_rejected(tmp_path: Path) -> None:
    rows = "".join(f"ham,größer {chr(number)}\n" for number in range(ord("a"), ord("z")))
    content = f"label,text\nspam,win\n{rows}".encode() + b"ham,caf\xe9\n"
    messages = load(tmp_path, content)
    assert len(messages.frame) == 26
    assert list(messages.rejected["reason"]) == ["not in the encoding of the file"]
    assert list(messages.rejected["text"]) == ["ham,caf\ufffd"]


def test_a_given_encoding_that_garbles_the_text_is_pointed_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for encoding in ("latin-1", "cp1252"):
        caplog.clear()
        decode("ham,£3 a day\nham,ok\n".encode(), encoding, "messages.csv")
        assert caplog.messages == [
            "messages.csv: 1 lines hold UTF-8 that was read in another encoding, such as 'Â£': "
            "give data.encoding=utf-8"
        ]


def test_text_that_was_written_garbled_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    decode("ham,Â£3 a day\nham,größer\n".encode(), "auto", "messages.csv")
    assert "such as 'Â£': it was written so; mend the file" in caplog.text


def test_signs_of_windows_in_latin_1_are_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        decode(ENGLISH.encode("cp1252"), "latin-1", "messages.csv")
    assert "2 lines hold control characters" in caplog.text
    assert caplog.text.strip().endswith("give data.encoding=cp1252")


def test_half_a_character_at_the_end_is_no_traceback() -> None:
    assert decode(ENGLISH.encode("utf-16")[:-1], "auto", "messages.csv")[0].endswith("now\ufffd")
