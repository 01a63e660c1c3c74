"""Inputs of every kind become parts, and parts become scores: with a model of a few lines."""

import bz2
import csv
import gzip
import json
import lzma
import os
import random
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.project import ROOT
from support.servers import storage

from spam_mlflow.batch_scoring import inspection, listing, local_engine, output_folder, plan
from spam_mlflow.batch_scoring.inspection import Columns
from spam_mlflow.batch_scoring.output_folder import Identity, OutputFolder
from spam_mlflow.batch_worker import formulas, part_scoring, process, readers, spark_tasks
from spam_mlflow.batch_worker.folders import TEMPORARY, Folder
from spam_mlflow.batch_worker.jobs import InputFile, Job, Part
from spam_mlflow.batch_worker.part_scoring import PartScorer, Record
from spam_mlflow.batch_worker.rows import LONGEST
from spam_mlflow.data.sources import dialect, locations
from spam_mlflow.errors import UserError

STORE = storage("http://127.0.0.1:9")


def predict(frame: pd.DataFrame, params: Any = None) -> pd.DataFrame:
    """Answer as a model does: a text's probability is its number of characters, modulo 100."""
    if any("poison" in text for text in frame["text"]):
        raise ValueError("this text\nis refused")
    spam = [len(text) % 100 / 100 for text in frame["text"]]
    label = ["spam" if p >= 0.5 else "ham" for p in spam]
    answer: dict[str, list[Any]] = {"label": label, "spam_probability": spam}
    if params and params.get("explain"):
        answer["explanation"] = [[{"feature": "length", "contribution": p}] for p in spam]
    if any("unlike" in text for text in frame["text"]):
        low = ["not known" if "unlike" in text else "" for text in frame["text"]]
        answer["low_confidence"] = low
    return pd.DataFrame(answer)


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_scoring, "_loaded", lambda job: predict)


@dataclass(frozen=True)
class Scored:
    """What a job wrote."""

    folder: Path
    records: Sequence[Record]

    @property
    def table(self) -> pa.Table:
        files = sorted(self.folder.glob("part-*.parquet"))
        return pa.concat_tables([pq.read_table(file) for file in files])

    @property
    def ids(self) -> list[Any]:
        return list(self.table.column("id").to_pylist())

    @property
    def rejects(self) -> list[tuple[str, int | None, str]]:
        files = sorted(self.folder.glob("rejects/*.jsonl"))
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [(row["file"], row["row"], row["reason"]) for row in rows]


def columns(**changes: Any) -> Columns:
    return replace(Columns("text", None, (), True, "auto", "auto", "auto"), **changes)


def job(source: Folder, found: inspection.Inspected, wanted: Columns, output: Path) -> Job:
    return Job(
        fingerprint="f",
        source=source,
        files=found.files,
        destination=Folder(str(output)),
        output="parquet",
        safe_csv=False,
        model="",
        model_version="m/1",
        threshold=0.5,
        params={},
        text_column=wanted.text,
        id_column=wanted.id,
        columns=wanted.carried,
        types=found.types.serialize().to_pybytes(),
    )


def score(
    address: Path | str,
    folder: Path,
    part_rows: int = 1000,
    backwards: bool = False,
    **changes: Any,
) -> Scored:
    """Score an input in this process; what is no setting of columns is one of the job."""
    of_job = {
        name: changes.pop(name) for name in ("output", "params", "safe_csv") if name in changes
    }
    wanted = columns(**changes)
    source, listed = listing.find(str(address), STORE, Folder(str(folder)))
    found = inspection.inspect(source, listed, wanted)
    begun = replace(job(source, found, wanted, folder), **of_job)
    scorer = PartScorer(Job.from_json(begun.to_json()))
    parts = list(plan.parts(begun, part_rows))
    return Scored(folder, [scorer.score(part) for part in (parts[::-1] if backwards else parts)])


def write_csv(file: Path, rows: Sequence[Sequence[str]], **written: Any) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, **written).writerows(rows)
    return file


# Formats


@pytest.mark.parametrize("part_rows", [1, 7, 1000])
def test_rows_keep_their_order_in_parts_of_any_size(tmp_path: Path, part_rows: int) -> None:
    texts = [f"text {n}" if n % 5 else f'line "one"\nand, line {n}' for n in range(40)]
    write_csv(tmp_path / "a.csv", [("id", "text"), *((f"a{n}", t) for n, t in enumerate(texts))])
    lines = (json.dumps({"text": t, "id": f"b{n}"}) for n, t in enumerate(texts))
    (tmp_path / "b.jsonl").write_text("\n\n".join(lines))
    table = pa.table({"id": [f"c{n}" for n in range(40)], "text": texts})
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=9)
    scored = score(tmp_path, tmp_path / "out", part_rows, id="id")
    assert scored.ids == [f"{file}{n}" for file in "abc" for n in range(40)]
    expected = predict(pd.DataFrame({"text": texts * 3}))["spam_probability"]
    assert scored.table.column("spam_probability").to_pylist() == list(expected)
    assert not scored.rejects
    assert [record.number for record in scored.records] == list(range(len(scored.records)))


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()),
        *(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string())),
    ],
    ids=str,
)
def test_texts_of_parquet_come_in_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["one", "two €", None, "one"]).cast(kind)
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    scored = score(tmp_path / "a.parquet", tmp_path / "out")
    assert scored.ids == ["a.parquet:1", "a.parquet:2", "a.parquet:4"]
    assert scored.table.column("spam_probability").to_pylist() == [0.03, 0.05, 0.03]
    assert scored.rejects == [("a.parquet", 3, "the text is null")]


def not_utf8(*cells: bytes) -> pa.Array:
    """Return a column that says that it is of strings, as some writers of C++ fill it."""
    array = pa.array(cells, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


@pytest.mark.parametrize("output", ["parquet", "csv", "jsonl"])
def test_cells_of_parquet_that_are_not_in_utf8_cost_only_their_rows(
    tmp_path: Path, output: str
) -> None:
    table = {
        "text": not_utf8(b"one", b"caf\xe9", b"three", b"four", b"five"),
        "id": not_utf8(b"1", b"2", b"\xff", b"4", b"5"),
        "x": pa.StructArray.from_arrays([not_utf8(b"a", b"b", b"c", b"\xe9", b"e")], ["y"]),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    scored = score(tmp_path, tmp_path / "out", id="id", carried=("x",), output=output)
    file = tmp_path / "out" / f"part-00000.{output}"
    if output == "parquet":
        found = scored.table.to_pylist()
    elif output == "csv":
        found = pd.read_csv(file, dtype={"id": str}, converters={"x": json.loads}).to_dict(
            "records"
        )
    else:
        found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["id"], row["x"]["y"]) for row in found] == [("1", "a"), ("5", "e")]
    assert scored.rejects == [
        ("a.parquet", 2, "the text is not in UTF-8"),
        ("a.parquet", 3, "column 'id' is not in UTF-8"),
        ("a.parquet", 4, "column 'x' is not in UTF-8"),
    ]


def test_texts_of_a_dictionary_may_be_in_another_encoding(tmp_path: Path) -> None:
    texts = not_utf8(b"one", b"caf\xe9", b"one").dictionary_encode()
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    scored = score(tmp_path, tmp_path / "out")
    assert scored.ids == ["a.parquet:1", "a.parquet:3"]
    assert scored.rejects == [("a.parquet", 2, "the text is not in UTF-8")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separated_files_come_in_any_dialect(
    tmp_path: Path, encoding: str, end: str, separator: str
) -> None:
    lines = [separator.join(row) for row in [("id", "text"), ("1", "Grüße €"), ("2", "ok")]]
    (tmp_path / "a.csv").write_bytes(end.join(lines).encode(encoding))
    scored = score(tmp_path / "a.csv", tmp_path / "out", id="id")
    assert scored.ids == ["1", "2"]
    assert scored.table.column("spam_probability").to_pylist() == [0.07, 0.02]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("names", [("text", "a\nb"), ("a\n\nb, c\nd", "text")])
def test_names_of_columns_may_have_line_breaks(
    tmp_path: Path, names: tuple[str, str], separator: str
) -> None:
    rows = [{"text": "hello", "other": "1"}, {"text": 'free, "prize"; now', "other": "2"}]
    at = names.index("text")
    cells = [[row["text"], row["other"]][:: -1 if at else 1] for row in rows]
    write_csv(tmp_path / "a.csv", [names, *cells], delimiter=separator)
    carried = (names[1 - at],)
    scored = score(tmp_path, tmp_path / "out", carried=carried)
    first = "".join(names).count("\n") + 2
    assert scored.ids == [f"a.csv:{first}", f"a.csv:{first + 1}"]
    assert scored.table.column(carried[0]).to_pylist() == ["1", "2"]
    assert scored.table.column("spam_probability").to_pylist() == [0.05, 0.18]
    assert not scored.rejects


def test_a_mark_in_a_header_takes_no_rows_with_it(tmp_path: Path) -> None:
    rows = "".join(f"text {n},{n}\n" for n in range(30))
    (tmp_path / "a.csv").write_text(f'text,"n\n{rows}last,30"\n')
    scored = score(tmp_path, tmp_path / "out")
    assert scored.ids == [f"a.csv:{n + 2}" for n in range(31)]


def test_compressed_files_are_scored_as_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    texts = [f"text {n}" if n % 5 else f'line "one"\nand, line {n}' for n in range(20)]
    write_csv(tmp_path / "a.csv", [("id", "text"), *((f"a{n}", t) for n, t in enumerate(texts))])
    lines = "\n".join(json.dumps({"text": t, "id": f"b{n}"}) for n, t in enumerate(texts))
    contents = {"a.csv": (tmp_path / "a.csv").read_bytes(), "b.jsonl": lines.encode()}
    for name, content in contents.items():
        (tmp_path / "in" / name).write_bytes(content)
        (tmp_path / "in" / f"{name}.gz").write_bytes(gzip.compress(content))
        (tmp_path / "in" / f"{name}.bz2").write_bytes(bz2.compress(content))
        (tmp_path / "in" / f"{name}.xz").write_bytes(lzma.compress(content))
    expected = [f"{file}{n}" for file in "ab" for _ in range(4) for n in range(20)]
    for backwards in (False, True):
        folder = tmp_path / f"out-{backwards}"
        scored = score(tmp_path / "in", folder, 7, backwards=backwards, id="id")
        assert scored.ids == expected
        assert not scored.rejects


def test_a_compressed_file_is_scored_up_to_where_it_is_cut_off(tmp_path: Path) -> None:
    rng = random.Random(2)
    texts = [f"{n} {rng.random()}" for n in range(20_000)]
    packed = gzip.compress("\n".join(["text", *texts]).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[:-100])
    (tmp_path / "b.csv.gz").write_bytes(packed[:5])
    pq.write_table(pa.table({"text": ["c"]}), tmp_path / "c.parquet")
    packed = gzip.compress((tmp_path / "c.parquet").read_bytes())
    (tmp_path / "d.parquet.gz").write_bytes(packed)
    scored = score(tmp_path, tmp_path / "out", 5000)
    *read, last = scored.ids
    assert read == [f"a.csv.gz:{n + 2}" for n in range(len(read))]
    assert 19_900 < len(read) < 20_000
    assert last == "c.parquet:1"
    damaged = "damaged and cannot be unpacked (Compressed file ended before the end-of-stream "
    ((_, row, reason), *others) = scored.rejects
    assert row == len(read) + 2
    assert reason.startswith(f"from here on, the file is {damaged}")
    assert reason.endswith("without its end, what comes before could not be checked")
    assert [(file, row) for file, row, _ in others] == [("b.csv.gz", None), ("d.parquet.gz", None)]
    assert others[0][2].startswith(f"it is {damaged}")
    assert others[1][2] == "it is a Parquet file in gzip; unpack it"
    weight = sum(record.weight for record in scored.records)
    size = sum(file.stat().st_size for file in tmp_path.glob("*.*"))
    assert weight == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("part_rows", [1, 3, 1000])
@pytest.mark.parametrize(
    ("end", "scored_last", "row"),
    [
        ('2,"Dear friend,\nyou wo', "1", 4),
        ('2,"Dear friend,\n\nyou won\nand', "1", 4),
        ('2,"Dear\nfriend"\n3,c\n4,to', "3", 7),
        ('2,"open\n' + "".join(f"{n},c\n" for n in range(3, 30)) + "30,to", "29", 32),
    ],
    ids=["second line", "fourth line", "line after it", "stray mark"],
)
def test_a_record_of_several_lines_that_was_cut_off_is_not_scored(
    tmp_path: Path, end: str, scored_last: str, row: int, part_rows: int
) -> None:
    content = f"id,text\n0,a\n1,b\n{end}".encode()
    packed = gzip.compress(content, 0)[: -len(b"checksum")]  # it holds what is packed as it is
    assert packed.endswith(content)
    (tmp_path / "a.csv.gz").write_bytes(packed)
    scored = score(tmp_path / "a.csv.gz", tmp_path / "out", part_rows, id="id")
    assert scored.ids == [str(n) for n in range(int(scored_last) + 1)]
    assert [(file, at) for file, at, _ in scored.rejects] == [("a.csv.gz", row)]


@pytest.mark.parametrize("packer", [gzip, bz2, lzma])
def test_nothing_is_scored_of_a_compressed_file_whose_checksum_is_wrong(
    tmp_path: Path, packer: Any
) -> None:
    rng = random.Random(3)
    content = "\n".join(["text", *(f"{n} {rng.random()}" for n in range(30_000))]).encode()
    packed = bytearray(packer.compress(content))
    packed[len(packed) // 2] ^= 4
    name = f"a.csv.{packer.__name__}"
    (tmp_path / name).write_bytes(packed)
    (tmp_path / "b.csv").write_text("text\nfine")
    scored = score(tmp_path, tmp_path / "out")
    assert scored.ids == ["b.csv:2"]
    ((file, row, reason),) = scored.rejects
    assert (file, row) == (name, None)
    assert reason.startswith("it is damaged and cannot be unpacked (")
    assert "ended before" not in reason
    assert reason.endswith("; copy it again")


@pytest.mark.parametrize("packer", [bz2, lzma])
def test_a_damaged_stream_is_not_taken_for_the_end_of_a_file(tmp_path: Path, packer: Any) -> None:
    rng = random.Random(4)
    rows = "".join(f"{n} {rng.random()}\n" for n in range(2000)).encode()
    first, second = packer.compress(b"text\n" + rows), bytearray(packer.compress(rows))
    second[5] ^= 1
    (tmp_path / "a.csv").write_bytes(first + second)
    with pytest.raises(UserError, match=r"damaged .*begins wrongly.*; copy it again"):
        score(tmp_path / "a.csv", tmp_path / "out")
    with pytest.raises(UserError, match=r"damaged .*begins wrongly.*; copy it again"):
        locations.read(str(tmp_path / "a.csv"), None, None)


def test_a_file_that_has_changed_since_it_was_divided_ends_the_job(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none\ntwo")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"text\none\ntwo"))
    for name in ("a.csv", "b.csv.gz"):
        source, listed = listing.find(str(tmp_path / name), STORE, Folder(str(tmp_path / "out")))
        begun = job(source, inspection.inspect(source, listed, columns()), columns(), tmp_path)
        (part,) = plan.parts(begun, 10)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-12])
        with pytest.raises(OSError, match=f"{name} has changed"):
            PartScorer(begun).score(part)


def test_ids_and_carried_columns_keep_their_types(tmp_path: Path) -> None:
    table = pa.table({"key": [7, 8], "text": ["a", "b"], "label": ["x", None], "at": [1.5, 2.5]})
    pq.write_table(table, tmp_path / "a.parquet")
    carried = ("label", "at")
    found = score(tmp_path / "a.parquet", tmp_path / "out", id="key", carried=carried).table
    assert found.column("id").to_pylist() == [7, 8]
    assert found.column("input_label").to_pylist() == ["x", None]
    assert found.column("at").to_pylist() == [1.5, 2.5]
    # Where another file has them as text, all of them are.
    write_csv(tmp_path / "b.csv", [("key", "text", "label", "at"), ("9", "c", "y", "3.5")])
    found = score(tmp_path, tmp_path / "both", id="key", carried=carried).table
    assert found.column("id").to_pylist() == ["7", "8", "9"]
    assert found.column("at").to_pylist() == ["1.5", "2.5", "3.5"]


def test_why_a_score_means_little_stands_beside_it(tmp_path: Path) -> None:
    texts = ["fine", "unlike", "poison", "unlike all", "fine too"]
    table = pa.table({"text": texts, "low_confidence": list("abcde")})
    pq.write_table(table, tmp_path / "a.parquet")
    scored = score(tmp_path, tmp_path / "out", part_rows=2, carried=("low_confidence",))
    reasons = scored.table.column("low_confidence").to_pylist()
    assert reasons == [None, "not known", "not known", None]
    assert scored.table.column("input_low_confidence").to_pylist() == ["a", "b", "d", "e"]
    assert [record.low_confidence for record in scored.records] == [1, 1, 0]


def test_ids_that_are_null_or_empty_are_counted_and_repeated_ones_kept(tmp_path: Path) -> None:
    rows = [("id", "text"), ("x", "a"), ("", "b"), (" ", "c"), ("x", "d"), ("", "")]
    write_csv(tmp_path / "a.csv", rows)
    pq.write_table(pa.table({"id": ["x", None], "text": ["e", None]}), tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text('{"text": "f"}\n{"text": "g", "id": 0}\n')
    scored = score(tmp_path, tmp_path / "out", id="id")
    assert scored.ids == ["x", "", " ", "x", "", "x", None, "0"]
    assert [record.without_id for record in scored.records] == [3, 0, 1]
    numbers = pa.table({"id": [1, None, 1], "text": ["a", "b", "c"]})
    pq.write_table(numbers, tmp_path / "out" / "n.parquet")
    (record,) = score(tmp_path / "out" / "n.parquet", tmp_path / "numbers", id="id").records
    assert record.without_id == 1


@pytest.mark.parametrize("output", ["csv", "jsonl"])
def test_outputs_hold_the_same_scores(tmp_path: Path, output: str) -> None:
    texts = [f"text number {n}" for n in range(11)] + ["unlike all"]
    write_csv(tmp_path / "a.csv", [["text"], *([text] for text in texts)])
    expected = score(tmp_path / "a.csv", tmp_path / "out", params={"explain": True}).table
    score(tmp_path / "a.csv", tmp_path / "other", output=output, params={"explain": True})
    file = tmp_path / "other" / f"part-00000.{output}"
    if output == "csv":
        converters = {"explanation": json.loads}
        table = pd.read_csv(file, converters=converters, keep_default_na=False)
        rows = table.to_dict("records")
        found = [{**row, "low_confidence": row["low_confidence"] or None} for row in rows]
    else:
        found = [json.loads(line) for line in file.read_text().splitlines()]
    assert found == expected.to_pylist()
    assert list(found[0]) == [
        *("id", "label", "spam_probability", "threshold", "model_version"),
        *("low_confidence", "explanation"),
    ]


def test_a_safe_csv_file_holds_no_formula(tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://evil.example";"=1")'
    texts, ids = [formula, "'+1", "fine", None], ["-1", "2", "@3", "4"]
    table = pa.table({"text": texts, "=id": ids, "at": [-1.5, 1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(tmp_path / "=a.parquet")
    files = {}
    for safe in (False, True):
        carried = ("text", "=id", "at")
        folder = tmp_path / str(safe)
        score(tmp_path / "=a.parquet", folder, output="csv", safe_csv=safe, carried=carried)
        with (tmp_path / str(safe) / "part-00000.csv").open(newline="") as stream:
            files[safe] = list(csv.reader(stream))
    cells = [cell for row in files[True] for cell in row if not cell.startswith("-1.5")]
    assert not any(cell.startswith(tuple("=+-@")) for cell in cells)
    assert [[formulas.unescaped(cell) for cell in row] for row in files[True]] == files[False]
    assert files[False][1][0] == "=a.parquet:1"
    assert files[True][1][8] == "-1.5"


def test_lines_of_json_hold_what_json_cannot_as_text_or_null(tmp_path: Path) -> None:
    values = {"x": [float("nan"), float("inf"), 1.5], "y": [b"caf\xc3\xa9", b"\xff", None]}
    nested = [[{"z": float("nan")}], [], None]
    pq.write_table(pa.table({"text": list("abc"), **values, "n": nested}), tmp_path / "a.parquet")
    for output in ("jsonl", "csv"):
        folder = tmp_path / output
        score(tmp_path / "a.parquet", folder, output=output, carried=("x", "y", "n"))

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    lines = (tmp_path / "jsonl/part-00000.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [(row["x"], row["y"], row["n"]) for row in found] == [
        *((None, "café", [{"z": None}]), (None, "\ufffd", []), (1.5, None, None)),
    ]
    with (tmp_path / "csv/part-00000.csv").open(newline="") as stream:
        assert [row["y"] for row in csv.DictReader(stream)] == ["café", "\ufffd", ""]


@pytest.mark.parametrize("output", ["csv", "jsonl"])
def test_times_that_only_arrow_knows_end_no_job(tmp_path: Path, output: str) -> None:
    seconds = [0, 300_000_000_000, 2**50, None]
    berlin, mars = (pa.timestamp("ms", zone) for zone in ("Europe/Berlin", "Mars/Phobos"))
    at = pa.array([None if n is None else n * 1000 for n in seconds], pa.int64())
    days = pa.array([0, 3_000_000, 2**30, None], pa.int32()).view(pa.date32())
    zoned = at.view(mars)
    carried = {
        "at": at.view(pa.timestamp("ms")),
        "berlin": at.view(berlin),
        "mars": zoned,
        "day": days,
        "nested": pa.StructArray.from_arrays([zoned], ["t"]),
        "took": pa.array([1, 2**62, 2, None], pa.int64()).view(pa.duration("s")),
    }
    pq.write_table(pa.table({"text": list("abcd"), **carried}), tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", tmp_path / "out", carried=tuple(carried), output=output)
    file = tmp_path / "out" / f"part-00000.{output}"
    if output == "csv":
        with file.open(newline="") as stream:
            found = [{k: v or None for k, v in row.items()} for row in csv.DictReader(stream)]
    else:
        found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["at"] for row in found] == [
        *("1970-01-01 00:00:00.000", "11476-08-15 05:20:00.000", None, None)
    ]
    assert [row["berlin"] for row in found][::2] == ["1970-01-01 01:00:00.000+0100", None]
    assert [row["mars"] for row in found] == [
        *("1970-01-01 00:00:00.000Z", "11476-08-15 05:20:00.000Z", None, None)
    ]
    assert [row["day"] for row in found] == ["1970-01-01", "10183-09-21", None, None]
    first = found[0]["nested"]
    assert (json.loads(first) if isinstance(first, str) else first) == {
        "t": "1970-01-01 00:00:00.000Z"
    }
    assert [row["took"] for row in found][::2] == ["0:00:01", "0:00:02"]


def test_a_folder_of_scores_is_a_data_set_with_its_rejects_in_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None, "b"]}), tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", tmp_path / "out", part_rows=2)
    assert list(pd.read_parquet(tmp_path / "out")["id"]) == ["a.parquet:1", "a.parquet:3"]


# What cannot be scored


def test_broken_rows_are_rejected_with_file_row_and_reason(tmp_path: Path) -> None:
    rows = ["id,text", "1,fine", "2,too,many", "3", '4,"open', "5,fine, ", "", "6,\udcff", "7,ok"]
    content = "\n".join(rows).encode("utf-8", "surrogateescape")
    (tmp_path / "a.csv").write_bytes(content)
    texts = ["ok", None, 5, "x" * (LONGEST + 1), "\ud800", "a poison text"]
    lines = [json.dumps({"text": text}) for text in texts] + ["{broken", "[1]", '{"other": 1}']
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"text": [b"ok", b"\xff"], "id": ["x", "y"]}), tmp_path / "c.parquet")
    scored = score(tmp_path, tmp_path / "out", id="id", encoding="utf-8")
    assert scored.ids == ["1", "4", "5", "7", None, "x"]
    assert scored.rejects == [
        ("a.csv", 3, "more fields than columns"),
        ("a.csv", 4, "fewer fields than columns"),
        ("a.csv", 8, "not in the encoding of the file"),
        ("b.jsonl", 2, "the text is null"),
        ("b.jsonl", 3, "the text is no string but int"),
        ("b.jsonl", 4, "the text has 200,001 characters; at most 200,000 are scored"),
        ("b.jsonl", 5, "the text is not valid Unicode"),
        ("b.jsonl", 6, "the model refuses it: this text"),
        ("b.jsonl", 7, "no JSON object"),
        ("b.jsonl", 8, "no JSON object"),
        ("b.jsonl", 9, "there is no 'text'"),
        ("c.parquet", 2, "the text is not in UTF-8"),
    ]


@pytest.mark.parametrize("part_rows", [10, 500, 5000])
def test_broken_rows_among_many_cost_only_themselves(tmp_path: Path, part_rows: int) -> None:
    rng = random.Random(1)
    lines, broken, open_ended = ["id,text"], set(), set()
    for n in range(3000):
        kind = rng.random()
        if kind < 0.01:
            broken.add(str(n))
            lines.append(rng.choice([f"{n},a,b,c", str(n)]))
        elif kind < 0.02:
            open_ended.add(str(n))
            lines.append(f'{n},"unfinished')
        elif kind < 0.2:
            lines.append(f'{n},"two, and\nlines {n}"')
        else:
            lines.append(f'{n},5" of text' if kind < 0.22 else f"{n},a text")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    scored = score(tmp_path / "a.csv", tmp_path / "out", part_rows, id="id")
    lost = {str(n) for n in range(3000)} - set(scored.ids)
    assert broken <= lost <= broken | open_ended
    assert len(scored.ids) == len(set(scored.ids)) == 3000 - len(scored.rejects)


def test_files_that_cannot_be_scored_cost_only_themselves(tmp_path: Path) -> None:
    for name in "aez":
        write_csv(tmp_path / f"{name}.csv", [["text"], [name]])
    write_csv(tmp_path / "b.csv", [["message"], ["no column"]])
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and nothing else")
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "d.parquet")
    (tmp_path / "f.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "g.csv").write_bytes(b"")
    (tmp_path / "h.jsonl").write_text('{"body": "x"}')
    scored = score(tmp_path, tmp_path / "out")
    assert scored.ids == ["a.csv:2", "e.csv:2", "z.csv:2"]
    assert [(file, row) for file, row, _ in scored.rejects] == [
        (name, None) for name in ("b.csv", "c.parquet", "d.parquet", "f.gz", "g.csv", "h.jsonl")
    ]
    reasons = " ".join(reason for _, _, reason in scored.rejects)
    for words in ("text_column='text'", "cannot be read", "int64", "unpacked", "empty"):
        assert words in reasons


def test_a_file_whose_name_is_not_in_utf8_is_rejected(tmp_path: Path) -> None:
    write_csv(tmp_path / "ok.csv", [["text"], ["one"]])
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    try:
        write_csv(odd, [["text"], ["two"]])
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    scored = score(tmp_path, tmp_path / "out")
    assert scored.ids == ["ok.csv:2"]
    assert scored.rejects == [("caf\ufffd.csv", None, "its name is not in UTF-8; rename it")]
    odd.unlink()
    odd.mkdir()
    write_csv(odd / "a.csv", [["text"], ["two"]])
    with pytest.raises(UserError, match="name is not in UTF-8") as raised:
        score(odd, tmp_path / "out")
    assert str(raised.value).isprintable()
    with pytest.raises(UserError, match="name is not in UTF-8"):
        listing.folder(str(odd), STORE)


def test_links_that_lead_nowhere_and_images_are_told_to_be_so(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for folder in (source, elsewhere):
        folder.mkdir()
    write_csv(elsewhere / "linked.csv", [["text"], ["one"]])
    (source / "a.csv").symlink_to(elsewhere / "linked.csv")
    (source / "b.csv").symlink_to(elsewhere / "gone.csv")
    (source / "c.csv").symlink_to(source / "c.csv")
    image = b"\0\0\0\rIHDR\0\0\1\0" * 20
    (source / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n" + image)
    (source / "e.jpg").write_bytes(b"\xff\xd8\xff\xe0" + image)
    for address in ("in", "in/*.*"):
        scored = score(tmp_path / address, tmp_path / address[:2] / f"_out-{len(address)}")
        assert scored.ids == ["a.csv:2"]
        assert [(file, reason) for file, _, reason in scored.rejects] == [
            ("b.csv", "it cannot be read (it is gone, or a link that leads nowhere)"),
            ("c.csv", "it cannot be read (Too many levels of symbolic links)"),
            ("d.png", "it is an image: write its text into a table"),
            ("e.jpg", "it is an image: write its text into a table"),
        ]


def test_a_file_in_two_layers_is_told_to_be_so(tmp_path: Path) -> None:
    content = "\n".join(["text", *(f"text {n} {n * n}" for n in range(500))]).encode()
    for packer in (gzip, bz2, lzma):
        packed = gzip.compress(packer.compress(content))
        (tmp_path / f"a.csv.{packer.__name__}.gz").write_bytes(packed)
    (tmp_path / "a.csv").write_bytes(content)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.csv", "a.csv")
    scored = score(tmp_path, tmp_path / "out")
    reasons = [reason for _, _, reason in scored.rejects]
    assert reasons == [
        *["it is compressed twice: unpack it once"] * 3,
        "it is a tar archive: unpack it",
    ]


def test_a_damaged_row_group_costs_only_its_own_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    texts = [f"text {n} {'x' * 50}" for n in range(3000)]
    table = pa.table({"text": texts})
    pq.write_table(table, file, row_group_size=1000, compression="none", use_dictionary=False)
    content = bytearray(file.read_bytes())
    start = content.index(b"text 1000 ") - 40
    content[start : start + 4000] = b"\xff" * 4000
    file.write_bytes(content)
    scored = score(file, tmp_path / "out", part_rows=500)
    rejected = {row for _, row, _ in scored.rejects}
    assert rejected
    assert rejected <= set(range(1001, 2001))
    assert {f"a.parquet:{n}" for n in range(1, 3001)} == {
        *scored.ids,
        *(f"a.parquet:{n}" for n in rejected),
    }


def test_rows_of_parquet_whose_checksum_is_wrong_are_not_scored(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(30)]})
    layout = {"row_group_size": 10, "compression": "none", "use_dictionary": False}
    pq.write_table(table, file, write_page_checksum=True, **layout)
    file.write_bytes(file.read_bytes().replace(b"text 15", b"tent 15"))
    scored = score(file, tmp_path / "out", part_rows=10)
    assert scored.ids == [f"a.parquet:{n}" for n in (*range(1, 11), *range(21, 31))]
    assert [row for _, row, _ in scored.rejects] == list(range(11, 21))
    assert "checksum" in scored.rejects[0][2]


@pytest.mark.parametrize(
    ("carried", "message"),
    [
        (("a", "x", "a"), "columns=a,x,a names 'a' twice; leave one out"),
        (("label", "input_label"), "names 'label' and 'input_label', which are both 'input_label'"),
        (("input_id", "id"), "names 'input_id' and 'id', which are both 'input_id'"),
    ],
)
def test_carried_columns_have_names_of_their_own(carried: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        columns(carried=carried)


def test_columns_of_one_name_cost_only_their_file(tmp_path: Path) -> None:
    for name, names in (("a", ["text", "x", "x"]), ("b", ["text", "text", "x"])):
        table = pa.table([["one"], ["two"], ["three"]], names=names)
        pq.write_table(table, tmp_path / f"{name}.parquet")
    scored = score(tmp_path, tmp_path / "out")
    assert scored.ids == ["a.parquet:1"]
    assert scored.rejects == [("b.parquet", None, "2 columns are called 'text'")]
    with pytest.raises(UserError, match="columns are called"):
        score(tmp_path, tmp_path / "other", carried=("x",), id="text")


@pytest.mark.parametrize(
    ("values", "kind"), [([{"b": 1}], "struct<b: int64>"), ([[1]], "list"), ([b"\xff"], "binary")]
)
def test_a_column_that_some_files_hold_as_objects_costs_only_these(
    tmp_path: Path, values: list[Any], kind: str
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    pq.write_table(pa.table({"text": ["one"], "x": values}), source / "a.parquet")
    scored = score(source, tmp_path / "out", carried=("x",))
    assert scored.table.column("x").to_pylist() == values
    write_csv(source / "b.csv", [("text", "x"), ("two", "1")])
    pq.write_table(pa.table({"text": ["three"], "x": [3]}), source / "c.parquet")
    scored = score(source, tmp_path / "most", carried=("x",))
    assert scored.table.column("x").to_pylist() == ["1", "3"]
    ((file, row, reason),) = scored.rejects
    assert (file, row) == ("a.parquet", None)
    assert reason.startswith(f"column 'x' is {kind}")
    assert reason.endswith(", but text or the like in most files; score it apart")
    for name in ("d", "e"):
        shutil.copy(source / "a.parquet", source / f"{name}.parquet")
    scored = score(source, tmp_path / "fewer", carried=("x",))
    assert scored.table.column("x").to_pylist() == values * 3
    assert [file for file, _, _ in scored.rejects] == ["b.csv", "c.parquet"]


def test_a_store_that_fails_for_a_while_rejects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")

    def fail(*arguments: Any) -> Any:
        raise OSError("When reading key 'a': AWS Error NETWORK_CONNECTION during GetObject: 500")

    with monkeypatch.context() as patch:
        patch.setattr(readers._ParquetRows, "read", fail)
        with pytest.raises(OSError, match="AWS Error"):
            score(tmp_path, tmp_path / "out")
    monkeypatch.setattr(Folder, "open", fail)
    with pytest.raises(UserError, match=r"a\.parquet: .*NETWORK.*; once that is solved"):
        score(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("part_rows", [1, 2, 3, 4, 5, 1000])
def test_a_last_record_of_several_lines_is_not_torn(tmp_path: Path, part_rows: int) -> None:
    lines = ["id,text", "0,a", "1,b", '2,"Dear friend,', "", 'you won"']
    (tmp_path / "a.csv").write_text("\n".join(lines))
    scored = score(tmp_path / "a.csv", tmp_path / "out", part_rows, id="id")
    assert scored.ids == ["0", "1", "2"]
    assert scored.rejects == []


@pytest.mark.parametrize("sample", [inspection._SAMPLE, 200])
def test_a_text_that_goes_on_after_the_sample_is_read_with_quoting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    monkeypatch.setattr(inspection, "_SAMPLE", sample)
    monkeypatch.setattr(dialect, "_QUOTING_LINES", 10)
    long = "Dear friend,\n" + "you won\n" * 50
    texts = [*(f"message {n}" for n in range(9)), long, *(f"message {n}" for n in range(50))]
    write_csv(tmp_path / "a.csv", [("id", "text"), *((str(n), t) for n, t in enumerate(texts))])
    scored = score(tmp_path / "a.csv", tmp_path / "out", id="id")
    assert scored.ids == list(map(str, range(len(texts))))
    assert scored.rejects == []


@pytest.mark.parametrize("part_rows", [1, 2, 1000])
@pytest.mark.parametrize(
    "content", ["id,text\n0,a\n1,b\rc", "id,text\r\n0,a\r\n1,b\rc", "id,text\n0,a\n1,b\r"]
)
def test_a_carriage_return_within_a_line_does_not_end_it(
    tmp_path: Path, content: str, part_rows: int
) -> None:
    (tmp_path / "a.csv").write_text(content, newline="")
    scored = score(tmp_path / "a.csv", tmp_path / "out", part_rows, id="id")
    assert scored.ids == ["0", "1"]
    assert scored.rejects == []


def test_lines_of_any_length_need_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_BLOCK", 1000)
    monkeypatch.setattr(plan, "_LONGEST_LINE", 5000)
    lines = ["text", "a", "b" * 20_000, "c", "d" * 4000, "e" * 6000]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    scored = score(tmp_path / "a.csv", tmp_path / "out")
    assert scored.ids == ["a.csv:2", "a.csv:4", "a.csv:5"]
    assert scored.rejects == [
        ("a.csv", 3, "the line has 20,001 bytes"),
        ("a.csv", 6, "the line has 6,000 bytes"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ({}, "names no file"),
        ({"a.csv": "message\nx"}, "text_column='text' is not a column"),
        ({"a.csv": "", "b.csv": ""}, "a.csv cannot be scored, nor can 1 others: it is empty"),
        ({"_a.csv": "text\nx"}, "names no file"),
    ],
)
def test_an_input_without_texts_is_refused(
    tmp_path: Path, content: dict[str, str] | None, message: str
) -> None:
    folder = tmp_path / "in"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        score(folder, tmp_path / "out")


def test_patterns_and_folders_leave_out_the_output(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.txt", "sub/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_csv(tmp_path / name, [["text"], [name]])
    output = Folder(str(tmp_path / "out"))
    score(tmp_path, tmp_path / "out", output="csv")
    found = {
        address: [file.name for file in listing.find(str(tmp_path / address), STORE, output)[1]]
        for address in (".", "*.csv", "**/*.csv", "a.csv")
    }
    assert found == {
        ".": ["a.csv", "b.csv", "c.txt", "sub/d.csv"],
        "*.csv": ["a.csv", "b.csv"],
        "**/*.csv": ["a.csv", "b.csv", "sub/d.csv"],
        "a.csv": ["a.csv"],
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv"]),
        ("_*.csv", ["_b.csv"]),
        (".*.csv", [".c.csv"]),
        ("[_.]*.csv", []),
        ("*/*.csv", ["sub/d.csv"]),
        ("**/*.csv", ["a.csv", "sub/d.csv", "sub/deep/e.csv"]),
        ("sub/**", ["sub/d.csv", "sub/deep/e.csv", "sub/f.txt"]),
        ("**/_old/*", ["sub/_old/g.csv"]),
        ("s?b/d[a-z]*/?.csv", ["sub/deep/e.csv"]),
    ],
)
def test_patterns_name_the_same_files_everywhere(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    names = ["a.csv", "_b.csv", ".c.csv", "sub/d.csv", "sub/deep/e.csv", "sub/f.txt"]
    names += ["sub/_old/g.csv", ".hidden/h.csv", "sub/.i.csv"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("text\na")
    output = Folder(str(tmp_path / "out"))
    if expected:
        source, found = listing.find(f"{tmp_path}/in/{pattern}", STORE, output)
        paths = [os.path.relpath(source.address(file.path), tmp_path / "in") for file in found]
        assert paths == expected
    else:
        with pytest.raises(UserError, match="names no file"):
            listing.find(f"{tmp_path}/in/{pattern}", STORE, output)
    keys = [name for name in names if listing._fits(name.split("/"), pattern.split("/"))]
    assert sorted(keys) == expected


# The output folder

IDENTITY = Identity({"files": ["a"]}, {"digest": "b"}, {"columns": ()})


def complete(folder: Folder, number: int) -> Record:
    folder.write(f"part-{number:05d}.parquet", b"scores")
    files = {f"part-{number:05d}.parquet": (6, "digest")}
    record = Record(number, IDENTITY.fingerprint, 10, 5, 1, 2, 0, files, 0.1)
    folder.write(f"_parts/part-{number:05d}.json", record.to_json().encode())
    return record


def test_only_complete_parts_of_the_same_job_are_taken_over(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "out"))
    output = OutputFolder(folder, "out")
    assert output.begin(IDENTITY) == {}
    complete(folder, 0)
    complete(folder, 1)
    (tmp_path / "out/part-00001.parquet").unlink()
    (tmp_path / "out/_parts/part-00002.json").write_text("{}")
    abandoned, new = (tmp_path / f"out/{TEMPORARY}part-00003.parquet-{n}" for n in (0, 1))
    for file in (abandoned, new):
        file.write_text("half")
    os.utime(abandoned, (0, 0))
    records = output.begin(IDENTITY)
    assert list(records) == [0]
    output.finish(IDENTITY, [records[0], complete(folder, 1)], {"engine": "local"})
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    expected = {"scored": 10, "spam": 2, "ham": 8, "low_confidence": 4, "rejected": 0}
    assert manifest["counts"] == {**expected, "without_id": 0, "parts": 2}
    assert sorted(manifest["files"]) == ["part-00000.parquet", "part-00001.parquet"]
    # Another call may be writing the new one.
    assert list((tmp_path / "out").rglob(f"{TEMPORARY}*")) == [new]


def test_of_two_jobs_that_begin_at_once_only_one_ends(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "out"))
    OutputFolder(folder, "out").begin(IDENTITY)
    other = replace(IDENTITY, model={})
    (tmp_path / "out/_job.json").unlink()  # as the second call saw it
    OutputFolder(folder, "out").begin(other)
    with pytest.raises(UserError, match="holds scores with another model"):
        OutputFolder(folder, "out").finish(IDENTITY, [], {})
    assert not (tmp_path / "out/_manifest.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": {}}, "another input"),
        ({"model": {}}, "another model"),
        ({"settings": {}, "input": {}}, "another input and other settings"),
    ],
)
def test_another_job_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    output = OutputFolder(Folder(str(tmp_path / "out")), "out")
    output.begin(IDENTITY)
    with pytest.raises(UserError, match=f"holds scores with {message}; give a new folder"):
        output.begin(replace(IDENTITY, **change))


def test_a_folder_that_an_earlier_version_began_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts lack columns that those of this version have."""
    output = OutputFolder(Folder(str(tmp_path)), "out")
    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "_FORMAT", 2)
        output.begin(IDENTITY)
    with pytest.raises(UserError, match="holds scores with another version of this project"):
        output.begin(IDENTITY)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'thesis.txt', which is no scores"):
        OutputFolder(Folder(str(tmp_path)), "out").begin(IDENTITY)
    with pytest.raises(UserError, match="is a file"):
        OutputFolder(Folder(str(tmp_path / "thesis.txt")), "out").begin(IDENTITY)


def test_a_part_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        Folder(str(tmp_path)).write("part", b"scores")
    assert process.explained(raised.value) == f"{tmp_path}/part: No space left on device"
    assert not list(tmp_path.iterdir())


def test_jobs_survive_being_written_as_json() -> None:
    file = InputFile("a", "a", 1, "d", columns=("x",))
    wanted = columns()
    found = inspection.Inspected((file,), pa.schema([("id", pa.string())]))
    begun = job(Folder("b/c", {"attempts": 2}), found, wanted, Path("/out"))
    assert Job.from_json(begun.to_json()) == begun


# Processes on this machine


def test_a_process_that_ends_again_and_again_takes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = inspection.Inspected((InputFile("a", "a", 1, "d"),), pa.schema([("id", pa.string())]))
    begun = job(Folder(str(tmp_path)), found, columns(), tmp_path / "out")
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(UserError, match=r"scored part-00007 ended 3 times .*the same command goes"):
        local_engine.score(begun, iter([Part(7, 0)]), 1, tmp_path, lambda record: None)


def test_too_little_memory_is_suspected_only_of_a_process_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = inspection.Inspected((InputFile("a", "a", 1, "d"),), pa.schema([("id", pa.string())]))
    begun = job(Folder(str(tmp_path)), found, columns(), tmp_path / "out")
    for name, command, suspected in (("ends", "exit 3", False), ("dies", "kill -9 $$", True)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)
        (tmp_path / f"_{name}").mkdir()
        monkeypatch.setattr("sys.executable", str(program))
        with pytest.raises(UserError, match="ended 3 times") as raised:
            local_engine.score(
                begun, iter([Part(7, 0)]), 1, tmp_path / f"_{name}", lambda record: None
            )
        assert ("memory" in str(raised.value)) == suspected


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "part-00007, of a: KeyError: 'x'"),
        (AssertionError(), "part-00007, of a: AssertionError"),
        (MemoryError(), "part-00007, of a: there is too little memory; set workers or "),
        (OSError(28, "No space left on device", "b"), "b: No space left on device"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_of_a_part_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    found = inspection.Inspected((InputFile("a", "a", 1, "d"),), pa.schema([("id", pa.string())]))
    begun = job(Folder(str(tmp_path)), found, columns(), tmp_path / "out")

    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(PartScorer, "score", fail)
    answer = process._scored(PartScorer(begun), begun, Part(7, 0))
    assert str(answer["error"]).startswith(message)
    spark = spark_tasks.answer(begun.to_json(), json.dumps(vars(Part(7, 0))))
    assert json.loads(spark) == answer


def test_a_model_that_cannot_be_loaded_takes_one_line(tmp_path: Path) -> None:
    found = inspection.Inspected((InputFile("a", "a", 1, "d"),), pa.schema([("id", pa.string())]))
    begun = job(Folder(str(tmp_path)), found, columns(), tmp_path / "out")
    with pytest.raises(UserError, match="the model cannot be used: "):
        local_engine.score(begun, iter([Part(0, 0)]), 1, tmp_path, lambda record: None)


def test_a_version_from_before_the_scorer_scores_by_its_own_code(tmp_path: Path) -> None:
    before = ROOT / "tests" / "fixtures" / "version_before_scorer"
    expected = json.loads((before / "expected.json").read_text())
    pq.write_table(pa.table({"text": expected["texts"]}), tmp_path / "a.parquet")
    source, listed = listing.find(str(tmp_path), STORE, Folder(str(tmp_path / "out")))
    found = inspection.inspect(source, listed, columns())
    shutil.copytree(before / "model", tmp_path / "_model")  # Python compiles its code there
    begun = replace(job(source, found, columns(), tmp_path / "out"), model=str(tmp_path / "_model"))
    records: list[Record] = []
    local_engine.score(begun, plan.parts(begun, 5), 1, tmp_path / "_scratch", records.append)
    table = Scored(tmp_path / "out", records).table
    assert table.column("spam_probability").to_pylist() == expected["spam_probability"]
    assert table.column("low_confidence").null_count == table.num_rows  # it knows of no such thing
    refused = replace(begun, params={"sharpness": 2})
    with pytest.raises(UserError, match="the model takes no sharpness"):
        local_engine.score(
            refused, plan.parts(begun, 5), 1, tmp_path / "_more", lambda record: None
        )
