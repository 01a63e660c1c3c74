"""What a version's messages looked like when it was trained, kept with its run."""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spam_mlflow.drift.signals import NO_CAMPAIGN, Signals, known_words, signals
from spam_mlflow.errors import UserError

FILE = "drift-reference.json"
"""Name of the artifact of a run."""

_FORMAT = 1
_MESSAGES = 5000  # that are kept at most
_CLIP = 1e-12  # distance of a probability to 0 and 1 at least


@dataclass(frozen=True)
class Sample:
    """Messages that were scored, without their texts.

    Attributes:
        logits: log(spam / ham probability) of each; shape (messages,), float64.
        unknown: Share of unknown words of each; shape (messages,), float64.
        scripts: How many messages are in each script.
        campaigns: How many messages share each hash of words; those without are left out.
        sources: How many messages are of each source.
    """

    logits: np.ndarray
    unknown: np.ndarray
    scripts: Mapping[str, int]
    campaigns: Mapping[int, int]
    sources: Mapping[str, int]

    @classmethod
    def of(
        cls, scores: Sequence[float], found: Sequence[Signals], sources: Sequence[str]
    ) -> "Sample":
        """Return the sample of some messages.

        Args:
            scores: Spam probability of each.
            found: The signals of each, or of none.
            sources: Where each is from.
        """
        campaigns = Counter(s.campaign for s in found if s.campaign != NO_CAMPAIGN)
        return cls(
            logits(np.asarray(scores, dtype=np.float64)),
            np.array([s.unknown for s in found], dtype=np.float64),
            Counter(s.script for s in found),
            campaigns,
            Counter(sources),
        )

    @property
    def probabilities(self) -> np.ndarray:
        """Spam probability of each message, shape (messages,), float64."""
        return 1 / (1 + np.exp(-self.logits))


@dataclass(frozen=True)
class Reference:
    """What later messages are compared with.

    Attributes:
        words: Hashes of the words of the training messages.
        sample: Messages that were not trained on, as they are scored.
        spam_share: Share of spam among the training messages.
    """

    words: frozenset[int]
    sample: Sample
    spam_share: float

    @classmethod
    def of(
        cls,
        trained: Sequence[str],
        spam_share: float,
        held_out: Sequence[str],
        scores: Sequence[float],
        sources: Sequence[str],
    ) -> "Reference":
        """Return the reference of a training.

        Args:
            trained: Texts of the training part.
            spam_share: Share of spam in it.
            held_out: Texts of other parts.
            scores: Spam probability of each of these.
            sources: Where each of these is from.
        """
        known = known_words(trained)
        step = -(-len(held_out) // _MESSAGES)
        texts = held_out[::step]
        found = [signals(text, known) for text in texts]
        return cls(known, Sample.of(scores[::step], found, sources[::step]), spam_share)

    def write(self, folder: Path) -> None:
        """Write the reference to FILE in `folder`."""
        hashes = np.sort(np.fromiter(self.words, dtype=np.uint32, count=len(self.words)))
        values = {
            "format": _FORMAT,
            "words": base64.b64encode(zlib.compress(hashes.tobytes())).decode("ascii"),
            "spam_share": self.spam_share,
            "logits": np.round(self.sample.logits, 4).tolist(),
            "unknown": np.round(self.sample.unknown, 4).tolist(),
            "scripts": dict(self.sample.scripts),
            "campaigns": [[k, n] for k, n in self.sample.campaigns.items()],
            "sources": dict(self.sample.sources),
        }
        (folder / FILE).write_text(json.dumps(values) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Reference":
        """Return what `write` wrote.

        Raises:
            UserError: If it is no such file.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values["format"] != _FORMAT:
                raise ValueError(f"format {values['format']}")
            hashes = np.frombuffer(zlib.decompress(base64.b64decode(values["words"])), np.uint32)
            sample = Sample(
                np.array(values["logits"], dtype=np.float64),
                np.array(values["unknown"], dtype=np.float64),
                values["scripts"],
                dict(map(tuple, values["campaigns"])),
                values["sources"],
            )
            return cls(frozenset(hashes.tolist()), sample, float(values["spam_share"]))
        except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise UserError(f"{FILE} of the version's run cannot be read: {error}") from error


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)); shape and dtype of `probabilities`."""
    kept = np.clip(probabilities, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(kept / (1 - kept)))
