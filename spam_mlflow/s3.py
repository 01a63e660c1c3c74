"""S3 stores: clients with bounded retries, a check of access, and errors that say what is wrong.

Credentials come from boto3's own chain (environment, profile, role) and are never read here.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from spam_mlflow import wiring
from spam_mlflow.errors import UserError
from spam_mlflow.settings import StorageSettings

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config
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
"""What the error codes of S3 stores mean, and what to do; AWS's list, which the others follow."""


def settings(cfg: DictConfig) -> StorageSettings:
    """Return the storage preset of `cfg`, with its own `endpoint_url` and `region` if it has any.

    Raises UserError naming each bad key.
    """
    given = {key: cfg[key] for key in ("endpoint_url", "region") if cfg.get(key) is not None}
    values: dict[Any, Any] = {**cfg.storage, **given}
    if values.get("endpoint_url"):
        values["endpoint_url"] = str(values["endpoint_url"]).replace(
            "{region}", str(values["region"])
        )
    return wiring.settings(StorageSettings, values, "storage.")


def client(storage: StorageSettings, session: "Session | None" = None) -> "BaseClient":
    """Return a boto3 S3 client.

    session: that gives the credentials; None: a new one, with boto3's own chain.

    Raises UserError where the credentials' profile does not exist.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return (session or boto3.session.Session()).client(
            "s3",
            endpoint_url=storage.endpoint_url,
            region_name=storage.region,
            config=_config(storage),
        )
    except BotoCoreError as error:
        raise UserError(explain(error)) from error


def _config(storage: StorageSettings) -> "Config":
    from botocore.config import Config

    return Config(
        connect_timeout=storage.connect_timeout,
        read_timeout=storage.read_timeout,
        retries={"mode": "standard", "total_max_attempts": storage.attempts},
        request_checksum_calculation=storage.checksums,
        response_checksum_validation=storage.checksums,
        s3={"addressing_style": storage.addressing_style},
    )


def environment(storage: StorageSettings) -> dict[str, str]:
    """Return the variables by which MLflow's own S3 client, in any process, reaches the store."""
    variables = {
        "MLFLOW_S3_ENDPOINT_URL": storage.endpoint_url,
        "AWS_DEFAULT_REGION": storage.region,
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": storage.addressing_style,
        "AWS_REQUEST_CHECKSUM_CALCULATION": storage.checksums,
        "AWS_RESPONSE_CHECKSUM_VALIDATION": storage.checksums,
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": str(storage.attempts),
    }
    return {name: value for name, value in variables.items() if value is not None}


def configure_mlflow(storage: StorageSettings) -> None:
    """Have MLflow's S3 client, in this process, reach the store; set variables go first."""
    for name, value in environment(storage).items():
        os.environ.setdefault(name, value)


def bound_waiting(storage: StorageSettings) -> None:
    """Have MLflow's S3 client give up on silent connections; imports boto3.

    There is no variable for these times, and MLflow makes its clients in boto3's default session.
    """
    import boto3
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.set_default_client_config(
        Config(connect_timeout=storage.connect_timeout, read_timeout=storage.read_timeout)
    )
    boto3.setup_default_session(botocore_session=session)


def create_bucket(s3: "BaseClient", bucket: str, region: str | None) -> None:
    """Create `bucket` where the caller has none of that name yet.

    Raises UserError where it belongs to someone else or may not be created.
    """
    # AWS takes us-east-1 only unsaid.
    place = {"LocationConstraint": region} if region not in (None, "us-east-1") else None
    arguments = {"CreateBucketConfiguration": place} if place else {}
    with explained(f"cannot create bucket {bucket}"):
        try:
            s3.create_bucket(Bucket=bucket, **arguments)
        except s3.exceptions.BucketAlreadyOwnedByYou:
            return
        except s3.exceptions.BucketAlreadyExists:
            # Some stores say so to the owner, too; to anyone else, the next request is forbidden.
            s3.head_bucket(Bucket=bucket)


def check_access(s3: "BaseClient", bucket: str, prefix: str) -> None:
    """Write a small object under `prefix`, read it back, list it and delete it.

    Raises UserError for the first of these that fails: wrong key, missing bucket, wrong region, no
    permission, unreachable endpoint, clock, or an answer that differs from what was written.
    """
    place = f"s3://{bucket}/{prefix}"
    key = f"{prefix.strip('/')}/access-probe-{uuid.uuid4().hex}"
    with explained(f"cannot write to {place}"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    try:
        _check_reading(s3, bucket, key, place)
    except UserError:
        with contextlib.suppress(UserError), explained("cannot delete"):
            s3.delete_object(Bucket=bucket, Key=key)
        raise
    with explained(f"cannot delete what was written to {place}"):
        s3.delete_object(Bucket=bucket, Key=key)


def _check_reading(s3: "BaseClient", bucket: str, key: str, place: str) -> None:
    with explained(f"cannot read what was written to {place}"):
        found = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    if found != key.encode():
        raise UserError(
            f"{place} gives back {found[:80]!r}, not what was written to it; is endpoint_url that "
            "of an S3 store?"
        )
    with explained(f"cannot list {place}"):
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=key)
    if [entry["Key"] for entry in listed.get("Contents", ())] != [key]:
        raise UserError(f"{place} holds what was written to it, but does not list it")


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the errors of boto3 into a UserError that begins with `what`."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise UserError(f"{what}: {explain(error)}") from error


def explain(error: BaseException) -> str:
    """Return what an exception of boto3 or botocore means, and what to do, in one line."""
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

    # boto3's upload wraps the error that knows the code.
    while not isinstance(error, ClientError) and isinstance(error.__context__, ClientError):
        error = error.__context__
    # Its download names the error of the last try.
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
        return f"{text}; check AWS_PROFILE and ~/.aws/credentials"
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
    """Return by how much this machine's clock differs from the store's, as a message says it."""
    try:
        there = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return "more than the store allows"
    return f"{(datetime.now(UTC) - there).total_seconds():+,.0f} s"
