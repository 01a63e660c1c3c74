"""What an error means to a user, in one line: of this project, a store, a server or a full disk."""

import errno
import os
import re
import tempfile

from spam_mlflow.config.masking import masked
from spam_mlflow.errors import UserError

_NETWORK = ("requests", "urllib3")
_UNAUTHORIZED = (
    "the tracking server asks who you are; set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD"
)
_NO_ANSWER = re.compile(r"API request to (?P<url>\S+?)/api/\S+ failed with (timeout )?exception")
# The last of the reasons that urllib3 nests.
_LAST_REASON = re.compile(r"(?:: |')([^:']+?)(?: \(read timeout=[\d.]+)?[\"')]*$")
_S3 = ("boto3", "botocore", "s3transfer")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_DATABASE = {
    "readonly database": "may not be written; give its file and folder write permission",
    "disk is full": "has no space left on its disk; free some",
    "disk I/O error": "cannot be read or written; check its disk",
    "database is locked": "is locked by another process; wait for it, or end it",
    "malformed": "is damaged; restore a copy",
    "not a database": "is no SQLite database; name another file",
    "unable to open": "cannot be opened; check its folder and who may read it",
}
"""What SQLite says, and what it means to the owner of a tracking database."""


def user_message(error: BaseException) -> str | None:
    """Return what an error means to a user; log-in data and values of the environment are masked.

    This imports no package that the code which raised the error has not imported already.

    Args:
        error: The error that ended a command.

    Returns:
        One line of text, or None if the error is a defect of this project, whose traceback is to
        be shown.
    """
    message = _message(error)
    return None if message is None else masked(message)


def reason(error: BaseException) -> str:
    """Return in one line why something has failed, as a run's tag `error` has it; it is masked."""
    return user_message(error) or masked(repr(error))


def require_space(error: BaseException, what: str) -> None:
    """Raise UserError if an error says that the disk is full to which a file was downloaded.

    MLflow and `shutil` wrap such errors, so that their number is gone and their text is left.

    Args:
        error: The error of a download.
        what: What was to be downloaded.

    Raises:
        UserError: If the disk is full.
    """
    is_full = isinstance(error, OSError) and error.errno in _FULL
    if is_full or any(os.strerror(number) in str(error) for number in _FULL):
        raise UserError(
            f"{what} cannot be downloaded: no space is left on this machine's disk; free some, or "
            "set TMPDIR to a folder on another one (temporary files are in "
            f"{tempfile.gettempdir()})"
        ) from error


def _message(error: BaseException) -> str | None:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    # The name is compared, since a logged model brings its own copy of the class.
    if UserError.__name__ in kinds:
        return str(error)
    if packages & set(_S3):
        from spam_mlflow.storage import s3_errors

        return s3_errors.explain(error)
    if "sqlalchemy" in packages or "(sqlite3." in str(error):
        return _database_message(error)
    if "MlflowException" in kinds:
        return _mlflow_message(_first_line(error))
    if packages & set(_NETWORK):
        return f"the tracking server: {_first_line(error)}"
    return _file_message(error) if isinstance(error, OSError) else None


def _mlflow_message(text: str) -> str:
    """Return what the first line of an error of MLflow means."""
    if "401 !=" in text:
        return f"MLflow: {_UNAUTHORIZED}"
    silent = _NO_ANSWER.match(text)
    if silent:
        reason = _LAST_REASON.search(text)
        return (
            f"the tracking server {silent['url']} does not answer"
            f"{f' ({reason[1]})' if reason else ''}; start it again"
        )
    return f"MLflow: {text}"


def _database_message(error: BaseException) -> str:
    """Return what an error of SQLAlchemy means, which MLflow may have wrapped."""
    reason = re.sub(r"^\(\S+\) ", "", _first_line(error))
    for text, meaning in _DATABASE.items():
        if text in reason:
            return f"the database {meaning} ({reason}), or set MLFLOW_TRACKING_URI to another one"
    return f"the database: {reason}"


def _file_message(error: OSError) -> str | None:
    """Return what a refusal of the file system means."""
    if error.errno in _FULL:
        where = error.filename or "the temporary folder"
        return f"no space is left on the disk of {where}; free some"
    if error.errno in _FORBIDDEN and error.filename:
        # Of a copy, it is the second file that cannot be written.
        name = error.filename2 or error.filename
        return (
            f"{name} cannot be used ({error.strerror}); give it write permission, or name a folder "
            "that you may write to, with output_dir, MLFLOW_TRACKING_URI or, for a sweep, "
            "study_db"
        )
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
