"""Find the calls in doubt: unknown calls, and reserved calls that no process is going to end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keybrake.ledger.stores.sqlite import owners
from keybrake.model import clock
from keybrake.model.call import InDoubt, State

STILL_UNDER_WAY = 15 * clock.MINUTE
"""Age in microseconds from which a reserved call of a living process is in doubt.

An SDK gives up long before: it makes three attempts of 80 s each.
"""


def among(rows: Iterable[tuple[Any, ...]], ledger: Path, now: int) -> list[InDoubt]:
    """
    Return the calls in doubt among *rows* of ``SELECT_IN_DOUBT``.

    A reserved call is in doubt if its process has ended. If the process lives, the call is in doubt
    once it is so old that the process must have failed to write the outcome.
    """
    found = [InDoubt(*row) for row in rows]
    tokens = {call.process or "" for call in found if call.state == State.RESERVED}
    living = {token for token in tokens if not owners.is_gone(ledger, token)}
    lives = (call.state == State.RESERVED and (call.process or "") in living for call in found)
    return [
        call._replace(process_lives=lives)
        for call, lives in zip(found, lives, strict=True)
        if not lives or now - call.at >= STILL_UNDER_WAY
    ]
