"""Where a vendor's credential may go: the vendor's own hosts, and those the operator named."""

from __future__ import annotations

import re

from keybrake import _config

# Sources, noted 2026-11-23: stripe-python 16.1.0, twilio-python 9.13.0 (product[[.edge].region]),
# resend-python 2.52.0.
_OWN = {
    "stripe": re.compile(r"https://(api|files|connect|meter-events)\.stripe\.com"),
    "twilio": re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+){0,2}\.twilio\.com"),
    "resend": re.compile(r"https://api\.resend\.com"),
}


def is_own(vendor: str, origin: str) -> bool:
    """Return whether *origin*, scheme and host and port, is the vendor's, or the operator's word for it."""
    own = _OWN.get(vendor)
    if own is not None and own.fullmatch(origin):
        return True
    return origin in _config.current().extra_hosts.get(vendor, ())
