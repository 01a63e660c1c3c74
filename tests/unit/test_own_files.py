"""Files of one's own: every line is a row, or is rejected with its reason."""

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from support.own_files import load, source

from spam_mlflow.data.messages import Messages, write_rejected
from spam_mlflow.data.sources.uci import parse_sms
from spam_mlflow.errors import UserError

ROWS = 600


def word(number: int) -> str:
    """Return a word for a number, since texts that differ in digits alone count as the same."""
    return "".join(chr(ord(digit) - ord("0") + ord("a")) for digit in str(number))


def message(number: int) -> str:
    return f"message {word(number)}, with a comma"


def label(number: int) -> str:
    return "spam" if number % 3 == 0 else "ham"


def lines(separator: str = ",", quote: str = '"') -> list[str]:
    """Return the lines of a file with quoted texts, the header first."""
    rows = [f"{label(n)}{separator}{quote}{message(n)}{quote}" for n in range(ROWS)]
    return [f"label{separator}text", *rows]


def joined(parts: list[str], end: str = "\n") -> str:
    return end.join(parts) + end


def texts(messages: Messages) -> list[str]:
    return list(messages.frame["text"])


def reasons(messages: Messages) -> dict[str, int]:
    return {} if messages.rejected.empty else dict(messages.rejected["reason"].value_counts())


def require_all(messages: Messages) -> None:
    """Assert that each of the rows is there as it was written, and in its class."""
    assert texts(messages) == [message(n) for n in range(ROWS)]
    assert list(messages.frame["label"]) == [label(n) for n in range(ROWS)]
    assert messages.rejected.empty


# Lines are judged by the width of the header


def test_rows_are_kept_or_rejected_with_their_line_and_a_reason(tmp_path: Path) -> None:
    content = (
        'label,text\nham,"hello, you"\n\n1,win now\nham,\n,no label\nmaybe,who knows\n'
        "spam,it says\nham,Same text!\n1,same text\nham,one,field too many\nspam\n"
    )
    messages = load(tmp_path, content, spam_labels=[1], ignored_labels=["maybe", "spam"])
    assert messages.frame["text"].tolist() == ["hello, you", "win now"]
    assert messages.frame["label"].tolist() == ["ham", "spam"]
    found = dict(zip(messages.rejected["row"], messages.rejected["reason"], strict=True))
    assert found == {
        5: "text is empty",
        6: "label is missing",
        7: "unknown label",
        8: "unknown label",
        9: "the same text occurs with both labels",
        10: "the same text occurs with both labels",
        11: "more fields than columns",
        12: "fewer fields than columns",
    }
    write_rejected(messages, tmp_path / "rejected.csv")
    assert len(pd.read_csv(tmp_path / "rejected.csv")) == len(messages.rejected)


def test_a_first_line_with_too_many_fields_makes_no_index(tmp_path: Path) -> None:
    parts = lines()
    parts[1] = "ham,one, field too many"
    messages = load(tmp_path, joined(parts))
    assert texts(messages) == [message(n) for n in range(1, ROWS)]
    assert reasons(messages) == {"more fields than columns": 1}


def test_fields_too_many_in_every_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of the .* more fields than columns \(600\)"):
        load(tmp_path, joined(lines(quote="")))


@pytest.mark.parametrize("header", ["label,text", "label,text,"])
@pytest.mark.parametrize("end", [",", ",,", ", "])
def test_empty_fields_at_the_end_are_dropped(tmp_path: Path, header: str, end: str) -> None:
    require_all(load(tmp_path, joined([header, *(line + end for line in lines()[1:])])))


def test_the_rest_of_a_text_is_no_column_without_a_name(tmp_path: Path) -> None:
    """As in Kaggle's spam.csv, if its further columns are not asked for."""
    messages = load(tmp_path, "label,text,,\nham,one, two,\nham,three,,\nspam,four,,\n")
    assert texts(messages) == ["three", "four"]
    assert reasons(messages) == {"more fields than columns": 1}


def test_kaggles_variant_is_rejoined_at_its_commas(tmp_path: Path) -> None:
    content = "v1,v2,,\nham,one, two, three\nspam,caf\xe9 \xa3100,,\n".encode("latin-1")
    columns = {"text_column": "v2", "label_column": "v1"}
    overflow = ["Unnamed: 2", "Unnamed: 3"]
    messages = load(tmp_path, content, encoding="latin-1", overflow_columns=overflow, **columns)
    assert texts(messages) == ["one, two, three", "caf\xe9 \xa3100"]


def test_groups_and_sources_come_from_their_columns(tmp_path: Path) -> None:
    content = "text,label,thread,where\nhi,ham,a,sms\nbuy,spam,b,web\nbuy 2,spam,b,\n"
    messages = load(tmp_path, content, group_column="thread", source_column="where")
    rows = messages.frame[["group", "source"]].to_numpy().tolist()
    assert rows == [["a", "sms"], ["b", "web"], ["b", "csv"]]


@pytest.mark.parametrize(
    "content",
    [
        joined(lines()),
        "\n\n" + joined(lines()),
        joined(lines(), "\r\n"),
        joined(lines(), "\r"),
        joined(lines(), "\n\n"),
        joined(lines())[:-1],
        joined(lines()) + "\n \n\n",
        joined(lines(";")),
        joined(lines("\t")),
        joined(lines("|")),
        "sep=;\n" + joined(lines(";")),
        "sep=~\n" + joined(lines("~")),
        joined([line.replace(",", ", ", 1) for line in lines()]),
        joined([f"{n},{line}" for n, line in zip(["id", *range(ROWS)], lines(), strict=True)]),
        joined([f"{line},x" for line in lines()]),
        joined([f'"{line.split(",", 1)[0]}",{line.split(",", 1)[1]}' for line in lines()]),
        joined([line.replace("label", '"label"') for line in lines("\t", quote="")]),
    ],
    ids=count(),
)
def test_every_usual_form_is_found_out(tmp_path: Path, content: str) -> None:
    require_all(load(tmp_path, content))


@pytest.mark.parametrize(
    ("separator", "character"),
    [("comma", ","), ("tab", "\t"), ("\\t", "\t"), ("semicolon", ";"), ("pipe", "|"), ("^", "^")],
)
def test_separators_are_asked_for_by_name(tmp_path: Path, separator: str, character: str) -> None:
    require_all(load(tmp_path, joined(lines(character)), separator=separator))


@pytest.mark.parametrize("separator", ["||", "", '"', "tabs"])
def test_a_separator_is_one_character(separator: str) -> None:
    with pytest.raises(UserError, match=r"data\.separator=.* is not auto, comma, tab"):
        source("x.csv", separator=separator)


def test_how_a_file_was_read_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        load(tmp_path, joined([*lines("\t"), "ham"]))
    assert caplog.messages == [
        "messages.csv (utf-8, separated by tab, quoted): 601 lines became 600 rows, 1 rejected"
    ]


# Quotation marks


@pytest.mark.parametrize("place", [1, 100, ROWS])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_mark_that_is_not_closed_costs_no_other_line(
    tmp_path: Path, place: int, quote: str, separator: str
) -> None:
    parts = lines(separator, quote)
    parts = [part if quote else part.replace(", with a", "") for part in parts]
    parts[place] = f'ham{separator}"never closed'
    messages = load(tmp_path, joined(parts))
    assert len(messages.frame) == ROWS
    assert texts(messages)[place - 1] == '"never closed'


def test_a_mark_that_a_later_line_closes_swallows_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [line.replace(", with a", "") for line in lines(quote="")]
    parts[100], parts[150], parts[200] = 'ham,"opened', 'ham,closed "', 'ham,"proper, one"'
    messages = load(tmp_path, joined(parts))
    assert len(messages.frame) == ROWS
    assert [texts(messages)[i - 1] for i in (100, 150, 200)] == [
        '"opened',
        'closed "',
        "proper, one",
    ]
    assert "1 rows have quotation marks that do not pair up" in caplog.text


def test_the_beginning_of_a_broken_text_is_not_taken_for_it(tmp_path: Path) -> None:
    parts = lines()
    parts[100] = 'ham,"Dear all,\nsee "Jack" for that\nBye"'
    messages = load(tmp_path, joined(parts))
    assert len(messages.frame) == ROWS - 1
    assert reasons(messages) == {
        "a quotation mark opens a text that does not end": 1,
        "fewer fields than columns": 2,
    }
    assert list(messages.rejected["row"]) == [101, 102, 103]


@pytest.mark.parametrize("order", ["label,text", "text,label"])
def test_texts_of_several_lines_stay_whole(
    tmp_path: Path, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(label(n), f'Dear {word(n)},\n\n"1, 2", he said\r\nBye, all') for n in range(ROWS)]
    frame = pd.DataFrame(rows, columns=["label", "text"])
    with caplog.at_level(logging.INFO):
        messages = load(tmp_path, frame[order.split(",")].to_csv(index=False))
    assert texts(messages) == list(frame["text"])
    assert "1,800 lines became 600 rows, since some texts have several lines" in caplog.text


def test_a_text_that_ends_in_a_broken_line_is_one_rejected_row(tmp_path: Path) -> None:
    parts = lines()
    parts[5] = 'ham,"Dear all,\nbye",too,many'
    messages = load(tmp_path, joined(parts))
    assert len(messages.frame) == ROWS - 1
    assert list(messages.rejected["text"]) == [parts[5]]


def test_marks_within_a_field_are_text(tmp_path: Path) -> None:
    content = (
        'label,text\nham,he said "hi" to me\nspam,"win", he said\nspam,"win" now\nham,"a, b"\n'
    )
    messages = load(tmp_path, content)
    assert texts(messages) == ['he said "hi" to me', '"win" now', "a, b"]
    assert reasons(messages) == {"more fields than columns": 1}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("doubled", [True, False])
def test_what_pythons_writer_escapes_is_read_back(
    tmp_path: Path, quoting: Any, doubled: bool
) -> None:
    wanted = [f'{word(n)}: "quoted", \\ C:\\new {"x" * (n % 5)}' for n in range(ROWS)]
    stream = io.StringIO()
    escape = None if doubled else "\\"
    writer = csv.writer(stream, quoting=quoting, doublequote=doubled, escapechar=escape)
    writer.writerows([("label", "text"), *((label(n), text) for n, text in enumerate(wanted))])
    assert texts(load(tmp_path, stream.getvalue())) == wanted


def test_a_backslash_before_other_characters_is_text(tmp_path: Path) -> None:
    content = 'label,text\nham,"C:\\new \\"x\\", y"\nspam,"say \\"hi, you\\""\n'
    messages = load(tmp_path, content)
    assert texts(messages) == ['C:\\new "x", y', 'say "hi, you"']


def test_quoting_and_escapes_can_be_asked_for(tmp_path: Path) -> None:
    content = 'label\ttext\nham\t"hi"\nspam\t"win \\"x\\""\n'
    assert texts(load(tmp_path, content, quoting="none")) == ['"hi"', '"win \\"x\\""']
    assert texts(load(tmp_path, content, escape="backslash")) == ["hi", 'win "x"']
    doubled = load(tmp_path, content, quoting="quoted", escape="doubled")
    assert texts(doubled) == ["hi", '"win \\"x\\""']


@pytest.mark.parametrize("odd", ["\r", "\0", "\f", "\x85", "\u2028", "\x1a"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_other_control_characters_end_no_line(
    tmp_path: Path, odd: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = joined(["label,text", f"ham,be{odd}fore", f'spam,"af{odd}ter"', "ham,last"], end)
    assert texts(load(tmp_path, content)) == [f"be{odd}fore", f"af{odd}ter", "last"]
    assert "do not pair up" not in caplog.text


def test_a_text_may_be_long(tmp_path: Path) -> None:
    long = "long, " * 50_000
    assert texts(load(tmp_path, f'label,text\nham,"{long}"\nspam,win\n')) == [long, "win"]


@pytest.mark.parametrize("separator", ["auto", "tab"])
def test_the_sms_collection_with_a_header_loses_nothing(
    uci_dir: Path, tmp_path: Path, separator: str
) -> None:
    content = (uci_dir / "SMSSpamCollection").read_bytes()
    messages = load(tmp_path, b"label\ttext\n" + content, separator=separator)
    assert texts(messages) == list(parse_sms(content)["text"])


# A header


def test_a_file_without_a_header_is_read_by_the_numbers_of_columns(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"header": False, "label_column": 1, "text_column": 2}
    require_all(load(tmp_path, joined(lines()[1:]), **columns))
    wrong: dict[str, Any] = columns | {"text_column": 3}
    with pytest.raises(UserError, match=r"text_column='3' is not a column .* \['1', '2'\]"):
        load(tmp_path, joined(lines()[1:]), **wrong)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("header", ['label{}text{}"a\nb"', '"a\n\nb"{}label{}text'])
def test_names_of_columns_may_have_line_breaks(tmp_path: Path, header: str, separator: str) -> None:
    first = header.startswith('"')
    rows = [
        separator.join(["x"] * first + [line] + ["x"] * (not first)) for line in lines(separator)
    ][1:]
    messages = load(tmp_path, joined([header.format(separator, separator), *rows]))
    require_all(messages)
    assert not reasons(messages)


def test_a_header_that_is_missing_is_noticed(tmp_path: Path) -> None:
    remedy = r"no header: data\.header=false data\.label_column=1 data\.text_column=2"
    with pytest.raises(UserError, match=remedy):
        load(tmp_path, joined(lines("\t")[1:]))


# Other places and formats


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_unpacked(tmp_path: Path, pack: Any) -> None:
    packed = pack(joined(lines()).encode())
    require_all(load(tmp_path, packed, "messages.csv.gz"))
    with pytest.raises(UserError, match="is damaged and cannot be unpacked"):
        load(tmp_path, packed[:-20])


def test_parquet_is_read(tmp_path: Path) -> None:
    rows = {"text": ["hi", None, "win"], "label": [0, 1, 1], "other": [1.5, None, 2]}
    file = tmp_path / "messages.parquet"
    pd.DataFrame(rows).to_parquet(file)
    messages = source(file, ham_labels=[0], spam_labels=[1]).load()
    assert texts(messages) == ["hi", "win"]
    assert list(messages.rejected[["row", "reason"]].iloc[0]) == [2, "text is missing"]
    with pytest.raises(UserError, match=r"has .*'label'.*, of which data.label_column=NAME"):
        source(file, label_column="class").load()
    pd.DataFrame(rows).to_parquet(file, compression=None, write_page_checksum=True)
    file.write_bytes(file.read_bytes().replace(b"win", b"wan"))
    with pytest.raises(UserError, match=r"is no readable Parquet file: .*checksum"):
        source(file, ham_labels=[0], spam_labels=[1]).load()
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="is no readable Parquet file"):
        source(file).load()


def test_json_lines_are_read(tmp_path: Path) -> None:
    entries = [{"text": "hi\nyou", "label": False}, {"text": "win, now", "label": True}]
    broken = [
        "{",
        "[1]",
        '{"text": "half \\ud83d", "label": true}',
        json.dumps({"label": True}),
        json.dumps({"text": 5, "label": True}),
    ]
    content = joined([*map(json.dumps, entries), *broken])
    labels: dict[str, Any] = {"ham_labels": False, "spam_labels": True}
    messages = load(tmp_path, content, "messages.jsonl", **labels)
    assert texts(messages) == ["hi\nyou", "win, now"]
    assert list(messages.rejected["row"]) == [3, 4, 5, 6, 7]
    assert reasons(messages) == {
        "no JSON object": 2,
        "not in the encoding of the file": 1,
        "text is missing": 2,
    }
    packed = gzip.compress(content.encode())
    assert len(load(tmp_path, packed, "messages.jsonl.gz", **labels).frame) == 2
    assert len(load(tmp_path, content, "messages.json", **labels).frame) == 2


def test_paths_start_at_home_or_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "messages.csv").write_text(joined(lines()))
    require_all(source("~/messages.csv", data_dir="elsewhere").load())
    require_all(source("messages.csv", data_dir="~").load())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://example.org/spam.csv", r"https:// addresses are not read; download the file"),
        ("gs://bucket/spam.csv", "gs:// addresses are not read"),
        ("none.csv", r"data\.path='none\.csv'.*No such file"),
        (".", "is a folder; name a file in it"),
    ],
)
def test_other_places_are_refused(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        source(path).load()


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("body,label\nhi,ham\n", {}, r"data\.text_column='text' is not a column"),
        ("text,label\n", {}, "none of the 0 rows is usable"),
        ("", {}, "it is empty"),
        ("\n \n", {}, "it is empty"),
        (
            b"text,label\ncaf\xe9,ham\n",
            {"encoding": "utf-8"},
            r"line 2; give data\.encoding=cp1252",
        ),
        ("text,label\nhi,ham\n", {"ham_labels": ["spam"]}, r"spam_labels both hold spam"),
        ("text,label\nhi,ham\n", {"encoding": "martian"}, "is no encoding that Python knows"),
        (b"PK\x03\x04...", {}, "a zip archive or an Excel workbook"),
        (b"%PDF-1.7", {}, "a PDF file"),
        (gzip.compress(b"%PDF-1.7"), {}, "a PDF file"),
        (gzip.compress(bz2.compress(b"label,text")), {}, "compressed twice"),
        (b"a.csv".ljust(257, b"\0") + b"ustar", {}, "a tar archive"),
        (b"<!DOCTYPE html>", {}, "an HTML page"),
        (b'[{"text": "hi", "label": "ham"}]', {}, "a JSON array: write an object a line"),
        (b'\n[\n{"text": "hi"}]', {}, "a JSON array: write an object a line"),
        (b"\x01\x02\x03\x04\x05\x06\x00" * 100, {}, "holds no text"),
    ],
    ids=count(),
)
def test_unusable_files_are_refused(
    tmp_path: Path, content: str | bytes, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, content, **settings)


# A second reader


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_duckdb_keeps_the_same_rows(tmp_path: Path, separator: str, quoting: Any) -> None:
    """Of a file with hard texts, and with lines of too many and too few fields."""
    hard = ['say "hi"', "a, b; c|d\te", "two\nlines", "it's", "\\", '"', "größer 大 \u2028", " x "]
    frame = pd.DataFrame(
        [(label(n), f"{word(n)} {hard[n % len(hard)]} {word(n)}") for n in range(ROWS)],
        columns=["label", "text"],
    )
    parts = frame.to_csv(index=False, sep=separator, quoting=quoting).split("\n")
    one_line = next(i for i, part in enumerate(parts) if part.startswith(("ham", '"ham')))
    parts[one_line:one_line] = [f"ham{separator}one{separator}more", "ham"]
    messages = load(tmp_path, "\n".join(parts))
    relation = duckdb.read_csv(
        str(tmp_path / "messages.csv"),
        delimiter=separator,
        quotechar='"',
        escapechar='"',
        all_varchar=True,
        header=True,
        ignore_errors=True,
        columns={"label": "VARCHAR", "text": "VARCHAR"},
        auto_detect=False,
    )
    assert texts(messages) == [text for _, text in relation.fetchall()] == list(frame["text"])
    assert reasons(messages) == {"more fields than columns": 1, "fewer fields than columns": 1}
