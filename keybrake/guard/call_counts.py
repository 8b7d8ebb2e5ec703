"""How many calls of each vendor this process has seen: guarded, and past the guard."""

from __future__ import annotations

import threading
from collections import Counter

# Re-entrant: a signal handler may make a call while its thread counts another.
_lock = threading.RLock()
_guarded: Counter[str] = Counter()
_past: Counter[str] = Counter()


def count_guarded(vendor: str) -> None:
    """Count a call that the guard decided on."""
    with _lock:
        _guarded[vendor] += 1


def count_past(vendor: str) -> None:
    """Count a call or connection that the guard saw and did not decide on."""
    with _lock:
        _past[vendor] += 1


def counted(vendor: str) -> tuple[int, int]:
    """Return how many were guarded, and how many went past the guard."""
    with _lock:
        return _guarded[vendor], _past[vendor]
