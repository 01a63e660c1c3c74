"""What the errors of other people's systems mean to a user: stores, servers, a full disk."""

import errno

from spam_mlflow.errors import UserError

_NETWORK = ("requests", "urllib3")
_UNAUTHORIZED = (
    "the tracking server asks who you are; set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD"
)
_S3 = ("boto3", "botocore", "s3transfer")


def explain(error: BaseException) -> str | None:
    """Return `error` in one line for the user, None where it is a defect of this project.

    Nothing is imported for it that the error's own origin has not imported already.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if isinstance(error, UserError):
        return str(error)
    if packages & set(_S3):
        from spam_mlflow import s3

        return s3.explain(error)
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
