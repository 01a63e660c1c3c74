"""Real servers for tests: the project's own stack, and a second S3 server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import requests
from botocore.config import Config
from psycopg import sql

from scripts.stack import Stack
from spam_mlflow.config.compose import compose
from spam_mlflow.config.instantiate import validate
from spam_mlflow.config.schema import StorageSettings
from spam_mlflow.storage import s3
from support.project import ROOT

SERVER_START_SECONDS = 120
PORTS = ("--port", "0", "--s3-port", "0", "--postgresql-port", "0")


def stack_line(folder: Path, *arguments: str) -> list[str]:
    """Return the command line of the stack in `folder`, whose servers run from this environment.

    Under `uvx pytest`, it would not last as long as servers may, but as long as the tests do.
    """
    command = [sys.executable, "-m", "scripts.stack", *arguments]
    return [*command, "--here", "--folder", str(folder)]


def stack_command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = stack_line(folder, *arguments)
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


@contextlib.contextmanager
def running_stack(folder: Path, *options: str) -> Iterator[Stack]:
    done = stack_command(folder, "start", *PORTS, *options)
    try:
        assert done.returncode == 0, done.stderr
        yield Stack.open(folder, {}, auth=False)
    finally:
        stack_command(folder, "stop")


@dataclass(frozen=True)
class S3Server:
    """An S3 server: its address, and a key that it takes."""

    name: str
    url: str
    access_key: str
    secret_key: str

    @property
    def credentials(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def client(self, **config: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(**config),
        )

    def keys(self, bucket: str) -> set[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def new_bucket(self) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def project_client(self, url: str | None = None, **changes: Any) -> Any:
        """Return the project's own client, which reaches the server by `url` where one is given.

        changes: of the settings of `storage=local`.
        """
        session = boto3.session.Session(self.access_key, self.secret_key)
        return s3.client(storage(url or self.url, **changes), session)


def storage(url: str, **changes: Any) -> StorageSettings:
    """Return the settings of `storage=local` with another address and `changes`."""
    overrides = [f"storage.{key}={value}" for key, value in changes.items()]
    cfg = compose("bucket", ["storage=local", "bucket=any", f"endpoint_url={url}", *overrides])
    found: StorageSettings = validate("bucket", cfg).store
    return found


def new_database(stack: Stack, name: str) -> str:
    """Create an empty database in the stack's PostgreSQL, and return its address."""
    with psycopg.connect(stack.state.database("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return stack.state.database(name)


def serve(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], health: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a server in a process group of its own, wait until it answers, and end it after use."""
    log = cwd / "server.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        _wait_for(health, server, log)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):  # a test may have ended it already
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"{url} does not answer:\n{log.read_text()}")
