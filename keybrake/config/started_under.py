"""The vault keys that bind this process: from its environment, now and at start, and its parent."""

from __future__ import annotations

import os

from keybrake.config import parent_process

AMBIENT_KEY = "KEYBRAKE_VAULT_KEY"

# Read once at import: the key at start binds the process even if the agent changes the variable later.
_at_start = os.environ.get(AMBIENT_KEY)


_handed_on: tuple[str, ...] = ()


def vault_keys() -> tuple[str, ...]:
    """
    Return the vault keys that bind this process.

    The order: the key in its environment now, the key at its start, the keys of the process that
    started it.
    """
    found = (os.environ.get(AMBIENT_KEY), _at_start, *_handed_on)
    return tuple(dict.fromkeys(key for key in found if key is not None))


def bind_by(keys: tuple[str, ...]) -> None:
    """Bind this process by the keys of the process that started it, for as long as it lives."""
    global _handed_on  # noqa: PLW0603 -- one set of keys per process
    _handed_on = tuple(dict.fromkeys((*_handed_on, *keys)))


def lost_its_key() -> bool:
    """Return whether ``keybrake exec`` started this process and its vault key is gone."""
    return parent_process.address is not None and not vault_keys()
