"""Door 1: the hooks in the vendors' own SDKs, and how they are put in and taken out."""

from __future__ import annotations

import re

from keybrake.config import settings
from keybrake.config.config_file import NobodyInFront
from keybrake.errors import PolicyError
from keybrake.guard import audit_hook, caller
from keybrake.sdk import (
    http_layer,
    injection,
    patch,
    processes,
    programs,
    redirects,
    resend,
    stripe,
    threads,
    twilio,
    wires,
)

_HOOKS = (
    *stripe.HOOKS,
    *resend.HOOKS,
    *twilio.HOOKS,
    *http_layer.HOOKS,
    *redirects.HOOKS,
    *wires.HOOKS,
    *injection.HOOKS,
    *threads.HOOKS,
    *processes.HOOKS,
    *programs.HOOKS,
)

SUPPORTED = {"stripe": stripe.SUPPORTED, "resend": resend.SUPPORTED, "twilio": twilio.SUPPORTED}
"""Vendor → the versions of its SDK that can be guarded: from, below."""


def install() -> None:
    """See ``keybrake.install``."""
    audit_hook.switch_on()
    try:
        # A mistake in the configuration shows now rather than at the first call.
        settings.current()
    except NobodyInFront:
        # The program goes on, and its calls have to fail as this does.
        patch.install(_HOOKS)
        raise
    patch.install(_HOOKS)


def uninstall() -> None:
    """See ``keybrake.uninstall``."""
    if caller.open_runs.newest_ledger() is not None:
        msg = "uninstall() while a run is open would let its calls go out unguarded; leave the run first"
        raise PolicyError(msg)
    patch.uninstall()
    audit_hook.switch_off()


def status() -> list[tuple[str, str]]:
    """Return each hooked place and whether the hook is in: ``in place``, ``waiting``, ``missing``."""
    return patch.status(_HOOKS)


def is_on() -> bool:
    """Return whether the hooks do anything in this process."""
    return patch.is_on()


def is_supported(vendor: str, version: str) -> bool:
    """Return whether a version of a vendor's SDK can be guarded."""
    low, below = SUPPORTED[vendor]
    major = re.match(r"[0-9]+", version)
    return major is not None and low <= int(major[0]) < below
