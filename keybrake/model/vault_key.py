"""What a vault key looks like: making one, telling a forged one, and what the ledger keeps of it."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import Self

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARACTERS = 43  # 256 bits in base 62
_CHECK_CHARACTERS = 6  # 32 bits in base 62
_SHAPE = re.compile(r"kb_live_[0-9A-Za-z]{49}")

PREFIX = "kb_"


class VaultKey(str):
    """
    A token that stands for a run and travels to other processes.

    It is an ordinary string wherever one is needed; only its ``repr`` is redacted, so that it
    does not end up in a log or a traceback by accident.

    Attributes:
        run_id: The run it stands for.
    """

    __slots__ = ("run_id",)

    run_id: str

    def __new__(cls, token: str, run_id: str) -> Self:
        """Give a token the id of its run."""
        key = super().__new__(cls, token)
        key.run_id = run_id
        return key

    def __repr__(self) -> str:
        return f"<VaultKey {self[:12]}… of {self.run_id}>"

    def __reduce__(self) -> tuple[type[VaultKey], tuple[str, str]]:
        return VaultKey, (str(self), self.run_id)


def make() -> str:
    """Return a new token: 256 random bits and a checksum, 57 characters."""
    secret = _base62(secrets.randbits(256), _SECRET_CHARACTERS)
    return f"kb_live_{secret}{_checksum(secret)}"


def is_wellformed(token: str) -> bool:
    """Return whether *token* has the shape and the checksum of a vault key."""
    if not _SHAPE.fullmatch(token):
        return False
    body = token.removeprefix("kb_live_")
    return _checksum(body[:_SECRET_CHARACTERS]) == body[_SECRET_CHARACTERS:]


def vault_key_in(slot: object) -> str | None:
    """
    Return the vault key in an SDK's key slot; None: something else stands there.

    With a space before it, or as bytes, it is one still, and then one that nobody made: it must not
    go out as if it were a credential.
    """
    if isinstance(slot, bytes):
        slot = slot.decode("latin-1")
    return slot if isinstance(slot, str) and slot.strip().startswith(PREFIX) else None


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token: all that the ledger keeps of it."""
    return hashlib.sha256(token.encode("ascii")).digest()


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode("ascii")), _CHECK_CHARACTERS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def fingerprint(credential: str) -> str:
    """
    Return 16 hex digits that tell one vendor credential from another, and nothing else of it.

    An idempotency key means the same call only to the same owner; what the owner's secret is,
    the ledger must not know.
    """
    return hashlib.sha256(
        b"keybrake credential\0" + credential.encode("utf-8", "surrogatepass")
    ).hexdigest()[:16]
