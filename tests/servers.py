"""Real servers for tests: the project's own stack, and a second S3 server."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from scripts.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
PORTS = ("--port", "0", "--s3-port", "0", "--postgresql-port", "0")


def stack_command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts.stack", *arguments, "--folder", str(folder)]
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
