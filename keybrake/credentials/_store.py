"""The vendors' credentials: fetched when first needed, kept for a while, fetched anew when refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from keybrake import _token
from keybrake._places import Place
from keybrake._references import Reference, Unreadable, parse
from keybrake.credentials._secret import Credential, Secret
from keybrake.credentials._source import SourceFailed, source
from keybrake.errors import CredentialError

# What may not stand in a header, or shows that something else than a secret was fetched.
_LONGEST = 1024

# Seconds for which a source that failed is not asked again: whoever waited behind the one that asked
# need not wait for the same failure once more.
_FAILS_FOR_S = 1.0
# The same for one that still had, when asked anew, what the vendor had refused.
_IN_VAIN_FOR_S = 5.0

# Where a credential is if nobody has said so: in the variables the vendors' own tools read.
FROM_ENVIRONMENT: Mapping[str, Sequence[Mapping[str, str]]] = {
    "stripe": ({"secret": "STRIPE_API_KEY"}, {"secret": "STRIPE_SECRET_KEY"}),
    "twilio": (
        {"user": "TWILIO_ACCOUNT_SID", "secret": "TWILIO_AUTH_TOKEN"},
        {"user": "TWILIO_API_KEY", "secret": "TWILIO_API_SECRET"},
    ),
    "resend": ({"secret": "RESEND_API_KEY"},),
}


class Credentials:
    """
    The credential of each vendor.

    Args:
        table: By vendor, where it is kept; a vendor that is not there is looked for in the
            environment.
        ttl_s: For how many seconds one is not asked for again.
    """

    def __init__(self, table: Mapping[str, Place], ttl_s: float) -> None:
        self._table = table
        self._ttl_s = ttl_s
        self._guard = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[Credential, float]] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._in_vain: dict[str, float] = {}

    def kept(self, vendor: str) -> Credential | None:
        """Return the credential if it need not be asked for; this never waits."""
        found = self._kept.get(vendor)
        return None if found is None or time.monotonic() >= found[1] else found[0]

    def get(self, vendor: str, refused: Credential | None = None) -> Credential:
        """
        Return the credential of a vendor.

        Args:
            vendor: Its name.
            refused: What the vendor did not accept: it is asked for anew, unless somebody has done
                so meanwhile.

        Raises:
            CredentialError: It cannot be had. The text names the vendor and the place.
        """
        with self._guard:
            asking = self._asking.setdefault(vendor, threading.Lock())
        with asking:  # one asks, the others wait for what it gets
            kept = self.kept(vendor)
            now = time.monotonic()
            if kept is not None and (kept != refused or now < self._in_vain.get(vendor, 0)):
                return kept
            why, until = self._failed.get(vendor, ("", 0))
            if now < until:
                raise CredentialError(why)
            try:
                found = self._fetch(vendor)
            except CredentialError as error:
                self._failed[vendor] = (str(error), time.monotonic() + _FAILS_FOR_S)
                raise
            now = time.monotonic()
            self._kept[vendor] = (found, now + self._ttl_s)
            if found == refused:
                self._in_vain[vendor] = now + _IN_VAIN_FOR_S
            return found

    def _fetch(self, vendor: str) -> Credential:
        if vendor in self._table:
            return _credential(self._table[vendor], f"credentials.{vendor}")
        for names in FROM_ENVIRONMENT.get(vendor, ()):
            where = {part: parse(f"env://{name}", part) for part, name in names.items()}
            try:
                return _credential(where, vendor)
            except CredentialError:
                continue
        raise _no_credential(vendor)


def _no_credential(vendor: str) -> CredentialError:
    choices = FROM_ENVIRONMENT.get(vendor, ())
    names = " and ".join(choices[0].values()) if choices else "it"
    return CredentialError(
        f"no credential for {vendor}; set {names}, or say where it is kept under [credentials] in "
        f"keybrake.toml"
    )


def _credential(where: Place, whose: str) -> Credential:
    values = {part: _value(at, whose) for part, at in where.items()}
    return Credential(Secret(values["secret"]), values.get("user", ""))


def _value(where: Reference | str, whose: str) -> str:
    if isinstance(where, str):
        return where
    try:
        found = source(where.scheme).fetch(where)
    except (SourceFailed, Unreadable) as why:
        # What it was raised from may have the secret in one of its frames.
        msg = f"{whose}: {where} {why}"
        raise CredentialError(msg) from None
    fit = 0 < len(found) <= _LONGEST and found.isascii() and found.isprintable()
    if not fit or found.startswith(_token.PREFIX):
        msg = f"{whose}: {where} holds something that is no credential: {_what(found)}"
        raise CredentialError(msg)
    return found


def _what(found: str) -> str:
    if not found:
        return "it is empty"
    if found.startswith(_token.PREFIX):
        return "it is a vault key"
    if len(found) > _LONGEST:
        return f"it is longer than {_LONGEST} characters"
    return "it has characters that no header may carry"
