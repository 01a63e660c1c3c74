"""What an error means to a user, in one line: of this project, a store, a server or a full disk."""

import errno

from spam_mlflow.errors import UserError

_NETWORK = ("requests", "urllib3")
_UNAUTHORIZED = (
    "the tracking server asks who you are; set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD"
)
_S3 = ("boto3", "botocore", "s3transfer")


def user_message(error: BaseException) -> str | None:
    """Return what an error means to a user.

    This imports no package that the code which raised the error has not imported already.

    Args:
        error: The error that ended a command.

    Returns:
        One line of text, or None if the error is a defect of this project, whose traceback is to
        be shown.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    # The name is compared, since a logged model brings its own copy of the class.
    if UserError.__name__ in kinds:
        return str(error)
    if packages & set(_S3):
        from spam_mlflow.storage import s3_errors

        return s3_errors.explain(error)
    if "MlflowException" in kinds:
        return f"MLflow: {_UNAUTHORIZED if '401 !=' in str(error) else _first_line(error)}"
    if packages & set(_NETWORK):
        return f"the tracking server: {_first_line(error)}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space is left on the disk of {error.filename or 'the temporary folder'}; free some"
        )
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
