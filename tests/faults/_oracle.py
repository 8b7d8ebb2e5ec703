"""Do the ledger and the vendor's own journal tell the same story? Read by plain sqlite3 alone."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from keybrake.testing import JournalEntry
from tests.faults._acts import Scene

# Exposure is what was spent and what is still set aside.
_COUNTS = ("reserved", "unknown", "settled")
_SCOPE = "spent, reserved, calls, refused, cap, closed_at, revoked_at, id, uid"
_MICROS_PER_CENT = 10_000


def violations(scene: Scene, journal: Sequence[JournalEntry]) -> list[str]:
    """
    Return which promises are broken, in words; nothing: none.

    Args:
        scene: Whose ledger to look at; one that is not there has nothing in it.
        journal: All that the vendor got from the scene's processes.
    """
    try:
        with opened(scene) as ledger:
            found = list(_found(ledger, journal))
    except sqlite3.Error as error:
        return [f"the ledger cannot be read: {error}"]
    return found


@contextlib.contextmanager
def opened(scene: Scene) -> Iterator[sqlite3.Connection]:
    """Open the scene's ledger as another program would."""
    with contextlib.closing(sqlite3.connect(f"file:{scene.file}?mode=ro", uri=True)) as ledger:
        yield ledger


def rows_of(ledger: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return seq, idempotency key, state, reserved and cost of every call."""
    columns = "seq, coalesce(idempotency_key, 'kb-' || uid), state, reserved, coalesce(cost, 0)"
    return ledger.execute(f"SELECT {columns} FROM call ORDER BY seq").fetchall()


def _found(ledger: sqlite3.Connection, journal: Sequence[JournalEntry]) -> Iterator[str]:
    if (whole := ledger.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        yield f"the file is damaged: {whole}"
    rows = rows_of(ledger)
    yield from _charges(rows, journal)
    for scope in ledger.execute(f"SELECT {_SCOPE} FROM scope").fetchall():
        yield from _scope(ledger, scope)
    yield from _sums(ledger, rows)
    seqs = [row[0] for row in ledger.execute("SELECT seq FROM event ORDER BY seq")]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"events are missing: {seqs}"


def _charges(rows: list[tuple[Any, ...]], journal: Sequence[JournalEntry]) -> Iterator[str]:
    """Every charge has one row that counts it in full."""
    for entry in journal:
        mine = [row for row in rows if row[1] == entry.idempotency_key]
        if len(mine) != 1:
            yield f"request {entry.seq} has {len(mine)} rows"
            continue
        _, _, state, reserved, cost = mine[0]
        counted = cost if state == "settled" else reserved
        if entry.moved and (
            state not in _COUNTS or counted < (entry.amount or 0) * _MICROS_PER_CENT
        ):
            yield f"charge {entry.object_id} moved {entry.amount}, and its row is {mine[0]}"
    keys = {entry.idempotency_key for entry in journal if entry.moved}
    for _, key, state, _, cost in rows:
        if key not in keys and state == "settled" and cost:
            yield f"{key} is settled at {cost}, but nothing moved"


def _scope(ledger: sqlite3.Connection, scope: tuple[Any, ...]) -> Iterator[str]:
    """A run's totals are the sums of its rows, within its cap, and what stopped it is on record."""
    spent, reserved, calls, refused, cap, closed_at, revoked_at, pk, uid = scope
    sums = ledger.execute(_SUMS, (pk,)).fetchone()
    if (spent, reserved, calls, refused) != sums:
        yield f"{uid}: the totals are {(spent, reserved, calls, refused)}, the sums {sums}"
    if cap is not None and spent + reserved > cap:
        yield f"{uid}: {spent + reserved} of {cap} is exposed"
    day = ledger.execute(
        "SELECT sum(spent), sum(reserved), sum(calls) FROM bucket WHERE scope = ?", (pk,)
    )
    if calls and (daily := day.fetchone()) not in ((None,) * 3, (spent, reserved, calls)):
        yield f"{uid}: the windows have {daily}"
    kinds = [row[0] for row in ledger.execute("SELECT kind FROM event WHERE scope = ?", (pk,))]
    wanted = (
        ["opened"] + ["closed"] * (closed_at is not None) + ["revoked"] * (revoked_at is not None)
    )
    if sorted(kinds) != sorted(wanted):
        yield f"{uid}: its events are {kinds}, and its columns say {wanted}"


_SUMS = """
SELECT
    coalesce(sum((state = 'settled') * coalesce(cost, 0)), 0),
    coalesce(sum((state IN ('reserved', 'unknown')) * reserved), 0),
    coalesce(sum(state <> 'refused'), 0),
    coalesce(sum(state = 'refused'), 0)
FROM call WHERE run = ?
"""


def _sums(ledger: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> Iterator[str]:
    """The events, and the documented views, add up to the same as the rows."""
    spent = sum(cost for _, _, state, _, cost in rows if state == "settled")
    reserved = sum(res for _, _, state, res, _ in rows if state in ("reserved", "unknown"))
    for told in ("event", "totals"):
        found = ledger.execute(f"SELECT sum(spent), sum(reserved) FROM {told}").fetchone()
        if tuple(it or 0 for it in found) != (spent, reserved):
            yield f"{told} has {found}, the rows {(spent, reserved)}"
