"""The credentials that the configuration in force speaks of."""

from __future__ import annotations

import threading

from keybrake import _config
from keybrake.credentials._store import Credentials

_lock = threading.Lock()
_made: tuple[_config.Config, Credentials] | None = None


def current() -> Credentials:
    """
    Return the credentials of the configuration in force; another configuration has its own.

    Raises:
        PolicyError: The configuration cannot be read.
    """
    global _made  # noqa: PLW0603 -- one configuration per process
    config = _config.current()
    with _lock:
        if _made is None or _made[0] is not config:
            _made = (config, Credentials(config.credentials, config.credentials_ttl))
        return _made[1]
