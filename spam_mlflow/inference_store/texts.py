"""What is kept of a message's text: nothing, a keyed hash, or the text in one of three forms."""

import base64
import dataclasses
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from typing import Literal

from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import Inference, TextForm

KEY_VARIABLE = "SPAM_STORE_KEY"
"""Environment variable with the secret that hashes and encryption are made with."""

TextSetting = Literal["auto", "off", "hmac", "redacted", "encrypted", "plain"]

_SHORTEST_KEY = 16  # characters
_KEY_NAME = 8  # hexadecimal digits of a keyed hash that tell which key it was made with
_NONCE = 12  # bytes, of AES-GCM
# What names a person or an account. Each match keeps its kind, since that is what classifiers see.
# Repetitions are bounded or start where nothing like them is, or a text of 200,000 letters would
# take minutes.
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_LINK = re.compile(r"(?i)\b(https?://|www\.)[^\s<>\"']+")
_NUMBER = re.compile(r"\d{2,}")


@dataclass(frozen=True)
class SealedText:
    """What is stored of a text; see the attributes of `Inference` that begin with "text"."""

    form: TextForm
    text: str | None
    digest: str | None
    length: int | None


@dataclass(frozen=True)
class TextPolicy:
    """How texts are stored, and how what is stored is read again.

    Attributes:
        form: What is stored of a text.
        key: The secret; None where there is none.
        longest: Bytes of a text that are kept; None for all.
    """

    form: TextForm
    key: bytes | None = None
    longest: int | None = None

    @classmethod
    def read(cls, setting: TextSetting) -> "TextPolicy":
        """Return the policy of a setting, with the key of the environment.

        Args:
            setting: "auto" means "hmac" where there is a key, else "off".

        Raises:
            UserError: If the key is missing or too short.
        """
        secret = os.environ.get(KEY_VARIABLE, "")
        if secret and len(secret) < _SHORTEST_KEY:
            raise UserError(
                f"{KEY_VARIABLE} has {len(secret)} characters; give it at least {_SHORTEST_KEY}, "
                "such as those that `openssl rand -hex 32` prints"
            )
        if setting in ("hmac", "encrypted") and not secret:
            raise UserError(
                f"store.text={setting} needs a secret in the environment variable {KEY_VARIABLE}, "
                "such as `openssl rand -hex 32` prints; store.text=off needs none"
            )
        form: TextForm = ("hmac" if secret else "off") if setting == "auto" else setting
        return cls(form, secret.encode() if secret else None)

    def seal(self, text: str | None, inference_id: str) -> SealedText:
        """Return what is stored of a text.

        Args:
            text: The message; None where it is not known.
            inference_id: Of the inference, which encrypted text is bound to.
        """
        if text is None:
            return SealedText("off", None, None, None)
        digest = self.digest(text) if self.form != "off" else None
        return SealedText(self.form, self._stored(text, inference_id), digest, len(text))

    def _stored(self, text: str, inference_id: str) -> str | None:
        kept = _encodable(text, self.longest)
        if self.form == "plain":
            return kept
        if self.form == "redacted":  # which may make it longer
            return _encodable(redacted(kept), self.longest)
        return self._encrypted(kept, inference_id) if self.form == "encrypted" else None

    def reveal(self, inference: Inference) -> str | None:
        """Return the text of an inference, None where it is not stored or the key is another."""
        if inference.text_form != "encrypted" or inference.text is None:
            return inference.text
        return self._decrypted(inference.text, inference.id)

    def digest(self, text: str) -> str | None:
        """Return the name of the key and the keyed hash of a text, in hex; None without a key."""
        if self.key is None:
            return None
        data = text.encode("utf-8", "surrogatepass")
        found = hmac.new(self._derived("hash"), data, hashlib.sha256).hexdigest()
        return f"{self._derived('name').hex()[:_KEY_NAME]}-{found}"

    def is_of(self, inference: Inference, text: str) -> bool | None:
        """Return whether an inference is of a text; None if what is stored cannot tell.

        That is so of a hash or an encryption by another key, or where nothing is stored.

        Args:
            inference: What is stored.
            text: The message, to the letter.
        """
        digest, stored = self.digest(text), inference.text_hmac
        if digest is not None and stored is not None and "-" not in stored:
            # That of an earlier release does not name its key, which is taken for this one.
            stored = f"{digest[:_KEY_NAME]}-{stored}"
        if digest is not None and digest == stored:
            return True
        kept = self.reveal(inference)
        if kept is not None:
            form: TextForm = "redacted" if inference.text_form == "redacted" else "plain"
            sealed = dataclasses.replace(self, form=form).seal(text, "")
            is_whole = self.longest is None or len(text.encode(errors="replace")) <= self.longest
            return kept == sealed.text and (is_whole or inference.text_length == sealed.length)
        if digest is None or stored is None:
            return None
        return False if stored[:_KEY_NAME] == digest[:_KEY_NAME] else None

    def _derived(self, use: str) -> bytes:
        """Return a key for one use, so that no key has two."""
        assert self.key is not None
        return hmac.new(self.key, f"spam_mlflow {use}".encode(), hashlib.sha256).digest()

    def _encrypted(self, text: str, inference_id: str) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        cipher = AESGCM(self._derived("encryption"))
        sealed = cipher.encrypt(nonce, text.encode(), inference_id.encode())
        return base64.b64encode(nonce + sealed).decode("ascii")

    def _decrypted(self, stored: str, inference_id: str) -> str | None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if self.key is None:
            return None
        raw = base64.b64decode(stored)
        cipher = AESGCM(self._derived("encryption"))
        try:
            data = cipher.decrypt(raw[:_NONCE], raw[_NONCE:], inference_id.encode())
        except InvalidTag:
            return None
        return data.decode()


def redacted(text: str) -> str:
    """Return a text whose addresses, links and numbers of two or more digits are replaced.

    Names and whatever else a message says of a person stay.
    """
    text = _EMAIL.sub("name@example.com", text)
    text = _LINK.sub(r"\1example.com", text)
    return _NUMBER.sub(lambda found: "0" * len(found[0]), text)


def _encodable(text: str, longest: int | None = None) -> str:
    """Return what UTF-8 can hold of a text, since JSON can say half of a surrogate pair.

    Args:
        text: Any string.
        longest: Bytes after which it is cut; None for nowhere.
    """
    return text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore")
