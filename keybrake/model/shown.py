"""Show invalid values in error texts: short, and with secrets redacted."""

from __future__ import annotations

import re

MOST_CHARACTERS = 60

# Text that may be a misplaced secret: the user part of a URL (even if the URL is truncated), vendor
# keys, vault keys, and Twilio tokens.
_SECRET = re.compile(
    r"(?<=://)[^\s'\"]*(?:(?=@)|…)|\b(?:sk|rk|pk|kb|whsec|re)_\w{6,}|\bSG\.[\w.-]{6,}|\b[0-9a-f]{32}\b"
)
NOT_SHOWN = "<not shown>"


def without_secrets(text: str) -> str:
    """Return *text* with every possible secret redacted."""
    return _SECRET.sub(NOT_SHOWN, text)


def shown(value: object) -> str:
    """Return a ``repr`` of *value* with secrets redacted, cut to 60 characters; this never raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- any repr may raise: an int of 5,000 digits does
        text = f"<{type(value).__name__} that cannot be shown>"
    text = without_secrets(text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
