"""How a value that cannot be meant is shown in the error that says so."""

from __future__ import annotations

import re

MOST_CHARACTERS = 60

# What may be a secret that stands where it should not: the user part of a URL, also of one that is
# cut off, the vendors' keys, vault keys, and a Twilio token.
_SECRET = re.compile(
    r"(?<=://)[^\s'\"]*(?:(?=@)|…)|\b(?:sk|rk|pk|kb|whsec|re)_\w{6,}|\bSG\.[\w.-]{6,}|\b[0-9a-f]{32}\b"
)
NOT_SHOWN = "<not shown>"


def without_secrets(text: str) -> str:
    """Return an error text without what may be a secret in it."""
    return _SECRET.sub(NOT_SHOWN, text)


def shown(value: object) -> str:
    """Return a short ``repr`` of *value*, without what may be a secret; any value has one, and none is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- a number of 5,000 digits refuses to be printed, say
        text = f"<{type(value).__name__} that cannot be shown>"
    text = without_secrets(text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
