import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.uci import local_files, zipped

from spam_mlflow.config.paths import PROJECT
from spam_mlflow.data.messages import validated
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


# Tables


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


def test_messages_of_one_class_are_read_and_refused_where_both_are_needed() -> None:
    rows = pd.DataFrame({"text": ["hi", "ok", ""], "label": ["ham", "ham", "spam"]})
    messages = validated(rows, name="table")
    assert list(messages.frame["label"]) == ["ham", "ham"]
    with pytest.raises(UserError, match=r"2 messages .* all ham; most rejected .* text is empty"):
        messages.require_both_classes()
    with pytest.raises(UserError, match="none of the 1 rows is usable"):
        validated(rows.tail(1), name="table")


# Versions know the data that they were trained on by its digest


def test_the_samples_digest_stays() -> None:
    assert SampleSource().load().digest.startswith("e8bbf3dde9f887f7")


def test_ucis_digest_stays(uci_dir: Path) -> None:
    assert UciSource(local_files(uci_dir)).load().digest.startswith("11772a2daec562e6")
