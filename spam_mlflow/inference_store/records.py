"""What is stored: an inference, and feedback on one as an item of its own."""

import secrets
import threading
import time
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

TextForm = Literal["off", "hmac", "redacted", "encrypted", "plain"]
FeedbackKind = Literal["report", "review"]

DAY_SECONDS = 86_400
_COUNTER_BITS = 12  # of an ID, for those of one millisecond
_RANDOM_BITS = 62

Record = TypeVar("Record", "Inference", "Feedback")


@dataclass(frozen=True, slots=True)
class Inference:
    """One prediction.

    Attributes:
        id: UUID of version 7, so that IDs sort by time.
        at: When it was made, in UTC, such as "2026-11-26T10:40:44.123Z".
        day: The first ten characters of `at`.
        model_name: Name of the registered model.
        model_version: Its version's number.
        label: "ham" or "spam", as was answered.
        spam_probability: The score.
        threshold: The score from which the message was labeled spam, which a client may choose.
        source: Where the message came from, as the client said.
        expires: Seconds since 1970 at which the item is to be deleted.
        text_form: What `text` holds.
        text: The text in that form; None with "off" and "hmac".
        text_hmac: Name of the key, "-" and keyed hash of the text, in hex; None without a key and
            with "off".
        text_length: Characters of the text; None where they are unknown.
        signals: What drift is found by, as JSON; None where it was not computed.
        predicted: The label by the version's own threshold, whatever the client chose; None in
            items that were stored without.
    """

    id: str
    at: str
    day: str
    model_name: str
    model_version: str
    label: str
    spam_probability: float
    threshold: float
    source: str
    expires: int
    text_form: TextForm = "off"
    text: str | None = None
    text_hmac: str | None = None
    text_length: int | None = None
    signals: str | None = None
    predicted: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What someone says that the label of an inference should have been.

    Attributes:
        id: UUID of version 7.
        inference_id: Of the inference.
        at: When it was given, in UTC.
        day: The first ten characters of `at`.
        label: "ham" or "spam".
        reporter: Who says so.
        kind: "report", or "review" for the decision of a reviewer, which counts more.
        note: Any words.
        expires: Seconds since 1970 at which the item is to be deleted.
    """

    id: str
    inference_id: str
    at: str
    day: str
    label: str
    reporter: str
    kind: FeedbackKind
    note: str
    expires: int


INFERENCE_COLUMNS = tuple(field.name for field in fields(Inference))
FEEDBACK_COLUMNS = tuple(field.name for field in fields(Feedback))


@dataclass(frozen=True)
class Filters:
    """Which inferences are wanted; None means any.

    Attributes:
        day: Such as "2026-11-26", in UTC.
        version: Number of a version.
        label: "ham" or "spam".
    """

    day: str | None = None
    version: str | None = None
    label: str | None = None

    def takes(self, inference: Inference) -> bool:
        """Return whether an inference is wanted."""
        wanted = ((self.day, inference.day), (self.version, inference.model_version))
        return all(w is None or w == found for w, found in (*wanted, (self.label, inference.label)))


def values(record: Inference | Feedback, columns: Sequence[str]) -> tuple[Any, ...]:
    """Return some attributes of a record."""
    return tuple(getattr(record, column) for column in columns)


def timestamp(seconds: float) -> str:
    """Return seconds since 1970 as text in UTC, such as "2026-11-26T10:40:44.123Z"."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def id_seconds(record_id: str) -> float:
    """Return when an ID was made, in seconds since 1970."""
    return int(record_id.replace("-", "")[:12], 16) / 1000


class _Clock:
    """Hands out numbers that grow with time, at most one of them twice in no process."""

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0

    def tick(self) -> int:
        """Return milliseconds since 1970 and a counter, as one number."""
        with self._lock:
            now = (time.time_ns() // 1_000_000) << _COUNTER_BITS
            self._last = max(now, self._last + 1)
            return self._last


_clock = _Clock()


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562), larger than all that this process made before."""
    tick = _clock.tick()
    milliseconds, counter = tick >> _COUNTER_BITS, tick & ((1 << _COUNTER_BITS) - 1)
    number = (milliseconds << 80) | (7 << 76) | (counter << 64) | (0b10 << 62)
    digits = f"{number | secrets.randbits(_RANDOM_BITS):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def new_feedback(
    inference_id: str, label: str, reporter: str, kind: FeedbackKind, note: str, days: int
) -> Feedback:
    """Return feedback that is given now.

    Args:
        inference_id: Of the inference.
        label: "ham" or "spam".
        reporter: Who says so.
        kind: "report" or "review".
        note: Any words.
        days: Days after which it expires.
    """
    made = new_id()
    # The day is that of the ID, or pages that go back day by day would leave items out.
    seconds = id_seconds(made)
    at, expires = timestamp(seconds), int(seconds + days * DAY_SECONDS)
    return Feedback(made, inference_id, at, at[:10], label, reporter, kind, note, expires)


def reporter_name(given: str) -> str:
    """Return the name of a reporter so that what looks alike is one: "ann" for " ann ".

    Raises:
        ValueError: If nothing is left of it.
    """
    name = " ".join(unicodedata.normalize("NFKC", given).split())
    if not name:
        raise ValueError("it is blank")
    return name


def is_id(text: str) -> bool:
    """Return whether a text is an ID in the form that `new_id` writes."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
