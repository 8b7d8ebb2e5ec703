"""The credentials that the configuration in force speaks of."""

from __future__ import annotations

import logging
import os
import sys
import threading

from keybrake.config import parent_process, settings
from keybrake.credentials.broker import Brokered, Known
from keybrake.credentials.store import Credentials
from keybrake.errors import CredentialError
from keybrake.model import vault_key

_lock = threading.Lock()
# As it was when this process began: what its environment says later is no word of whoever started it.
_key = os.environ.get("KEYBRAKE_VAULT_KEY")
_made: tuple[settings.Config, Known] | None = None
_fetched_for: settings.Config | None = None
_log = logging.getLogger("keybrake")


def current() -> Known:
    """
    Return the credentials of the configuration in force; another configuration has its own.

    In a process that ``keybrake exec`` has started they are asked for there.

    Raises:
        PolicyError: The configuration cannot be read.
    """
    global _made  # noqa: PLW0603 -- one configuration per process
    config = settings.current()
    with _lock:
        if _made is None or _made[0] is not config:
            _made = (config, _known(config))
        return _made[1]


def fetch_at_start() -> None:
    """
    Fetch every credential that the configuration names, if this process was started under a vault key.

    It will need them, and a place that is down is better known now than in the middle of the work.
    What cannot be had is logged; a call that needs it is refused, or finds it there by then. Where
    the key came later, or another process issues keys, nothing is fetched before it is needed.

    Raises:
        PolicyError: The configuration cannot be read.
    """
    global _fetched_for  # noqa: PLW0603 -- once for each configuration
    known, config = current(), settings.current()
    of_use = _key is not None and vault_key.is_wellformed(_key)
    if not of_use or isinstance(known, Brokered) or _fetched_for is config:
        return
    _fetched_for = config
    if _is_in_a_loop():
        # Its tasks go on; a call that comes meanwhile waits for what is being fetched.
        threading.Thread(target=_fetch, args=(known, config), daemon=True).start()
    else:
        _fetch(known, config)


def _fetch(known: Known, config: settings.Config) -> None:
    for vendor in config.credentials:
        try:
            known.get(vendor)
        except CredentialError as error:
            _log.warning("%s; calls that need it are refused until it can be had", error)


def _is_in_a_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    if "asyncio" not in sys.modules:  # which takes a while to load
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _known(config: settings.Config) -> Known:
    if parent_process.address:
        # Whoever has lost the key gets nothing there, and does not go to the places by itself.
        return Brokered(parent_process.address, _key or "", config.credentials_ttl)
    return Credentials(config.credentials, config.credentials_ttl)
