"""Who may do what: tokens in a YAML file, of which only this server's user may read it."""

import hashlib
import hmac
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from spam_mlflow.config.schema import CONFIG
from spam_mlflow.errors import UserError

Scope = Literal["score", "feedback", "read"]

_HELP = (
    "it must be a list of entries such as {name: shop, scopes: [score, feedback, read], "
    "sha256: <hex of the token's SHA-256>}"
)


@validated_dataclass(frozen=True, config=CONFIG)
class _Entry:
    name: Annotated[str, Field(pattern=r"^[\w.-]{1,60}$")]
    scopes: tuple[Scope, ...]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    token: Annotated[str, Field(min_length=20)] | None = None
    speaks_for_others: bool = False

    def __post_init__(self) -> None:
        if (self.sha256 is None) == (self.token is None):
            raise ValueError("each entry has either a token or its sha256")


@dataclass(frozen=True)
class Client:
    """Who sends a request.

    Attributes:
        name: Name of the token; "" for anyone on this machine.
        scopes: What the token is for.
        speaks_for_others: Whether feedback may name another reporter than the client.
    """

    name: str
    scopes: Sequence[Scope]
    speaks_for_others: bool


ANYONE = Client("", ("score", "feedback", "read"), speaks_for_others=True)
"""The client where there are no tokens, which is on this machine."""


class Tokens:
    """The tokens of a file, which is read again when it has changed.

    Args:
        file: The file.

    Attributes:
        error: Why the file could not be read last; None if it could.

    Raises:
        UserError: If it cannot be read, is no such file, or may be read by others.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._clients: dict[str, Client] = {}
        self.error: str | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the file again.

        Raises:
            UserError: As the class does. What was read before is kept, unless the file is gone or
                empty, which takes all tokens back.
        """
        try:
            self._clients = {_digest(entry): _client(entry) for entry in _entries(self._file)}
            self.error = None
        except UserError as error:
            self.error = str(error)
            if _is_gone(self._file):
                self._clients = {}
            raise

    def client(self, token: str) -> Client | None:
        """Return whose token this is, None if it is nobody's."""
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        # All are compared, in a time that tells nothing of them.
        found = [c for known, c in self._clients.items() if hmac.compare_digest(known, given)]
        return found[0] if found else None


def _is_gone(file: Path) -> bool:
    try:
        return file.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _entries(file: Path) -> list[_Entry]:
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise UserError(f"store.tokens_file={file} may be read by others: chmod 600 {file}")
        entries: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"store.tokens_file={file} cannot be read; {_HELP}") from error
    if isinstance(entries, Mapping):
        entries = entries.get("tokens")
    try:
        found = TypeAdapter(list[_Entry]).validate_python(entries)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        reason = error.errors()[0]["msg"]  # not the value, which may be a token
        raise UserError(f"store.tokens_file={file}: {where} {reason}; {_HELP}") from error
    names = [entry.name for entry in found]
    if not names or len(set(names)) < len(names):
        raise UserError(f"store.tokens_file={file} must have entries with different names")
    return found


def _digest(entry: _Entry) -> str:
    if entry.sha256 is not None:
        return entry.sha256
    return hashlib.sha256(str(entry.token).encode()).hexdigest()


def _client(entry: _Entry) -> Client:
    return Client(entry.name, entry.scopes, entry.speaks_for_others)
