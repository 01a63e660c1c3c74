"""Explanations of the errors of S3 stores, with what to do about them."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_MEANINGS = {
    ("InvalidAccessKeyId", "InvalidAccessKey"): (
        "the access key is unknown there ({code}); check AWS_ACCESS_KEY_ID and endpoint_url"
    ),
    ("SignatureDoesNotMatch",): "the secret key is wrong ({code}); check AWS_SECRET_ACCESS_KEY",
    ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"): (
        "the session token is no longer valid ({code}); log in again"
    ),
    ("NoSuchBucket", "404"): (
        "the bucket does not exist ({code}); create it, or check bucket and region"
    ),
    ("PermanentRedirect", "TemporaryRedirect", "301", "307"): (
        "the region is wrong ({code}): the bucket is in {region}; set region"
    ),
    ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"): (
        "the region is wrong ({code}): the bucket is in {region}; set region"
    ),
    ("RequestTimeTooSkewed", "RequestExpired"): (
        "this machine's clock is off by {skew} ({code}); set it"
    ),
    ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"): (
        "the key may not do that ({code}); its policy must allow {operation}"
    ),
    ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "503", "500"): (
        "the store is overloaded ({code}, {attempts} attempts); try again later"
    ),
}
"""Explanations of error codes. The codes are those of AWS, which other stores follow."""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn errors of boto3 within the block into UserError.

    Args:
        what: What failed, as the beginning of the message.

    Raises:
        UserError: For any error of boto3 or botocore.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise UserError(f"{what}: {explain(error)}") from error


def explain(error: BaseException) -> str:
    """Return what an error of boto3 or botocore means, and what to do about it, in one line."""
    from botocore.exceptions import (
        ClientError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
        ResponseStreamingError,
    )
    from botocore.exceptions import ConnectionError as BotocoreConnectionError

    # An upload of boto3 wraps the error that has the code.
    while not isinstance(error, ClientError) and isinstance(error.__context__, ClientError):
        error = error.__context__
    # A download of boto3 names the error of the last attempt.
    error = getattr(error, "last_exception", error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, ClientError):
        return _explain_answer(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            "there are no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
        )
    if isinstance(error, ProfileNotFound):
        return f"{text}; check AWS_PROFILE, storage.profile and ~/.aws/credentials"
    if isinstance(error, ResponseStreamingError | IncompleteReadError):
        return f"the download broke off ({text}); try again"
    if isinstance(error, BotocoreConnectionError | HTTPClientError):
        return f"the endpoint cannot be reached ({text}); check endpoint_url and the network"
    return text


def _explain_answer(error: "ClientError") -> str:
    """Return what an error answer of the store means."""
    answer, details = error.response.get("ResponseMetadata", {}), error.response.get("Error", {})
    headers = answer.get("HTTPHeaders", {})
    code = str(details.get("Code", ""))
    meaning = next((text for codes, text in _MEANINGS.items() if code in codes), None)
    if meaning is None:
        return f"{error.operation_name} failed: {code} {details.get('Message', '')}".strip()
    return meaning.format(
        code=code,
        region=details.get("Region") or headers.get("x-amz-bucket-region") or "another one",
        skew=_skew(headers),
        operation=error.operation_name,
        attempts=answer.get("RetryAttempts", 0) + 1,
    )


def _skew(headers: Mapping[str, str]) -> str:
    """Return the difference of this machine's clock from the store's, as words for a message."""
    try:
        there = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return "more than the store allows"
    return f"{(datetime.now(UTC) - there).total_seconds():+,.0f} s"
