"""The vendors' credentials: fetched when first needed, kept for a while, fetched anew when refused."""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence

from keybrake.config.credential_locations import Place
from keybrake.config.references import Reference, Unreadable, parse
from keybrake.credentials.secret import Credential, Secret
from keybrake.credentials.source import SourceFailed, asking, source
from keybrake.errors import CredentialError
from keybrake.model import vault_key
from keybrake.model.waiting import Mutex, monotonic

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


class Kept(abc.ABC):
    """
    Credentials that are asked for once, by one thread, and then kept for a while.

    Args:
        ttl_s: For how many seconds one is not asked for again.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._asking: dict[tuple[int, str], Mutex] = {}
        self._kept: dict[str, tuple[Credential, float]] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._in_vain: dict[str, float] = {}

    def kept(self, vendor: str) -> Credential | None:
        """Return the credential if it need not be asked for; this never waits."""
        found = self._kept.get(vendor)
        return None if found is None or monotonic() >= found[1] else found[0]

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
        # What a thread of the parent held at a fork, nobody gives back in the child.
        asking = self._asking.setdefault((os.getpid(), vendor), Mutex())
        with asking:  # one asks, the others wait for what it gets
            kept = self.kept(vendor)
            now = monotonic()
            if kept is not None and (kept != refused or now < self._in_vain.get(vendor, 0)):
                return kept
            why, until = self._failed.get(vendor, ("", 0))
            if now < until:
                raise CredentialError(why)
            try:
                found = self._fetch(vendor, refused)
            except CredentialError as error:
                self._failed[vendor] = (str(error), monotonic() + _FAILS_FOR_S)
                raise
            now = monotonic()
            self._kept[vendor] = (found, now + self._ttl_s)
            if found == refused:
                self._in_vain[vendor] = now + _IN_VAIN_FOR_S
            return found

    @abc.abstractmethod
    def _fetch(self, vendor: str, refused: Credential | None) -> Credential:
        """Return what there is now, or raise ``CredentialError``."""


class Credentials(Kept):
    """
    The credential of each vendor.

    Args:
        table: By vendor, where it is kept; a vendor that is not there is looked for in the
            environment.
        ttl_s: For how many seconds one is not asked for again.
    """

    def __init__(self, table: Mapping[str, Place], ttl_s: float) -> None:
        super().__init__(ttl_s)
        self._table = table

    def _fetch(self, vendor: str, refused: Credential | None) -> Credential:  # noqa: ARG002 -- its place knows none
        if vendor in self._table:
            return _credential(self._table[vendor], f"credentials.{vendor}")
        unfit = ""
        for names in FROM_ENVIRONMENT.get(vendor, ()):
            if not all(os.environ.get(name) for name in names.values()):
                continue
            where = {part: parse(f"env://{name}", part) for part, name in names.items()}
            try:
                return _credential(where, vendor)
            except CredentialError as error:
                unfit = unfit or str(error)
        raise _no_credential(vendor, unfit)


def _no_credential(vendor: str, unfit: str) -> CredentialError:
    if unfit:
        return CredentialError(unfit)
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
    found, why = _asked(where)
    if why:
        # Raised here, where nothing in reach has what the place holds: an error takes along the frames
        # that it comes through, and keeps one that is being handled as its context, shown or not.
        msg = f"{whose}: {where.harmless} {why}"
        raise CredentialError(msg)
    return found


def _asked(where: Reference) -> tuple[str, str]:
    """Return what a place gives, or else why that is no credential."""
    token = asking.set(True)
    try:
        found = source(where.scheme).fetch(where)
    except (SourceFailed, Unreadable) as error:
        return "", str(error)
    except Exception as error:  # noqa: BLE001 -- a source of somebody else's; its words may be the secret's
        return "", f"cannot be read: {type(error).__name__} in its source"
    finally:
        asking.reset(token)
    what = _amiss(found)
    return ("", f"holds something that is no credential: {what}") if what else (found, "")


def _amiss(found: str) -> str | None:
    """Return why a text is no credential; None: it may be one."""
    if not found:
        return "it is empty"
    if found.startswith(vault_key.PREFIX):
        return "it is a vault key"
    if found.startswith("{"):
        return "it is a JSON object; name its key, as in #/api_key"
    if len(found) > _LONGEST:
        return f"it is longer than {_LONGEST} characters"
    if not found.isascii() or not found.isprintable() or " " in found:
        return "it has characters that no header may carry"
    return None
