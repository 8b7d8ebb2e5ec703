"""Make the environment of the child of ``keybrake exec``: a vault key replaces all secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from keybrake.config import config_file, settings, started_under
from keybrake.config.parent_process import ADDRESS
from keybrake.config.references import Reference, schemes
from keybrake.credentials import FROM_ENVIRONMENT, Credential

# A shorter secret could match other text by chance, so it is not searched for.
_SHORTEST_SECRET = 8
# Other secrets of the vendors. Those of Stripe and Resend have a known prefix; those of Twilio can only
# be recognized by the name of the variable. Sources, noted 2026-11-28: https://docs.stripe.com/keys,
# https://resend.com/docs.
_OF_A_VENDOR = r"\b[sr]k_(?:live|test)_\w{8,}|\bre_[A-Za-z0-9]{6,}_[A-Za-z0-9]{12,}"
_OF_TWILIO = re.compile(r"TWILIO_(?:\w*_)?(?:TOKEN|SECRET)")
_STARTUP = Path(__file__).parents[2] / "sdk" / "startup"


def vendors_with_credentials(environ: Mapping[str, str]) -> list[str]:
    """Return the vendors with a credential in keybrake.toml or in the vendor's usual variables."""
    named = settings.current().credentials
    return [
        vendor
        for vendor, choices in FROM_ENVIRONMENT.items()
        if vendor in named or any(all(map(environ.get, names.values())) for names in choices)
    ]


def environment(
    environ: Mapping[str, str], key: str, had: Mapping[str, Credential], ledger: str, address: str
) -> dict[str, str]:
    """
    Return the environment of the child, with the vault key in place of the vendors' secrets.

    Args:
        environ: The environment of this process.
        key: The vault key.
        had: The credentials of this process, by vendor.
        ledger: The ledger's URL, with an absolute path.
        address: Address of the socket at which keybrake in the child asks for credentials.
    """
    taken_out = {*_own_secrets(), *_managers_secrets()}
    secrets = {credential.secret for credential in had.values()}
    secrets |= {environ[name] for name in taken_out & set(environ)}
    made = _without(
        {name: value for name, value in environ.items() if name not in taken_out}, secrets, key
    )
    for vendor, credential in had.items():
        # Set all variables from which an agent may read its API key to the vault key.
        named = {names["secret"] for names in FROM_ENVIRONMENT[vendor]} & set(environ)
        first = FROM_ENVIRONMENT[vendor][0]
        kept = _variables(settings.current().credentials.get(vendor, {}).get("secret"))
        made |= dict.fromkeys({first["secret"], *named, *kept}, str(key))
        if "user" in first and credential.user.startswith("AC"):
            made.setdefault(first["user"], credential.user)
    made |= {started_under.AMBIENT_KEY: str(key), "KEYBRAKE_LEDGER": ledger, ADDRESS: address}
    if (file := config_file.find_file(environ)) is not None:
        made["KEYBRAKE_CONFIG"] = str(file.resolve())
    path = made.get("PYTHONPATH")
    made["PYTHONPATH"] = f"{_STARTUP}{os.pathsep}{path}" if path else str(_STARTUP)
    return made


def _without(environ: Mapping[str, str], secrets: Iterable[str], key: str) -> dict[str, str]:
    """Return an environment in which the key replaces every known or likely secret in any variable."""
    # Longest first: one secret may contain another.
    long = sorted((one for one in secrets if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)
    found = re.compile("|".join((*map(re.escape, long), _OF_A_VENDOR)))
    made = {name: found.sub(str(key), value) for name, value in environ.items()}
    return made | {name: str(key) for name in made if made[name] and _OF_TWILIO.fullmatch(name)}


def _own_secrets() -> Iterable[str]:
    """Yield the names of the variables with a vendor's secret."""
    for choices in FROM_ENVIRONMENT.values():
        yield from (names["secret"] for names in choices)
    for place in settings.current().credentials.values():
        yield from _variables(place["secret"])


def _variables(where: Reference | str | None) -> tuple[str, ...]:
    is_variable = isinstance(where, Reference) and where.scheme == "env"
    return (where.path,) if is_variable else ()  # type: ignore[union-attr]  # is_variable says so


def _managers_secrets() -> set[str]:
    """Return the names of variables that would let the child log in to the secrets managers in use."""
    places = settings.current().credentials.values()
    used = {at.scheme for place in places for at in place.values() if isinstance(at, Reference)}
    found: set[str] = set()
    for scheme in used:
        found |= set(getattr(schemes()[scheme].load(), "SECRETS", ()))
    return found
