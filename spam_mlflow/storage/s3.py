"""S3 stores: clients with timeouts and bounded retries, and a check of access.

Credentials come from boto3's own chain (environment, profile, role) and are never read here.
"""

import contextlib
import os
import uuid
from typing import TYPE_CHECKING

from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.errors import UserError
from spam_mlflow.storage.s3_errors import explain, explained

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

_ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
_OF_AN_ENDPOINT = ("AWS_DEFAULT_REGION", "AWS_PROFILE", "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE")


def client(storage: StorageSettings, session: "Session | None" = None) -> "BaseClient":
    """Return a boto3 S3 client.

    Args:
        storage: The store and the client's limits.
        session: Session with the credentials; None means a new one, with the store's profile or
            boto3's own chain.

    Raises:
        UserError: If the profile of the credentials does not exist.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return (session or boto3.session.Session(profile_name=storage.profile)).client(
            "s3",
            endpoint_url=storage.url,
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
    """Return the environment variables with which MLflow's own S3 client reaches the store.

    Args:
        storage: The store and the client's limits.
    """
    variables = {
        _ENDPOINT: storage.url,
        "AWS_DEFAULT_REGION": storage.region,
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": storage.addressing_style,
        "AWS_REQUEST_CHECKSUM_CALCULATION": storage.checksums,
        "AWS_RESPONSE_CHECKSUM_VALIDATION": storage.checksums,
        "AWS_RETRY_MODE": "standard",
        "AWS_PROFILE": storage.profile,
        "AWS_MAX_ATTEMPTS": str(storage.attempts),
    }
    return {name: value for name, value in variables.items() if value is not None}


def configure_mlflow(storage: StorageSettings) -> None:
    """Set the `environment` in this process, except for variables that are set already.

    Where the endpoint is set, what `storage` says of another one is left out.
    """
    variables = environment(storage)
    if os.environ.get(_ENDPOINT, storage.url) != storage.url:
        variables = {name: variables[name] for name in variables if name not in _OF_AN_ENDPOINT}
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def set_client_timeouts(storage: StorageSettings) -> None:
    """Have MLflow's S3 client in this process use the store's timeouts; this imports boto3.

    There is no environment variable for them, so they are set in boto3's default session, which
    MLflow makes its clients with.
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
    """Create a bucket, unless the caller has one of that name already.

    Args:
        s3: Client of the store.
        bucket: Name of the bucket.
        region: Region for the bucket; None means the store's default.

    Raises:
        UserError: If the bucket belongs to someone else or may not be created.
    """
    # AWS refuses us-east-1 as a constraint: it is the region of buckets without one.
    constraint = {"LocationConstraint": region} if region not in (None, "us-east-1") else None
    arguments = {"CreateBucketConfiguration": constraint} if constraint else {}
    with explained(f"cannot create bucket {bucket}"):
        try:
            s3.create_bucket(Bucket=bucket, **arguments)
        except s3.exceptions.BucketAlreadyOwnedByYou:
            return
        except s3.exceptions.BucketAlreadyExists:
            # Some stores answer this to the owner, too; the next request fails for anyone else.
            s3.head_bucket(Bucket=bucket)


def check_access(s3: "BaseClient", bucket: str, prefix: str) -> None:
    """Write a small object under a prefix, read it back, list it and delete it.

    Args:
        s3: Client of the store.
        bucket: Name of the bucket.
        prefix: Prefix of the object's key.

    Raises:
        UserError: If one of these fails; the message says why, such as a wrong key, bucket, region
            or clock, a missing permission, or an endpoint that is no S3 store.
    """
    location = f"s3://{bucket}/{prefix}"
    key = f"{prefix.strip('/')}/access-probe-{uuid.uuid4().hex}"
    with explained(f"cannot write to {location}"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    try:
        _check_reading(s3, bucket, key, location)
    except UserError:
        with contextlib.suppress(UserError), explained("cannot delete"):
            s3.delete_object(Bucket=bucket, Key=key)
        raise
    with explained(f"cannot delete what was written to {location}"):
        s3.delete_object(Bucket=bucket, Key=key)


def _check_reading(s3: "BaseClient", bucket: str, key: str, location: str) -> None:
    """Read and list an object whose content is its key."""
    with explained(f"cannot read what was written to {location}"):
        found = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    if found != key.encode():
        raise UserError(
            f"{location} gives back {found[:80]!r}, not what was written to it; is endpoint_url "
            "that of an S3 store?"
        )
    with explained(f"cannot list {location}"):
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=key)
    if [entry["Key"] for entry in listed.get("Contents", ())] != [key]:
        raise UserError(f"{location} holds what was written to it, but does not list it")
