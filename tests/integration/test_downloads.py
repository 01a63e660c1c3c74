import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.uci import NOWHERE, UciServer, zipped

from spam_mlflow.data.sources.uci import SMS, YOUTUBE, UciFiles, UciSource
from spam_mlflow.errors import UserError


@pytest.fixture
def uci(uci_dir: Path) -> Iterator[UciServer]:
    archives = {archive.path: zipped(uci_dir, archive.members) for archive in (SMS, YOUTUBE)}
    with UciServer(archives) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def remote(server: UciServer, cache: Path, retries: int = 0) -> UciSource:
    files = UciFiles(None, str(cache), server.url, timeout=1, retries=retries)
    return UciSource(files, fallback="none")


def test_a_download_is_kept_in_the_cache(uci: UciServer, tmp_path: Path) -> None:
    assert len(remote(uci, tmp_path).load().frame) == 5574 + 1956
    assert len(remote(uci, tmp_path).load().frame) == 5574 + 1956
    assert len(uci.requests) == 2  # one for each archive, and none the second time
    assert {path.name for path in tmp_path.iterdir()} == {*SMS.members, *YOUTUBE.members}


@pytest.mark.parametrize("fault", ["error", "stall", "torn"])
def test_a_failed_attempt_is_repeated(uci: UciServer, tmp_path: Path, fault: str) -> None:
    uci.failures, uci.fault = 1, fault
    assert len(remote(uci, tmp_path, retries=1).load().frame) == 5574 + 1956
    assert len(uci.requests) == 3


@pytest.mark.parametrize("fault", ["error", "stall", "torn"])
def test_a_download_that_keeps_failing_leaves_nothing_half_done(
    uci: UciServer, tmp_path: Path, fault: str
) -> None:
    uci.failures, uci.fault = 9, fault
    with pytest.raises(UserError, match="cannot be downloaded"):
        remote(uci, tmp_path).load()
    assert not list(tmp_path.iterdir())


def test_an_altered_archive_is_refused_and_not_kept(uci: UciServer, tmp_path: Path) -> None:
    (tmp_path / "SMSSpamCollection").write_text("ham\tsomething else\n")
    uci.archives[SMS.path] = zipped(tmp_path, SMS.members)
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"SMSSpamCollection in .* has SHA-256"):
        remote(uci, cache).load()
    assert not list(cache.iterdir())


def test_a_corrupt_archive_is_refused(uci: UciServer, tmp_path: Path) -> None:
    uci.archives[SMS.path] = b"not a zip"
    with pytest.raises(UserError, match="not a readable zip"):
        remote(uci, tmp_path).load()


def test_without_network_the_sample_stands_in_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = UciFiles(None, str(tmp_path), NOWHERE, timeout=1, retries=0)
    messages = UciSource(nowhere, fallback="sample").load()
    assert messages.fallback
    assert messages.name == "sample"
    assert "TRAINING ON THE BUNDLED SYNTHETIC SAMPLE" in caplog.text
    with pytest.raises(UserError, match="give data_dir"):
        UciSource(nowhere, fallback="none").load()
