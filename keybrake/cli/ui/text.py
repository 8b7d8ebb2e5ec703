"""What people read: harmless text, dollars and moments; and what programs read: JSON."""

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

# Letters and marks by category, but nothing is seen of them.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
# They only say how the character before them is drawn.
_DRAWN_AS = str.maketrans("", "", "\ufe0e\ufe0f")


def safe(text: object) -> str:
    """
    Return *text* so that it does nothing to a terminal and hides nothing from its reader.

    Control, format, bidi and zero-width characters are shown as Python escapes.
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
    """Return what a user wrote, harmless, without what may be a secret, and not longer than a few lines."""
    shown = safe(without_secrets(text))
    return shown if len(shown) <= _MOST_SAID else f"{shown[: _MOST_SAID - 1]}…"


def to_json(value: object) -> str:
    """Return *value* as JSON in printable ASCII."""
    # DEL is a control character as well, and the one that JSON does not escape.
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


def json_array(values: Iterable[Mapping[str, Any]]) -> str:
    """Return *values* as one JSON array, a line for each."""
    lines = ",\n ".join(to_json(value) for value in values)
    return f"[{lines}]"


def dollars(micros: int | None, *, none: str = "") -> str:
    """Return an amount as people write it; *none* where there is none."""
    return none if micros is None else show(micros)


def moment(iso: str | None, *, brief: bool) -> str:
    """
    Return a moment in UTC to the second.

    Args:
        iso: As ``_clock.iso`` and the ledger's views write it.
        brief: Leave out what the reader knows: the date if it is today's.
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
