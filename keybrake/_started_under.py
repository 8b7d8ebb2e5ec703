"""Which vault keys bind this process: the one in its environment, and the one it was started with."""

from __future__ import annotations

import os

from keybrake import _in_front

AMBIENT_KEY = "KEYBRAKE_VAULT_KEY"

# Read once at import: the process stays under the key it was started with, even if the agent deletes
# or changes the variable later.
_at_start = os.environ.get(AMBIENT_KEY)


def vault_keys() -> tuple[str, ...]:
    """Return the vault keys that bind this process: its environment's first, then that of its start."""
    now = os.environ.get(AMBIENT_KEY)
    found = (now,) if now == _at_start else (now, _at_start)
    return tuple(key for key in found if key is not None)


def lost_its_key() -> bool:
    """Return whether `keybrake exec` started this process and its vault key is gone."""
    return _in_front.address is not None and not vault_keys()
