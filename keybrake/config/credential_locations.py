"""Read ``[credentials]``: a reference to the place of each vendor's credential."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from keybrake.config.references import Reference, is_reference, readable
from keybrake.errors import PolicyError
from keybrake.model.shown import shown

Place = Mapping[str, Reference | str]
"""``secret``: a reference. ``user``, for Twilio only: a reference, or the user name itself."""

# Per vendor, the possible pairs of keys: user name (None: the vendor has no user name) and secret.
_PARTS: Mapping[str, tuple[tuple[str | None, str], ...]] = {
    "stripe": ((None, "api_key"),),
    "twilio": (("account_sid", "auth_token"), ("api_key", "api_secret")),
    "resend": ((None, "api_key"),),
}
VENDORS = tuple(_PARTS)
_SHORTEST_TTL_S, _LONGEST_TTL_S = 1, 86_400
_NAME = re.compile(r"[!-9;-~]+")  # no colon: in Basic auth a colon ends the user name


def places(given: object, where: str) -> tuple[dict[str, Place], float | None]:
    """
    Return the place of each vendor's credential, and its TTL in seconds (None: not set).

    Raises:
        PolicyError: A vendor or key is unknown, or a value is not a reference. The text does not
            repeat the value, which may be a secret.
    """
    if not isinstance(given, Mapping):
        msg = f"{where} is not a table"
        raise PolicyError(msg)
    if unknown := sorted(set(given) - {*VENDORS, "ttl"}, key=str):
        msg = f"{where}: unknown key {shown(unknown[0])}; known are {', '.join((*VENDORS, 'ttl'))}"
        raise PolicyError(msg)
    found = {
        vendor: _place(_PARTS[vendor], at, f"{where}.{vendor}")
        for vendor, at in given.items()
        if vendor != "ttl"
    }
    return found, _ttl(given["ttl"], f"{where}.ttl") if "ttl" in given else None


def _place(choices: tuple[tuple[str | None, str], ...], given: object, where: str) -> Place:
    if not isinstance(given, Mapping):
        if choices[0][0] is not None:
            written = ", ".join(f'{name} = "…"' for name in choices[0])
            msg = f"{where} is not a table; write {{ {written} }}"
            raise PolicyError(msg)
        return {"secret": readable(given, where)}
    for user, secret in choices:
        if set(given) == {name for name in (user, secret) if name}:
            at = {"secret": readable(given[secret], f"{where}.{secret}")}
            return at if user is None else {**at, "user": _user(given[user], f"{where}.{user}")}
    wanted = ", or ".join(" and ".join(name for name in pair if name) for pair in choices)
    has = ", ".join(shown(name) for name in sorted(given, key=str)) or "nothing"
    msg = f"{where} has {has}; write {wanted}"
    raise PolicyError(msg)


def _user(value: object, where: str) -> Reference | str:
    """Return a user name, or a reference to it. Errors do not show the value: it may be a secret."""
    if is_reference(value):
        return readable(value, where)
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    msg = f"{where} is neither an id nor a reference to one"
    raise PolicyError(msg)


def _ttl(value: object, where: str) -> float:
    plain = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if plain and _SHORTEST_TTL_S <= value <= _LONGEST_TTL_S:  # type: ignore[operator]  # plain means a number
        return float(value)  # type: ignore[arg-type]  # plain means a number
    msg = f"{where} is not a number of seconds from {_SHORTEST_TTL_S} to {_LONGEST_TTL_S}"
    raise PolicyError(msg)
