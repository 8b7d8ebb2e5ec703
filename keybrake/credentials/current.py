"""The credentials that belong to the configuration in force."""

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
# Read once at import. Later changes to os.environ come from the agent, not the operator.
_key = os.environ.get("KEYBRAKE_VAULT_KEY")
_made: tuple[settings.Config, Known] | None = None
_fetched_for: settings.Config | None = None
_log = logging.getLogger("keybrake")


def current() -> Known:
    """
    Return the provider of credentials; a new configuration gets a new provider.

    In a process that ``keybrake exec`` started, it asks ``keybrake exec`` for them.

    Raises:
        PolicyError: The configuration cannot be read, or is invalid.
    """
    global _made  # noqa: PLW0603 -- one configuration per process
    config = settings.current()
    with _lock:
        if _made is None or _made[0] is not config:
            _made = (config, _known(config))
        return _made[1]


def fetch_at_start() -> None:
    """
    Fetch every configured credential now, if this process was started under a vault key.

    Such a process needs them soon, and a source that is down should be noticed before the work
    starts. A failure is only logged: the source may be up again when a call needs the credential;
    otherwise that call is refused. Other processes fetch a credential when they first need it.

    Raises:
        PolicyError: The configuration cannot be read, or is invalid.
    """
    global _fetched_for  # noqa: PLW0603 -- once for each configuration
    known, config = current(), settings.current()
    under_key = _key is not None and vault_key.is_wellformed(_key)
    if not under_key or isinstance(known, Brokered) or _fetched_for is config:
        return
    _fetched_for = config
    if _is_in_a_loop():
        # Do not block the event loop. A call that needs a credential meanwhile waits for this thread.
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
    if "asyncio" not in sys.modules:  # avoid the import, which is slow
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _known(config: settings.Config) -> Known:
    if parent_process.address:
        # Without its key this process gets no credentials from keybrake exec. It must not read the
        # sources itself instead, so there is no fall-back.
        return Brokered(parent_process.address, _key or "", config.credentials_ttl)
    return Credentials(config.credentials, config.credentials_ttl)
