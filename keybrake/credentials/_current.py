"""The credentials that the configuration in force speaks of."""

from __future__ import annotations

import os
import threading

from keybrake import _config, _in_front
from keybrake.credentials._broker import Brokered, Known
from keybrake.credentials._store import Credentials

_lock = threading.Lock()
# As it was when this process began: what its environment says later is no word of whoever started it.
_key = os.environ.get("KEYBRAKE_VAULT_KEY")
_made: tuple[_config.Config, Known] | None = None


def current() -> Known:
    """
    Return the credentials of the configuration in force; another configuration has its own.

    In a process that ``keybrake exec`` has started they are asked for there.

    Raises:
        PolicyError: The configuration cannot be read.
    """
    global _made  # noqa: PLW0603 -- one configuration per process
    config = _config.current()
    with _lock:
        if _made is None or _made[0] is not config:
            _made = (config, _known(config))
        return _made[1]


def _known(config: _config.Config) -> Known:
    if _in_front.address and _key:
        return Brokered(_in_front.address, _key, config.credentials_ttl)
    return Credentials(config.credentials, config.credentials_ttl)
