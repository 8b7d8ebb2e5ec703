"""Format text, dollars and times for people, and JSON for programs."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from keybrake.model.money import show
from keybrake.model.shown import without_secrets

_MOST_SAID = 500

# Characters that Unicode counts as letters or marks, but that are invisible.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
# Variation selectors, which only set how the character before them is drawn (text or emoji).
_DRAWN_AS = str.maketrans("", "", "\ufe0e\ufe0f")


def safe(text: object) -> str:
    """
    Return *text* with control, format, bidi and invisible characters as Python escapes.

    Such characters could control the terminal, or hide a part of the text from its reader.
    """
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_shown(character) for character in shown.translate(_DRAWN_AS))


def _shown(character: str) -> str:
    seen = character.isprintable() or unicodedata.category(character) == "Zs"
    if seen and not _UNSEEN.match(character):
        return character
    return character.encode("unicode_escape").decode("ascii")


def brief(text: str) -> str:
    """Return a user's text for an error message: escaped, without possible secrets, and shortened."""
    shown = safe(without_secrets(text))
    return shown if len(shown) <= _MOST_SAID else f"{shown[: _MOST_SAID - 1]}…"


def to_json(value: object) -> str:
    """Return *value* as JSON in printable ASCII."""
    # DEL is the only ASCII control character that json.dumps() does not escape.
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


def json_array(values: Iterable[Mapping[str, Any]]) -> str:
    """Return *values* as one JSON array, one line for each value."""
    lines = ",\n ".join(to_json(value) for value in values)
    return f"[{lines}]"


def dollars(micros: int | None, *, none: str = "") -> str:
    """Return an amount as ``$1,234.50``; *none* if there is no amount."""
    return none if micros is None else show(micros)


def moment(iso: str | None, *, brief: bool) -> str:
    """
    Return a time in UTC to the second.

    Args:
        iso: The time as ``clock.iso`` and the ledger's views write it.
        brief: For a time of today leave out the date; for others leave out the seconds.
    """
    if iso is None:
        return ""
    if not brief:
        return f"{iso[:19]}Z"
    today = datetime.now(UTC).date().isoformat()
    return iso[11:19] if iso.startswith(today) else f"{iso[:10]} {iso[11:16]}"


def count(number: int, noun: str) -> str:
    """Return ``1 call``, ``2 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
