"""How a value that cannot be meant is shown in the error that says so."""

from __future__ import annotations

MOST_CHARACTERS = 60


def shown(value: object) -> str:
    """Return a short ``repr`` of *value*; any value has one, and none is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- a number of 5,000 digits refuses to be printed, say
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
