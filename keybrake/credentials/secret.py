"""Wrappers that keep a vendor's secret out of logs, tracebacks and pickles."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple, Self, SupportsIndex

from keybrake.model import vault_key

_SHOWN = "<credential>"


class Secret(str):
    """
    A string whose ``repr`` is redacted, so that tracebacks with locals and logs do not reveal it.

    Sent over HTTP it is the plain text. Copying returns the same object. Pickling stores a
    placeholder instead of the secret.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _SHOWN

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        # Tools such as reprlib and Sentry cut long strings before they show them: redact slices too.
        return Secret(super().__getitem__(key))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_SHOWN,)


class Credential(NamedTuple):
    """A vendor's secret, and its user name if the vendor needs one."""

    secret: str
    user: str = ""

    def __repr__(self) -> str:
        return _SHOWN

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_SHOWN,)

    @property
    def fingerprint(self) -> str:
        """Return an identifier that does not reveal it; see ``vault_key.fingerprint``."""
        return vault_key.fingerprint(self.user + self.secret)

    @property
    def authorization(self) -> str:
        """Return the value of the ``Authorization`` header."""
        if not self.user:
            return Secret(f"Bearer {self.secret}")
        pair = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        return Secret(f"Basic {pair}")
