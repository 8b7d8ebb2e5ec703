"""Check for ``keybrake doctor`` whether each vendor's credential can be fetched."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from keybrake.cli.doctor_checks.environment import Finding
from keybrake.config import credential_locations, parent_process, references, settings
from keybrake.config.credential_locations import Place
from keybrake.credentials import FROM_ENVIRONMENT, Credentials, current
from keybrake.errors import CredentialError

_CHECK = "credential"
_REMEDY = "mend that, or correct [credentials] in keybrake.toml"


def credentials() -> Iterator[Finding]:
    """Fetch each credential that a call would use, and report the result without the secret."""
    if parent_process.address is not None:
        yield from _of_exec()
        return
    table = settings.current().credentials
    for vendor in credential_locations.VENDORS:
        if vendor in table:
            had, words = _ask(vendor, table[vendor])
            yield Finding(_CHECK, "ok" if had else "wrong", words if had else f"{words}; {_REMEDY}")
        else:
            yield from _in_environment(vendor)


def _of_exec() -> Iterator[Finding]:
    """Ask the ``keybrake exec`` that started this process; only it knows which credentials it has."""
    for vendor in credential_locations.VENDORS:
        begun = time.monotonic()
        try:
            current().get(vendor)
        except CredentialError as error:
            yield Finding(_CHECK, "note", f"{error}{_took(begun)}")
        else:
            where = f"{vendor} from the keybrake exec that started this process"
            yield Finding(_CHECK, "ok", f"{where}{_took(begun)}")


def _in_environment(vendor: str) -> Iterator[Finding]:
    """Check the vendor's usual variables; a fault is only a note, because they may be unused."""
    for names in FROM_ENVIRONMENT[vendor]:
        if not any(map(os.environ.get, names.values())):
            continue
        place = {part: references.parse(f"env://{name}", name) for part, name in names.items()}
        had, words = _ask(vendor, place)
        yield Finding(_CHECK, "ok" if had else "note", words)
        if had:
            return


def _ask(vendor: str, place: Place) -> tuple[bool, str]:
    """Return whether the credential could be fetched, and the details for the finding."""
    begun = time.monotonic()
    try:
        Credentials({vendor: place}, ttl_s=1).get(vendor)
    except CredentialError as error:
        return False, f"{str(error).removeprefix('credentials.')}{_took(begun)}"
    return True, f"{vendor} from {_shown(place)}{_took(begun)}"


def _took(begun: float) -> str:
    return f" ({(time.monotonic() - begun) * 1000:,.0f} ms)"


def _shown(place: Place) -> str:
    """Return the references of a credential: that of the user name, if any, and of the secret."""
    kept = (place[part] for part in ("user", "secret") if part in place)
    return " and ".join(map(references.harmless, kept))
