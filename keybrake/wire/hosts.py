"""Where a vendor's credential may go: the vendor's own hosts, and those the operator named."""

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
    A request was about to leave that is another than was decided on; it never did.

    This is how the HTTP libraries are stopped. Whoever made the call gets a ``HostNotAllowed`` of the
    guard's, which knows of the run.

    Args:
        why: What it would have been.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why, reason="host_not_allowed")

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again from the words."""
        return type(self), (self.message,)


# Sources, noted 2026-11-23: stripe-python 16.1.0, twilio-python 9.13.0 (product[[.edge].region]),
# resend-python 2.52.0.
_OWN = {
    "stripe": re.compile(r"https://(api|files|connect|meter-events)\.stripe\.com(:443)?"),
    "twilio": re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+){0,2}\.twilio\.com(:443)?"),
    "resend": re.compile(r"https://api\.resend\.com(:443)?"),
}


def is_own(vendor: str, origin: str) -> bool:
    """Return whether *origin*, scheme and host and port, is the vendor's, or the operator's word for it."""
    own = _OWN.get(vendor)
    if own is not None and own.fullmatch(origin):
        return True
    return origin in settings.current().extra_hosts.get(vendor, ())


def vendors_at(host: str, port: object = None) -> list[str]:
    """
    Return the vendors whose host a name or address is, by pattern or by the operator's word.

    A host of the vendor's counts at every port, one that the operator named at its own port only:
    other services listen at the same address.
    """
    name = _canonical(host)
    for vendor, own in _OWN.items():
        if own.fullmatch(f"https://{name}") and name not in _FOR_PEOPLE:
            return [vendor]
    named = settings.current().extra_hosts.items()
    return [it for it, origins in named if any(_listens_at(one, name, port) for one in origins)]


# Sites of the vendors' that match the pattern of their API's hosts.
_FOR_PEOPLE = frozenset({"www.twilio.com", "console.twilio.com"})


def _canonical(host: str) -> str:
    """Return a host as resolvers read it: small letters, no dot at its end, ASCII."""
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
    """Return scheme, host and port of an absolute URL, to the letter."""
    return "/".join(url.split("/", 3)[:3])


def objection(vendor: str, url: str) -> tuple[str, str] | None:
    """
    Return why the vendor's credential may not go to *url*, with the reason's code; None: it may.

    Whatever is odd about the address, such as a user part or capitals, is not the vendor's.
    """
    origin = origin_of(url)
    if not is_own(vendor, origin):
        return "host_not_allowed", f"{origin!a:.100} is no host of {vendor}'s"
    return through(_of_environment(origin))


def through(proxies: Iterable[str]) -> tuple[str, str] | None:
    """Return why a credential may not go through *proxies*, as in ``objection``."""
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
    """Return where a proxy is, without whatever says who may use it; ``?`` if two could read it differently."""
    parts = _PROXY.fullmatch(proxy)
    if parts is None:
        return "?"
    scheme = (parts["scheme"] or "http").lower()
    return f"{scheme}://{parts['host'].lower()}{parts['port'] or ''}"


def _names_no_proxy() -> bool:
    """Return whether no variable is about a proxy; a hundredth of the work of reading them all."""
    if not os.supports_bytes_environ:
        return False
    return not any(name[-6:].lower() == b"_proxy" for name in os.environb)


def _of_environment(origin: str) -> list[str]:
    """Return the proxies that HTTP clients would take from the environment for *origin*."""
    if _names_no_proxy():
        return []
    proxies = getproxies_environment()
    scheme, _, host = origin.partition("://")
    # The names under which requests and httpx look for one.
    names = (scheme, "all", f"{scheme}://{host}", f"all://{host}")
    found = [proxies[name] for name in names if proxies.get(name)]
    return [] if not found or proxy_bypass_environment(host, proxies) else found
