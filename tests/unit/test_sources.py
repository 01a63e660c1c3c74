import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.uci import local_files, zipped

from spam_mlflow.config.paths import PROJECT
from spam_mlflow.data.messages import Messages, validated, write_rejected
from spam_mlflow.data.sources.csv_file import CsvSource
from spam_mlflow.data.sources.sample import SampleSource
from spam_mlflow.data.sources.tutorial import TutorialSource
from spam_mlflow.data.sources.uci import YOUTUBE, UciSource
from spam_mlflow.errors import UserError

# The UCI files


def test_every_uci_row_is_read(uci_dir: Path) -> None:
    messages = UciSource(local_files(uci_dir)).load()
    counts = messages.frame.value_counts(["source", "label"]).to_dict()
    assert counts == {
        ("uci_sms", "ham"): 4827,
        ("uci_sms", "spam"): 747,
        ("uci_youtube", "ham"): 951,
        ("uci_youtube", "spam"): 1005,
    }
    assert messages.rejected.empty
    assert not messages.frame["text"].str.contains("\ufeff").any()
    assert not messages.fallback


def test_the_tutorials_export_is_rebuilt_with_its_defects(uci_dir: Path) -> None:
    frame = TutorialSource(local_files(uci_dir)).load().frame
    assert frame["source"].value_counts().to_dict() == {
        "uci-spam-sms": 5572,
        "uci-youtube-spam": 2190,
    }


def test_the_rebuilt_export_is_the_tutorials_own(uci_dir: Path) -> None:
    export = uci_dir.parent / "seed-spam-dataset.csv"
    if not export.is_file():
        pytest.skip("the tutorial's export is not there")
    original = pd.read_csv(export, keep_default_na=False)
    rebuilt = TutorialSource(local_files(uci_dir)).load().frame
    pd.testing.assert_frame_equal(rebuilt[list(original.columns)], original)


def test_files_may_lie_one_folder_down_or_in_ucis_zips(uci_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "sms").mkdir()
    shutil.copy(uci_dir / "SMSSpamCollection", tmp_path / "sms")
    (tmp_path / "youtube+spam+collection.zip").write_bytes(zipped(uci_dir, YOUTUBE.members))
    assert len(UciSource(local_files(tmp_path)).load().frame) == 5574 + 1956


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "SMSSpamCollection").write_text("ham\tx\n"), "SHA-256"),
        (lambda folder: (folder / "SMSSpamCollection").unlink(), "lacks SMSSpamCollection"),
        (shutil.rmtree, "does not exist"),
        (
            lambda folder: (
                (folder / "SMSSpamCollection").unlink(),
                (folder / "sms+spam+collection.zip").write_bytes(b"PK\x03\x04 torn"),
            ),
            "not a readable zip",
        ),
    ],
)
def test_bad_local_files_are_refused(
    uci_dir: Path, tmp_path: Path, break_it: Any, message: str
) -> None:
    folder = tmp_path / "uci"
    shutil.copytree(uci_dir, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    break_it(folder)
    with pytest.raises(UserError, match=message):
        UciSource(local_files(folder)).load()


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        UciSource(local_files(tmp_path / "file")).load()


# The bundled sample


def test_the_sample_is_what_its_generator_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_sample", "--check"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(PROJECT / "scripts" / "make_sample.py"), run_name="__main__")
    assert not end.value.code


def test_the_sample_has_both_classes_in_every_source() -> None:
    frame = SampleSource().load().frame
    assert len(frame) > 2000
    assert frame.groupby("source")["label"].nunique().eq(2).all()
    assert frame["group"].ne("").all()


# A CSV file of one's own


def csv(path: Path, content: str | bytes, **settings: Any) -> Messages:
    file = path / "messages.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    columns = {"text_column": "text", "label_column": "label"}
    labels: dict[str, Any] = {"ham_labels": ["ham"], "spam_labels": [1]}
    return CsvSource(path=str(file), **(columns | labels | settings)).load()


def test_rows_of_a_csv_file_are_kept_or_rejected_with_a_reason(tmp_path: Path) -> None:
    content = (
        'label,text\nham,"hello, you"\n1,win now\nham,\n,no label\nmaybe,who knows\nspam,it says\n'
        "ham,Same text!\n1,same text\nham,one,field too many\n"
    )
    messages = csv(tmp_path, content)
    assert messages.frame["text"].tolist() == ["hello, you", "win now"]
    assert messages.frame["label"].tolist() == ["ham", "spam"]
    reasons = messages.rejected["reason"].value_counts().to_dict()
    assert reasons == {
        "text is empty": 1,
        "unknown label": 2,
        "label is missing": 1,
        "the same text occurs with both labels": 2,
        "more fields than columns": 1,
    }
    write_rejected(messages, tmp_path / "rejected.csv")
    assert len(pd.read_csv(tmp_path / "rejected.csv")) == len(messages.rejected)


def test_kaggles_variant_is_rejoined_at_its_commas(tmp_path: Path) -> None:
    content = "v1,v2,a,b\nham,one, two, three\nspam,caf\xe9 \xa3100,,\n".encode("latin-1")
    columns = {"text_column": "v2", "label_column": "v1", "overflow_columns": ["a", "b"]}
    messages = csv(tmp_path, content, encoding="latin-1", spam_labels=["spam"], **columns)
    assert messages.frame["text"].tolist() == ["one, two, three", "caf\xe9 \xa3100"]


def test_groups_and_sources_come_from_their_columns(tmp_path: Path) -> None:
    content = "text,label,thread,where\nhi,ham,a,sms\nbuy,1,b,web\n"
    messages = csv(tmp_path, content, group_column="thread", source_column="where")
    assert messages.frame[["group", "source"]].to_numpy().tolist() == [["a", "sms"], ["b", "web"]]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("body,label\nhi,ham\n", {}, r"data\.text_column='text' is not a column"),
        ("text,label\nhi,ham\n", {}, "both classes"),
        ("text,label\n", {}, "both classes"),
        ("", {}, "cannot be read as CSV"),
        (b"text,label\ncaf\xe9,ham\n", {}, r"cannot be read as CSV in utf-8-sig"),
        ("text,label\nhi,ham\n", {"ham_labels": ["1"]}, r"spam_labels both hold 1"),
        ("text,label\nhi,ham\n", {"encoding": "martian"}, "cannot be read as CSV in martian"),
    ],
)
def test_unusable_csv_files_are_refused(
    tmp_path: Path, content: str | bytes, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        csv(tmp_path, content, **settings)


def test_a_missing_csv_file_is_named(tmp_path: Path) -> None:
    source = CsvSource(str(tmp_path / "none.csv"), "text", "label", ("ham",), ("spam",))
    with pytest.raises(UserError, match=r"none\.csv.*No such file"):
        source.load()


def test_missing_values_of_any_kind_are_rejected() -> None:
    rows = pd.DataFrame(
        {"text": ["hi", "win", None, 5, "x"], "label": ["ham", "spam", "ham", "ham", None]}
    )
    messages = validated(rows, name="table")
    assert messages.rejected["row"].tolist() == [3, 4, 5]
    assert messages.rejected["reason"].tolist() == [
        "text is missing",
        "text is missing",
        "label is missing",
    ]
