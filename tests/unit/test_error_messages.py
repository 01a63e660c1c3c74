"""Errors of other packages, as one line for users."""

import errno
import shutil

import pytest
from mlflow.exceptions import MlflowException

from spam_mlflow.error_messages import reason, require_space, user_message
from spam_mlflow.errors import UserError

POOL = "HTTPConnectionPool(host='ann:pw@h', port=9): Max retries exceeded with url: /api/2.0/x "
REQUEST = "API request to http://ann:pw@h:9/api/2.0/mlflow/runs/get failed with "
SILENT = "the tracking server http://***@h:9 does not answer"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{REQUEST}exception {POOL}(Caused by NewConnectionError(\"HTTPConnection(host='h', "
            'port=9): Failed to establish a new connection: [Errno 111] Connection refused"))',
            f"{SILENT} ([Errno 111] Connection refused); start it again",
        ),
        (
            f"{REQUEST}exception {POOL}(Caused by ProtocolError('Connection aborted.', "
            "RemoteDisconnected('Remote end closed connection without response')))",
            f"{SILENT} (Remote end closed connection without response); start it again",
        ),
        (
            f"{REQUEST}exception {POOL}(Caused by ResponseError('too many 503 error responses'))",
            f"{SILENT} (too many 503 error responses); start it again",
        ),
        (
            f"{REQUEST}timeout exception {POOL}: Read timed out. (read timeout=120)",
            f"{SILENT} (Read timed out.); start it again",
        ),
        (f"{REQUEST}error code 401 != 200", "MLflow: the tracking server asks who you are; "),
        ("Run 'x' not found\nmore", "MLflow: Run 'x' not found"),
        (
            "(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: ...]",
            "the database may not be written; ",
        ),
        ("(sqlite3.OperationalError) database or disk is full", "the database has no space left "),
    ],
)
def test_an_error_of_mlflow_is_explained_in_one_line(text: str, expected: str) -> None:
    found = user_message(MlflowException(text))
    assert found is not None
    assert found.startswith(expected)
    assert "\n" not in found
    assert "pw" not in found


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
        MlflowException("1 file failed:\n OSError(28, 'No space left on device')"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_a_download_that_finds_no_room_says_so(error: Exception) -> None:
    with pytest.raises(UserError, match=r"^x cannot be downloaded: no space is left .* TMPDIR"):
        require_space(error, "x")
    require_space(OSError(errno.ENOENT, "No such file"), "x")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_that_may_not_be_written_is_named(number: int) -> None:
    found = user_message(OSError(number, "no", "/data/mlruns/x"))
    assert found is not None
    assert found.startswith("/data/mlruns/x cannot be used (no); give it write permission, or ")


def test_a_defect_of_the_project_is_none_of_these() -> None:
    assert user_message(KeyError("x")) is None
    assert user_message(OSError(errno.ENOENT, "no such file", "x")) is None


def test_the_reason_of_a_failure_is_masked_whatever_it_is() -> None:
    assert reason(ValueError("http://ann:pw@h")) == "ValueError('http://***@h')"
    assert reason(UserError("http://ann:pw@h")) == "http://***@h"
