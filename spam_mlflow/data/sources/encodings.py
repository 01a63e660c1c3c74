"""The encoding of a text file: as given, else found out."""

import codecs
import logging
import re

from spam_mlflow.errors import UserError

logger = logging.getLogger(__name__)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 100_000  # bytes that the detection reads
_FEW_ZEROS = 0.05  # share of zero bytes that a text of single bytes may hold
_ZEROS = 0.2  # share of zero bytes at even or odd positions from which a text is in UTF-16
_BROKEN = 0.1  # share of the lines beyond ASCII that may be no UTF-8 in a file of UTF-8
_LEGACY = [f"cp{number}" for number in range(1250, 1259)]
_LEGACY += ["iso8859_2", "koi8_r", "cp866", "cp932", "euc_jp", "gb18030", "big5", "cp949", "cp874"]
"""Encodings that files of messages come in, besides Unicode's."""
_CHAOS = 0.04  # difference of charset-normalizer's measure that means nothing
_CONTROLS = re.compile(r"[\x80-\x9f]")
BAD_BYTES = re.compile(r"[\ud800-\udfff]")
"""Halves of characters, which stand for bytes that are not in a text's encoding."""


def decode(content: bytes, encoding: str, name: str) -> tuple[str, str]:
    """Return the text of a file and its encoding.

    Bytes that are not in an encoding that was found out become `BAD_BYTES`, or U+FFFD in UTF-16.

    Args:
        content: The file's bytes.
        encoding: As Python names it, or "auto" to find it out.
        name: The file's name, for messages.

    Raises:
        UserError: If the content is not text in that encoding.
    """
    if encoding == "auto":
        found = detect(content, name)
        wide = found.startswith(("utf-16", "utf-32"))
        text = content.decode(found, "replace" if wide else "surrogateescape")
    else:
        found = encoding
        text = _decoded(content, encoding, name)
    text = text.removeprefix("\ufeff")
    _warn_of_mojibake(text, content, encoding, name)
    return text, found


def detect(content: bytes, name: str) -> str:
    """Return the encoding of a file.

    Args:
        content: The file's bytes.
        name: The file's name, for messages.

    Raises:
        UserError: If it holds no text.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    if content[:_SAMPLE].count(0) > _FEW_ZEROS * len(content[:_SAMPLE]):
        return _wide(content[:_SAMPLE], name)
    lines = [line for line in content.splitlines() if not line.isascii()]
    broken = [line for line in lines if not _is_utf8(line)]
    return "utf-8" if len(broken) <= _BROKEN * len(lines) else _legacy(b"\n".join(broken))


def _wide(content: bytes, name: str) -> str:
    even, odd = content[::2].count(0), content[1::2].count(0)
    if max(even, odd) < _ZEROS * len(content) / 2:
        raise UserError(f"data.path={name!r} holds no text, but zero bytes; check data.path")
    return "utf-16-be" if even > odd else "utf-16-le"


def _legacy(content: bytes) -> str:
    """Return the encoding of lines that are no UTF-8: Windows-1252 unless they speak against it."""
    import charset_normalizer

    sample = content[:_SAMPLE]
    usual = "cp1252" if _decodes(content, "cp1252") else "latin-1"
    if not _has_letters(sample.decode(usual, "ignore")):
        return usual
    matches = charset_normalizer.from_bytes(sample, cp_isolation=_LEGACY)
    best = matches.best()
    if best is None or not _decodes(content, best.encoding):
        return usual
    # Few letters beyond ASCII make sense in several encodings, of which this is the most common.
    alike = {
        encoding
        for match in matches
        if match.chaos <= best.chaos + _CHAOS
        for encoding in match.could_be_from_charset
    }
    return usual if usual.replace("-", "_") in alike else best.encoding


def _has_letters(text: str) -> bool:
    """Return whether there are letters beyond ASCII, rather than signs such as that of the euro."""
    return any(character.isalpha() and not character.isascii() for character in text)


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeError:
        return False
    return True


def _is_utf8(line: bytes) -> bool:
    return _decodes(line, "utf-8")


def _decoded(content: bytes, encoding: str, name: str) -> str:
    try:
        return content.decode(encoding)
    except LookupError as error:
        raise UserError(
            f"data.encoding={encoding!r} is no encoding that Python knows; data.encoding=auto "
            "finds it out"
        ) from error
    except UnicodeError as error:
        line = content[: getattr(error, "start", 0)].count(b"\n") + 1
        raise UserError(
            f"data.path={name!r} cannot be read in {encoding}, first in line {line:,}; give "
            f"data.encoding={detect(content, name)}, or auto to have it found out"
        ) from error


def _warn_of_mojibake(text: str, content: bytes, encoding: str, name: str) -> None:
    """Warn of text that was read, or written, in another encoding than it should have been."""
    lines = [line for line in text.split("\n") if not line.isascii()]
    garbled = [line for line in lines if _was_utf8(line)]
    if garbled:
        given = encoding != "auto" and _is_utf8(content)
        remedy = "give data.encoding=utf-8" if given else "it was written so; mend the file"
        logger.warning(
            "%s: %s lines hold UTF-8 that was read in another encoding, such as %r: %s",
            *(name, f"{len(garbled):,}", _beyond_ascii(garbled[0]), remedy),
        )
    controls = sum(bool(_CONTROLS.search(line)) for line in lines)
    if controls and not garbled:
        remedy = "; give data.encoding=cp1252" if encoding != "auto" else ""
        logger.warning(
            "%s: %s lines hold control characters where Windows-1252 has signs such as €%s",
            *(name, f"{controls:,}", remedy),
        )


def _was_utf8(line: str) -> bool:
    """Return whether a line beyond ASCII, put back into bytes, is UTF-8: by chance, it is not."""
    for encoding in ("cp1252", "latin-1"):
        try:
            line.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


def _beyond_ascii(line: str) -> str:
    found = re.search(r"[^\x00-\x7f]+", line)
    return found[0][:20] if found else ""
