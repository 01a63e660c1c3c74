"""Signals: kinds of words and patterns whose meaning is known before any training.

An n-gram tells something only of words that the training texts hold. A signal stands for a whole
kind, such as words of urgency, a premium number or a shortened link, so that what is learnt of it
holds for words that were never seen. Most depend on single chunks of text, so that they are found
once for each chunk. Kinds of signals, such as whatever asks for something, hold for a text where
one of their members does: what is learnt of "subscribe" then holds for "call now" as well. Pairs
are signals that mean more where both occur in a text.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from .sparse_rows import Places

PATTERNS = (
    *("link", "link with a path", "link without https", "link with digits or hyphens"),
    *("link by a number", "email address", "handle or hashtag"),
    *("number of 3", "number of 4", "number of 5", "number of 6", "number of 7 or 8"),
    *("premium number", "toll-free number", "mobile number", "international number"),
    *("other long number", "price", "price of four digits or more", "price per message"),
    *("percentage", "word in capitals", "letters and digits", "masked number", "time", "date"),
    *("emoji", "exclamation", "several exclamations", "question mark", "placeholder"),
)
"""What a chunk of text may look like, whatever its words."""

KINDS: Mapping[str, Sequence[str]] = {
    "any request": ("call_to_action", "contact", "texting", "look", "subscribe", "vote"),
    "any promise": (
        *("prize", "free", "money", "earning", "crypto", "loan", "discount", "insurance", "job"),
        *("health", "gambling", "media"),
    ),
    "any allure": ("adult", "stranger"),
    "any pressure": ("urgency", "threat", "unpaid", "terms", "optout"),
    "any way to reply": (
        *("link", "number of 5", "premium number", "toll-free number", "mobile number"),
        *("international number", "other long number", "email address", "handle or hashtag"),
    ),
    "any price": ("price", "price per message", "percentage"),
}
"""Signals that hold where one of their members does."""

PAIRS = (
    ("any request", "any promise"),
    ("any request", "any way to reply"),
    ("any request", "any pressure"),
    ("any request", "any price"),
    ("any request", "any allure"),
    ("any promise", "any way to reply"),
    ("any promise", "any pressure"),
    ("any pressure", "any way to reply"),
    ("texting", "number of 5"),
    ("contact", "premium number"),
    ("contact", "toll-free number"),
    ("contact", "other long number"),
    ("contact", "mobile number"),
    ("look", "channel"),
    ("subscribe", "channel"),
    ("first_person", "channel"),
    ("look", "link"),
    ("prize", "contact"),
    ("prize", "link"),
    ("prize", "texting"),
    ("free", "texting"),
    ("free", "call_to_action"),
    ("code", "never"),
    ("code", "number of 6"),
    ("code", "number of 4"),
    ("code", "link"),
    ("account", "link"),
    ("account", "threat"),
    ("threat", "link"),
    ("threat", "contact"),
    ("unpaid", "link"),
    ("verify", "link"),
    ("identity", "link"),
    ("delivery", "link"),
    ("delivery", "unpaid"),
    ("delivery", "odd_tld"),
    ("delivery", "known_site"),
    ("bank", "link"),
    ("bank", "never"),
    ("bank", "contact"),
    ("bank", "masked number"),
    ("brands", "odd_tld"),
    ("urgency", "link"),
    ("urgency", "prize"),
    ("discount", "terms"),
    ("discount", "percentage"),
    ("discount", "urgency"),
    ("optout", "discount"),
    ("optout", "appointment"),
    ("appointment", "time"),
    ("job", "earning"),
    ("job", "messenger"),
    ("task", "earning"),
    ("crypto", "earning"),
    ("family", "phone_lost"),
    ("family", "money"),
    ("phone_lost", "money"),
    ("vote", "link"),
    ("adult", "call_to_action"),
    ("adult", "link"),
    ("loan", "call_to_action"),
    ("utility", "contact"),
    ("buyer", "link"),
    ("stranger", "messenger"),
    ("stranger", "money"),
    ("telecom", "call_to_action"),
)
"""Signals that are a signal of their own where both occur in a text."""

_LINK = re.compile(
    r"(?P<scheme>https?://?)?(?P<host>(?:[a-z0-9-]+\.)+[a-z]{2,10})(?P<rest>[/?:#]\S*)?[.,!?)]*$"
)
_NUMBERED_LINK = re.compile(r"https?://?\d+\.\d+")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w")
_HANDLE = re.compile(r"[@#][a-z_]\w+")
_SEARCHED = 200  # characters of a chunk, since a search may take the square of their number
_EDGES = "!?.,;:\"'()[]<>*-_~"
_PHONE = re.compile(r"\+?\(?\d[\d().\-/]*")
_CURRENCY = re.compile(
    r"(?:[£$€₹₦¥]|rs\.?|usd|gbp|eur|inr|cad|aud)[\d,]+(?:\.\d+)?|[\d,.]+(?:[£$€₹₦]|rs|usd|gbp|eur|cad)\b"
)
_PER_MESSAGE = re.compile(
    r"\d+p(?:$|[/\W]|per|pm|msg|min)|/(?:msg|min|week|wk|txt|text|month)\b|p/m|ppm\b|per(?:msg|min)"
)
_PERCENTAGE = re.compile(r"\d%")
_MASKED = re.compile(r"(?:[x*]{2,}|\.{2,3})\d{2,4}$|^\d[x*]+\d*$")
_TIME = re.compile(r"\d{1,2}(?::|\.)\d\d(?:[ap]m)?$|\d{1,2}[ap]m$")
_DATE = re.compile(r"\d{1,2}[/\-]\d{1,2}(?:[/\-]\d{2,4})?$|\d{1,2}(?:st|nd|rd|th)$")
_PLACEHOLDER = re.compile(r"^[<{\[#].*[>}\]#]$")
_PREMIUM = ("09", "087", "084", "0870", "0871", "0906", "1900")
_TOLL_FREE = ("080", "1800", "1888", "1877", "1866", "18")


_OF_LINKS = ("known_site", "video_site", "shortener", "odd_tld", "ordinary_tld")


class Signals:
    """Finds the signals of chunks and texts.

    Args:
        words: The words of each lexicon by its name.

    Attributes:
        words: As given, to be stored.
        names: Name of each column of `features`.
    """

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        self.words = {name: tuple(of_name) for name, of_name in words.items()}
        self.chunk_names = (*self.words, *PATTERNS)
        self._number = {name: n for n, name in enumerate(self.chunk_names)}
        of_word: dict[str, list[int]] = {}
        for name, of_name in self.words.items():
            for word in of_name if name not in _OF_LINKS else ():
                of_word.setdefault(word, []).append(self._number[name])
        self._of_word = {word: bytes(numbers) for word, numbers in of_word.items()}
        self._sites = {name: frozenset(self.words.get(name, ())) for name in _OF_LINKS}
        self._members = [
            np.array([self._number[n] for n in members if n in self._number], dtype=np.int64)
            for members in KINDS.values()
        ]
        alone = [*self.chunk_names, *KINDS]
        column = {name: n for n, name in enumerate(alone)}
        pairs = [pair for pair in PAIRS if column.keys() >= set(pair)]
        self._firsts, self._seconds = (
            np.array([column[pair[side]] for pair in pairs], dtype=np.int64) for side in (0, 1)
        )
        self.names = [*alone, *(" + ".join(pair) for pair in pairs)]

    def of_chunk(self, chunk: str, tokens: Sequence[str], skeleton: str) -> bytes:
        """Return the numbers of a chunk's signals, one byte each.

        Args:
            chunk: A stretch of normalized text without spaces.
            tokens: Its words, casefolded.
            skeleton: Its letters; see `normalization.skeleton`.
        """
        folded = chunk.casefold()
        bare = folded.strip(_EDGES)
        words = {*tokens, skeleton, bare}
        found = set(b"".join([self._of_word[word] for word in words if word in self._of_word]))
        if not (chunk.isalpha() and chunk.isascii()):
            found.update(self._number[name] for name in self._patterns(folded, bare))
        if len(chunk) > 2 and chunk.isupper() and sum(map(str.isalpha, chunk)) > 2:
            found.add(self._number["word in capitals"])
        return bytes(found)

    def _patterns(self, folded: str, bare: str) -> "list[str]":
        found = []
        if "." in bare or ":" in bare:
            found += self._of_link(bare)
        if "@" in folded or "#" in folded:
            found += ["email address"] * bool(_EMAIL.search(folded[:_SEARCHED]))
            found += ["handle or hashtag"] * bool(_HANDLE.match(folded))
        if any(map(str.isdigit, folded)):
            found += _of_number(folded[:_SEARCHED], bare[:_SEARCHED])
        if "!" in folded:
            found.append("exclamation")
            if folded.count("!") > 1:
                found.append("several exclamations")
        if "?" in folded:
            found.append("question mark")
        if "%" in folded and _PERCENTAGE.search(folded):
            found.append("percentage")
        if folded[0] in "<{[#" and _PLACEHOLDER.match(folded):
            found.append("placeholder")
        if not folded.isascii() and any(c >= "\u2190" and not c.isalnum() for c in folded):
            found.append("emoji")
        return found

    def _of_link(self, bare: str) -> list[str]:
        if _NUMBERED_LINK.match(bare):
            return ["link", "link by a number"]
        link = _LINK.match(bare)
        if not link:
            return ["link"] if "http" in bare or "www." in bare else []
        host = link["host"].removeprefix("www.")
        rest = (link["rest"] or "").rstrip("/")
        tld = host.rpartition(".")[2]
        domains = {host, host.partition(".")[2], f"{host}/{rest[1:].partition('/')[0]}"}
        kinds = [
            *(name for name in _OF_LINKS[:3] if domains & self._sites[name]),
            *(name for name in _OF_LINKS[3:] if tld in self._sites[name]),
        ]
        explicit = link["scheme"] or link["host"].startswith("www.") or link["rest"]
        if not kinds and not explicit:
            return []
        if tld in self._sites["odd_tld"] and not explicit and len(host) < 7:
            return []
        kinds.append("link")
        kinds += ["link with a path"] * bool(rest)
        kinds += ["link without https"] * (link["scheme"] != "https://")
        kinds += ["link with digits or hyphens"] * any(c == "-" or c.isdigit() for c in host)
        return kinds

    def features(self, owners: np.ndarray, numbers: np.ndarray, texts: int) -> np.ndarray:
        """Return the signals of texts.

        Args:
            owners: Position of the text of each signal that was found, shape (found,), int64.
            numbers: Its number, as `of_chunk` gives it, shape (found,), an integer type.
            texts: Number of texts.

        Returns:
            Array of shape (texts, len(names)), float32: 1 where a signal, a member of a kind, or
            both of a pair are in the text, else 0.
        """
        found = np.zeros((texts, len(self.names)), dtype=np.float32)
        found[owners, numbers] = 1
        column = len(self.chunk_names)
        for members in self._members:
            found[:, column] = found[:, members].max(axis=1, initial=0)
            column += 1
        np.multiply(found[:, self._firsts], found[:, self._seconds], out=found[:, column:])
        return found

    def places(self, owners: np.ndarray, numbers: np.ndarray, texts: np.ndarray) -> Places:
        """Return the places of texts' signals.

        Those of a kind are where its members are, and those of a pair where either of both is.

        Args:
            owners: Position of the chunk of each signal that was found, shape (found,), int64.
            numbers: Its number, as `of_chunk` gives it, shape (found,), an integer type.
            texts: Position of its text, shape (found,), int64.
        """
        alone = len(self.chunk_names)
        at = {signal: np.flatnonzero(numbers == signal) for signal in np.unique(numbers).tolist()}
        spread = []
        for column, members in enumerate(self._members, alone):
            at[column] = np.flatnonzero(np.isin(numbers, members))
            spread.append((column, at[column]))
        pairs = zip(self._firsts.tolist(), self._seconds.tolist(), strict=True)
        for column, pair in enumerate(pairs, alone + len(self._members)):
            if at.keys() >= set(pair):
                first, second = (at[signal] for signal in pair)
                both = np.intersect1d(texts[first], texts[second])
                spread += [(column, side[np.isin(texts[side], both)]) for side in (first, second)]
        return Places.joined(
            [
                Places(numbers.astype(np.int64), owners, np.ones(len(numbers))),
                *(Places(np.full(len(a), c), owners[a], _once(texts[a])) for c, a in spread),
            ]
        )


def _once(texts: np.ndarray) -> np.ndarray:
    """Return shares for the places of a signal, which together is in each text once.

    Args:
        texts: Position of each place's text, shape (places,), int64.
    """
    return 1 / np.bincount(texts)[texts]


def _of_number(folded: str, bare: str) -> list[str]:
    """Return the patterns of a chunk with digits."""
    found = []
    if _PHONE.fullmatch(bare):
        found.append(_kind_of_number(folded.lstrip("("), bare))
    elif bare.isalnum():
        found.append("letters and digits")
    price = _CURRENCY.search(folded)
    if price:
        found.append("price")
        if sum(map(str.isdigit, price[0].partition(".")[0])) > 3:
            found.append("price of four digits or more")
    for name, pattern in (("price per message", _PER_MESSAGE), ("masked number", _MASKED)):
        found += [name] * bool(pattern.search(folded))
    for name, pattern in (("time", _TIME), ("date", _DATE)):
        found += [name] * bool(pattern.match(bare))
    return [name for name in found if name]


def _kind_of_number(folded: str, bare: str) -> str:
    digits = "".join([c for c in bare if c.isdigit()])
    count = len(digits)
    if count < 3:
        return ""
    if folded.startswith(("+", "00")) and count > 8:
        return "international number"
    if count <= 8:
        return "number of 7 or 8" if count > 6 else f"number of {count}"
    if count >= 10 and digits.startswith(_TOLL_FREE):
        return "toll-free number"
    if count >= 10 and digits.startswith(_PREMIUM):
        return "premium number"
    return "mobile number" if digits.startswith("07") and count == 11 else "other long number"
