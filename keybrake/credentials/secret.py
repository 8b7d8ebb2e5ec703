"""A vendor's secret in this process: usable, and not to be seen by accident."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple, Self, SupportsIndex

from keybrake.model import vault_key

_SHOWN = "<credential>"


class Secret(str):
    """
    A text that does not show itself: not in a ``repr``, so not in a traceback with locals or a log.

    Whoever sends it has the text itself; whoever copies it has the same object, and whoever pickles it
    has something that is no secret.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _SHOWN

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        # Whoever cuts a long text to show its beginning shows nothing of this one.
        return Secret(super().__getitem__(key))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_SHOWN,)


class Credential(NamedTuple):
    """A vendor's secret, and the user name that goes with it where there is one."""

    secret: str
    user: str = ""

    def __repr__(self) -> str:
        return _SHOWN

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_SHOWN,)

    @property
    def fingerprint(self) -> str:
        """Return what tells it from others; see ``_token.fingerprint``."""
        return vault_key.fingerprint(self.user + self.secret)

    @property
    def authorization(self) -> str:
        """Return the header that carries it."""
        if not self.user:
            return Secret(f"Bearer {self.secret}")
        pair = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        return Secret(f"Basic {pair}")
