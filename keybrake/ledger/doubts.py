"""Which calls nobody will end any more: the unknown ones, and those whose process has ended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keybrake.ledger.stores.sqlite import owners
from keybrake.model import clock
from keybrake.model.call import InDoubt, State

STILL_UNDER_WAY = 15 * clock.MINUTE
"""A reserved call may be resolved only when no SDK would still be trying: three attempts of 80 s."""


def among(rows: Iterable[tuple[Any, ...]], ledger: Path, now: int) -> list[InDoubt]:
    """
    Return the calls in doubt among *rows*, which are as ``SELECT_IN_DOUBT`` has them.

    A call that is still reserved is in doubt once its process has ended, or when it is so old
    that its process lives, but could not write its outcome down.
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
