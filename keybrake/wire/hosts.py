"""Check the destination of a credential: vendor hosts, extra hosts and proxies in keybrake.toml."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import (  # type: ignore[attr-defined]  # typeshed knows no proxy_bypass_environment
    getproxies_environment,
    proxy_bypass_environment,
)

from keybrake.config import settings
from keybrake.errors import HostNotAllowed


class Elsewhere(HostNotAllowed):
    """
    Stop a request that differs from the one the guard decided on; it was not sent.

    Raised inside the HTTP library. The guard catches it and raises a ``HostNotAllowed`` that names
    the run to the caller.

    Args:
        why: How the request differs.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why, reason="host_not_allowed")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the message, the only argument."""
        return type(self), (self.message,)


# Sources, noted 2026-11-23: stripe-python 16.1.0, twilio-python 9.13.0 (product[[.edge].region]),
# resend-python 2.52.0.
_OWN = {
    "stripe": re.compile(r"https://(api|files|connect|meter-events)\.stripe\.com(:443)?"),
    "twilio": re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+){0,2}\.twilio\.com(:443)?"),
    "resend": re.compile(r"https://api\.resend\.com(:443)?"),
}


def is_own(vendor: str, origin: str) -> bool:
    """Return whether *origin* (scheme, host, port) is the vendor's, or listed in ``extra_hosts``."""
    own = _OWN.get(vendor)
    if own is not None and own.fullmatch(origin):
        return True
    return origin in settings.current().extra_hosts.get(vendor, ())


def vendors_at(host: str, port: object = None) -> list[str]:
    """
    Return the vendors that a host name or address belongs to.

    A vendor's own host counts at every port. An extra host counts only at its configured port,
    because other services may listen at the same address, such as localhost.
    """
    name = _canonical(host)
    for vendor, own in _OWN.items():
        if own.fullmatch(f"https://{name}") and name not in _FOR_PEOPLE:
            return [vendor]
    named = settings.current().extra_hosts.items()
    return [it for it, origins in named if any(_listens_at(one, name, port) for one in origins)]


# Websites of vendors, not APIs. Their names match the pattern of the API hosts.
_FOR_PEOPLE = frozenset({"www.twilio.com", "console.twilio.com"})


def _canonical(host: str) -> str:
    """Return a host name as a resolver reads it: lower case, ASCII, no trailing dot."""
    name = host.lower().rstrip(".")
    if not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("idna").decode("ascii").lower()
    return name


def _listens_at(origin: str, name: str, port: object) -> bool:
    parts = urlsplit(origin)
    at = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.hostname == name and (port is None or str(port) in (str(at), parts.scheme))


def origin_of(url: str) -> str:
    """Return scheme, host and port of an absolute URL, exactly as written."""
    return "/".join(url.split("/", 3)[:3])


def objection(vendor: str, url: str) -> tuple[str, str] | None:
    """
    Return reason code and text if the credential must not go to *url*; None: it may.

    The host must match exactly: a URL with a user part or capital letters is refused.
    """
    origin = origin_of(url)
    if not is_own(vendor, origin):
        return "host_not_allowed", f"{origin!a:.100} is no host of {vendor}'s"
    return through(_of_environment(origin))


def through(proxies: Iterable[str]) -> tuple[str, str] | None:
    """Return reason code and text if a credential must not pass *proxies*; None: it may."""
    named = settings.current().proxies
    for proxy in proxies:
        place = _place(proxy)
        if place not in named:
            words = (
                f"it would go through the proxy {place!a:.100}, which the operator has not named"
            )
            return "host_not_allowed", words
    return None


_PROXY = re.compile(
    r"(?:(?P<scheme>[a-zA-Z0-9+]+)://)?(?:[^/?#@\\\s]*@)?"
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?/?"
)


def _place(proxy: str) -> str:
    """Return the origin of a proxy without user and password; ``?`` if the URL is ambiguous."""
    parts = _PROXY.fullmatch(proxy)
    if parts is None:
        return "?"
    scheme = (parts["scheme"] or "http").lower()
    return f"{scheme}://{parts['host'].lower()}{parts['port'] or ''}"


def _names_no_proxy() -> bool:
    """Return whether no proxy variable is set; 100 times faster than ``getproxies_environment()``."""
    if not os.supports_bytes_environ:
        return False
    return not any(name[-6:].lower() == b"_proxy" for name in os.environb)


def _of_environment(origin: str) -> list[str]:
    """Return the proxies that HTTP clients would use for *origin*, from the environment."""
    if _names_no_proxy():
        return []
    proxies = getproxies_environment()
    scheme, _, host = origin.partition("://")
    # The keys that requests and httpx look up.
    names = (scheme, "all", f"{scheme}://{host}", f"all://{host}")
    found = [proxies[name] for name in names if proxies.get(name)]
    return [] if not found or proxy_bypass_environment(host, proxies) else found
