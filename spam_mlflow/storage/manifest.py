"""The manifest of an export: its files with sizes and digests, and the model's source."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from spam_mlflow.scorer.classifier import METADATA_FILE, MODEL_FILE, TOKENIZER_FILE

MANIFEST_FILE = "manifest.json"
H5_FILE = "spam-model.h5"
CODE_FILE = "spam-classifier-code.zip"
FILES = (MODEL_FILE, H5_FILE, TOKENIZER_FILE, METADATA_FILE, CODE_FILE)
"""Names of all files that an export may hold besides its manifest."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """A file of an export.

    Attributes:
        size: Size in bytes.
        sha256: SHA-256 of the content in hex.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an export holds.

    Attributes:
        files: Files by name.
        source: What identifies the model, such as its URI and its run's ID.
    """

    files: Mapping[str, File]
    source: Mapping[str, str]

    def to_json(self) -> str:
        """Return the manifest as JSON, which is the same text for the same export."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Return the manifest that `to_json` wrote.

        Raises:
            ValueError: For anything else. A file name that is not in FILES is refused, so that a
                manifest cannot name a path.
        """
        try:
            state = json.loads(text)
            files = {name: File(**file) for name, file in state["files"].items()}
            source = dict(state["source"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is not a manifest: {error}") from error
        unknown = sorted(set(files) - set(FILES))
        if unknown or not all(_DIGEST.fullmatch(str(file.sha256)) for file in files.values()):
            raise ValueError(f"is not a manifest: {unknown or 'a SHA-256 is malformed'}")
        return cls(files, source)
