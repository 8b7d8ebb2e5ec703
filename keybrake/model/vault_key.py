"""The format of vault keys: create one, check its checksum, and hash it for the ledger."""

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

    It works like any string; only its ``repr`` is redacted, so that logs and tracebacks do not
    reveal it.

    Attributes:
        run_id: Id of that run.
    """

    __slots__ = ("run_id",)

    run_id: str

    def __new__(cls, token: str, run_id: str) -> Self:
        """Create a string that also carries the id of its run."""
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
    Return the vault key in an SDK's key slot; None: the slot holds no vault key.

    A vault key as bytes, or with surrounding spaces, also counts: it is refused later as malformed.
    If it passed as a credential, the SDK would send it to the vendor.
    """
    if isinstance(slot, bytes):
        slot = slot.decode("latin-1")
    return slot if isinstance(slot, str) and slot.strip().startswith(PREFIX) else None


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token; the ledger stores only this hash."""
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
    Return 16 hex digits that identify a vendor credential without revealing it.

    The ledger needs them because the same idempotency key under another credential is another call.
    """
    return hashlib.sha256(
        b"keybrake credential\0" + credential.encode("utf-8", "surrogatepass")
    ).hexdigest()[:16]
