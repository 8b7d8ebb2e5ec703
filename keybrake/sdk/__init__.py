"""Door 1: hooks in the vendors' own SDKs. What is hooked, and how to hook and unhook it."""

from __future__ import annotations

import re

from keybrake import _audit, _config, _scope
from keybrake._config_file import NobodyInFront
from keybrake.errors import PolicyError
from keybrake.sdk import (
    _http_layer,
    _injection,
    _patch,
    _processes,
    _programs,
    _redirects,
    _threads,
    _wires,
    resend,
    stripe,
    twilio,
)

_HOOKS = (
    *stripe.HOOKS,
    *resend.HOOKS,
    *twilio.HOOKS,
    *_http_layer.HOOKS,
    *_redirects.HOOKS,
    *_wires.HOOKS,
    *_injection.HOOKS,
    *_threads.HOOKS,
    *_processes.HOOKS,
    *_programs.HOOKS,
)

SUPPORTED = {"stripe": stripe.SUPPORTED, "resend": resend.SUPPORTED, "twilio": twilio.SUPPORTED}
"""Vendor → the versions of its SDK that can be guarded: from, below."""


def install() -> None:
    """See ``keybrake.install``."""
    _audit.switch_on()
    try:
        # A mistake in the configuration shows now rather than at the first call.
        _config.current()
    except NobodyInFront:
        # The program goes on, and its calls have to fail as this does.
        _patch.install(_HOOKS)
        raise
    _patch.install(_HOOKS)


def uninstall() -> None:
    """See ``keybrake.uninstall``."""
    if _scope.open_runs.newest_ledger() is not None:
        msg = "uninstall() while a run is open would let its calls go out unguarded; leave the run first"
        raise PolicyError(msg)
    _patch.uninstall()
    _audit.switch_off()


def status() -> list[tuple[str, str]]:
    """Return each hooked place and whether the hook is in: ``in place``, ``waiting``, ``missing``."""
    return _patch.status(_HOOKS)


def is_on() -> bool:
    """Return whether the hooks do anything in this process."""
    return _patch.is_on()


def is_supported(vendor: str, version: str) -> bool:
    """Return whether a version of a vendor's SDK can be guarded."""
    low, high = SUPPORTED[vendor]
    major, minor, *_ = [*map(int, re.findall(r"[0-9]+", version)), 0, 0]
    return low <= (major, minor) < high
