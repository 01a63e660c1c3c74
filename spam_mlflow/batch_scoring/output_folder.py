"""The folder of scores: whose they are, which parts are complete, and its manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spam_mlflow.batch_worker.folders import Folder
from spam_mlflow.batch_worker.part_scoring import Record
from spam_mlflow.errors import UserError

JOB_FILE = "_job.json"
MANIFEST_FILE = "_manifest.json"
GOES_ON = "once that is solved, the same command goes on where this one stopped"
"""What to say after an error that is none of the input or the settings."""

_FORMAT = 3  # of these files; raised when the same job would divide or write something otherwise


@dataclass(frozen=True)
class Identity:
    """What makes two calls the same job: their parts can be taken from either.

    Attributes:
        input: Names and digests of the files.
        model: Digest of the model, and what the output says of it.
        settings: What else changes the output.
    """

    input: Mapping[str, Any]
    model: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of each of the three."""
        return {name: _digest(getattr(self, name)) for name in self.__dataclass_fields__}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all."""
        return _digest({"format": _FORMAT, **self.digests})


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class OutputFolder:
    """A folder of scores.

    Args:
        folder: The folder.
        address: What the user calls it.
    """

    def __init__(self, folder: Folder, address: str) -> None:
        self.folder, self._address = folder, address

    def begin(self, identity: Identity) -> dict[int, Record]:
        """Return the records of parts that an earlier call completed, by number.

        Args:
            identity: Of the job.

        Raises:
            UserError: If the folder holds something else.
            OSError: If it cannot be read or written.
        """
        try:
            sizes = self.folder.sizes()
        except NotADirectoryError as error:
            raise UserError(f"output={self._address!r} is a file; give a folder") from error
        if JOB_FILE in sizes:
            self._require_same(identity)
            return self._complete(sizes, identity.fingerprint)
        if sizes:
            raise UserError(
                f"output={self._address!r} holds {min(sizes)!r}, which is no scores; give a new or "
                "an empty folder"
            )
        content = {"fingerprint": identity.fingerprint, **identity.digests}
        self.folder.write(JOB_FILE, _json(content))
        return {}

    def _require_same(self, identity: Identity) -> None:
        try:
            before = dict(json.loads(self.folder.read(JOB_FILE)))
        except ValueError as error:
            raise UserError(
                f"{JOB_FILE} in output={self._address!r} is damaged; give a new folder"
            ) from error
        if before.get("fingerprint") == identity.fingerprint:
            return
        other = [name for name, known in identity.digests.items() if before.get(name) != known]
        what = {"input": "another input", "model": "another model", "settings": "other settings"}
        reasons = " and ".join(what[name] for name in other) or "another version of this project"
        raise UserError(
            f"output={self._address!r} holds scores with {reasons}; give a new folder, or delete it"
        )

    def _complete(self, sizes: Mapping[str, int], fingerprint: str) -> dict[int, Record]:
        """Return the records of parts whose files are all there."""
        found = {}
        for name in sizes:
            if not name.startswith("_parts/"):
                continue
            try:
                record = Record.from_json(self.folder.read(name).decode())
            except ValueError:
                continue  # it is scored again
            there = all(sizes.get(file) == size for file, (size, _) in record.files.items())
            if there and record.fingerprint == fingerprint:
                found[record.number] = record
        return found

    def finish(
        self, identity: Identity, records: Sequence[Record], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the manifest, and remove what ended writers left.

        Args:
            identity: Of the job.
            records: Of all parts.
            facts: What else the manifest tells.

        Returns:
            The manifest.

        Raises:
            UserError: If another call has begun another job in the folder meanwhile.
            OSError: If it cannot be written.
        """
        self._require_same(identity)
        self.folder.clean()
        ordered = sorted(records, key=lambda record: record.number)
        scored, spam = sum(r.scored for r in ordered), sum(r.spam for r in ordered)
        manifest = {
            "format": _FORMAT,
            "fingerprint": identity.fingerprint,
            "counts": {
                "scored": scored,
                "spam": spam,
                "ham": scored - spam,
                "low_confidence": sum(r.low_confidence for r in ordered),
                "rejected": sum(r.rejected for r in ordered),
                "without_id": sum(r.without_id for r in ordered),
                "parts": len(ordered),
            },
            "input": identity.input,
            "model": identity.model,
            "settings": identity.settings,
            **facts,
            "files": {
                name: {"size": size, "sha256": sha256}
                for record in ordered
                for name, (size, sha256) in record.files.items()
            },
        }
        self.folder.write(MANIFEST_FILE, _json(manifest))
        return manifest


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2, ensure_ascii=False, default=str)}\n".encode()
