"""A cache of credentials: fetched on first use, kept for a TTL, fetched again if refused."""

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

# A longer text is not a credential: probably a whole file or a web page was fetched.
_LONGEST = 1024

# Back-off in seconds after a source failed. Threads that waited for that fetch get its error instead
# of waiting for the same failure again.
_FAILS_FOR_S = 1.0
# Back-off in seconds after a source returned the same credential that the vendor had refused.
_SAME_FOR_S = 5.0

# Where to look for a credential that is not configured: the variables of the vendors' own tools.
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
    A cache of credentials, filled by one thread at a time per vendor.

    Args:
        ttl_s: Seconds for which a credential is cached.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._fetching: dict[tuple[int, str], Mutex] = {}
        self._kept: dict[str, tuple[Credential, float]] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._same_until: dict[str, float] = {}

    def kept(self, vendor: str) -> Credential | None:
        """Return the cached credential, without waiting; None: it is not cached."""
        found = self._kept.get(vendor)
        return None if found is None or monotonic() >= found[1] else found[0]

    def get(self, vendor: str, refused: Credential | None = None) -> Credential:
        """
        Return the credential of a vendor.

        Args:
            vendor: Its name.
            refused: The credential that the vendor rejected. It is fetched again, unless another
                thread has fetched a new one meanwhile.

        Raises:
            CredentialError: It cannot be fetched. The text names the vendor and the source.
        """
        # One lock per process: if a thread of the parent held it at a fork, no thread of the child
        # could release it.
        fetching = self._fetching.setdefault((os.getpid(), vendor), Mutex())
        with fetching:  # one thread fetches, the others wait for its result
            kept = self.kept(vendor)
            now = monotonic()
            if kept is not None and (kept != refused or now < self._same_until.get(vendor, 0)):
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
                self._same_until[vendor] = now + _SAME_FOR_S
            return found

    @abc.abstractmethod
    def _fetch(self, vendor: str, refused: Credential | None) -> Credential:
        """Return the current credential, or raise ``CredentialError``."""


class Credentials(Kept):
    """
    Credentials from the configured sources.

    Args:
        table: Vendor → place of its credential. For a vendor without an entry, the environment
            variables in ``FROM_ENVIRONMENT`` are read.
        ttl_s: Seconds for which a credential is cached.
    """

    def __init__(self, table: Mapping[str, Place], ttl_s: float) -> None:
        super().__init__(ttl_s)
        self._table = table

    def _fetch(self, vendor: str, refused: Credential | None) -> Credential:  # noqa: ARG002 -- a source is always read afresh
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
    found, why = _fetched(where)
    if why:
        # Raise outside the except block, in a frame without the secret: tracebacks keep frame locals
        # and __context__.
        msg = f"{whose}: {where.harmless} {why}"
        raise CredentialError(msg)
    return found


def _fetched(where: Reference) -> tuple[str, str]:
    """Return the secret and an empty text, or an empty secret and the reason of the failure."""
    token = asking.set(True)
    try:
        found = source(where.scheme).fetch(where)
    except (SourceFailed, Unreadable) as error:
        return "", str(error)
    except Exception as error:  # noqa: BLE001 -- a third-party source; its error text may quote the secret
        return "", f"cannot be read: {type(error).__name__} in its source"
    finally:
        asking.reset(token)
    why = _why_no_credential(found)
    return ("", f"holds something that is no credential: {why}") if why else (found, "")


def _why_no_credential(found: str) -> str | None:
    """Return why a text cannot be a credential; None: it may be one."""
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
