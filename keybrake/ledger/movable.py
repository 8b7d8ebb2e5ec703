"""Which runs may go to an archive: those that are over, and that nothing else counts on."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

from keybrake.ledger.audit.event_reader import PAGE
from keybrake.model import clock

# A call under a key of the caller's own counts on an older one for 23 hours: see _positions.py.
_KEY_MATTERS = clock.DAY

OPEN = "a run above or below it goes on, or ended later"
IN_DOUBT = "a call of it has not ended, or is unknown"
UNPRICED = "a price of it is only estimated yet"
NEWEST = "it has the newest call of the ledger, whose number must not be given again"
KEYED = "a call of it is less than a day old and has an idempotency key that may be used again"
RELIED_ON = "a run that stays counts on a call of it"
USED = "it was used meanwhile"


class Kept(NamedTuple):
    """A run that is over, but has to stay."""

    uid: str
    why: str


class Family(NamedTuple):
    """
    Runs that can only move together: each with what is under it, and what counts on each other.

    Attributes:
        runs: Primary key and id of each.
        events: The events of each run's calls, and beside them the calls, in order of the events.
        scope_events: The events of the runs themselves, and of their tools.
    """

    runs: dict[int, str]
    events: dict[int, tuple[array[int], array[int]]]
    scope_events: array[int]

    def calls(self) -> int:
        """Return how many calls there are to move."""
        return sum(len(set(calls)) for _, calls in self.events.values())


class Plan:
    """
    What may go, as the ledger stood at one event; what came later is asked for at the end.

    Attributes:
        kept: The runs that are over, but stay, and why.
    """

    def __init__(self, connection: sqlite3.Connection, before: int, now: int) -> None:
        self._connection = connection
        self._before, self._now = before, now
        self._looked = int(connection.execute("SELECT max(seq) FROM event").fetchone()[0])
        self._group: dict[int, int] = {}
        self._tree: dict[int, int] = {}
        self._stays: dict[int, str] = {}
        self._run_of = array("q")
        self._uids: dict[int, str] = {}
        self._over: set[int] = set()
        self._ask_scopes()
        self._ask_calls()
        self._ask_positions()
        self._stay(0, OPEN)
        self._group_stays = {self._top(pk) for pk in self._stays}
        self.kept = list(self._why())

    def _why(self) -> Iterator[Kept]:
        trees: dict[int, str] = {}
        for pk, why in self._stays.items():
            trees.setdefault(self._tree.get(pk, pk), why)
        for pk in sorted(self._over):
            if self._top(pk) in self._group_stays:
                why = self._stays.get(pk) or trees.get(self._tree[pk], RELIED_ON)
                yield Kept(self._uids[pk], why)

    def families(self) -> list[Family]:
        """Return what may go, the oldest first; runs that have no calls any more are left out."""
        families: dict[int, Family] = {}
        for pk, uid in self._uids.items():
            top = self._top(pk)
            if top not in self._group_stays:
                families.setdefault(top, Family({}, {}, array("q"))).runs[pk] = uid
        for seq, call, scope in self._pages(_EVENTS, -1):
            if seq > self._looked:
                break
            run = scope if call is None else self.run_of(call)
            family = families.get(self._top(run))
            if family is None:
                continue
            if call is None:
                family.scope_events.append(seq)
                continue
            seqs, calls = family.events.setdefault(run, (array("q"), array("q")))
            seqs.append(seq)
            calls.append(call)
        return [family for _, family in sorted(families.items()) if family.events]

    def was_used(self, cursor: sqlite3.Cursor, family: Family) -> bool:
        """Return whether anything since the plan touches *family*. Call it under the lock."""
        rows = cursor.execute(_SINCE, (self._looked,)).fetchall()
        for seq, run, prior, leans_on, last_call, last_write in rows:
            self._looked = seq
            runs = (run or 0, *map(self.run_of, (prior, leans_on, last_call, last_write)))
            self._group_stays.update(map(self._top, runs))
        return self._top(next(iter(family.runs))) in self._group_stays

    def run_of(self, call: int | None) -> int:
        """Return the run a call was made in; 0: none, or nobody knows."""
        return self._run_of[call] if call is not None and call < len(self._run_of) else 0

    # Groups of runs: each points to one that stands for it

    def _top(self, pk: int) -> int:
        while (above := self._group.get(pk, pk)) != pk:
            self._group[pk] = self._group.get(above, above)
            pk = above
        return pk

    def _join(self, pk: int, other: int) -> None:
        first, second = sorted((self._top(pk), self._top(other)))
        self._group[second] = first

    def _stay(self, pk: int, why: str) -> None:
        self._stays.setdefault(pk, why)

    # What is asked

    def _ask_scopes(self) -> None:
        for pk, uid, kind, parent, *ends in self._pages(_SCOPES, -1):
            if parent is not None:
                self._join(pk, parent)
            if kind != "run":
                continue
            self._uids[pk] = uid
            closed, revoked, expires = ends
            ended = [end for end in (closed, revoked) if end is not None]
            ended += [expires] if expires is not None and expires <= self._now else []
            if ended and min(ended) < self._before:
                self._over.add(pk)
            else:
                self._stay(pk, OPEN)
        self._tree = {pk: self._top(pk) for pk in self._uids}

    def _ask_calls(self) -> None:
        run = 0
        for seq, pk, state, prior, leans_on, key, at in self._pages(_CALLS, -1):
            run = pk or 0
            self._run_of.extend([0] * (seq + 1 - len(self._run_of)))
            self._run_of[seq] = run
            if state in ("reserved", "unknown"):
                self._stay(run, IN_DOUBT)
            if key is not None and at > self._now - _KEY_MATTERS:
                self._stay(run, KEYED)
            for other in (prior, leans_on):
                if other is not None and self.run_of(other) not in (0, run):
                    self._join(run, self.run_of(other))
        self._stay(run, NEWEST)

    def _ask_positions(self) -> None:
        for _, state, last_call, last_write in self._pages(_POSITIONS, ""):
            owner = self.run_of(last_call)
            if state == "estimated":
                self._stay(owner, UNPRICED)
            if self.run_of(last_write) != owner:
                self._join(owner, self.run_of(last_write))

    def _pages(self, statement: str, key: int | str) -> Iterator[tuple[Any, ...]]:
        """Yield rows, whose first column is the key, without a statement open for long."""
        while page := self._connection.execute(statement, (key, PAGE)).fetchall():
            yield from page
            key = page[-1][0]


_SCOPES = """
SELECT id, uid, kind, parent, closed_at, revoked_at, expires_at FROM scope WHERE id > ? ORDER BY id LIMIT ?
"""
_CALLS = """
SELECT seq, run, state, prior, leans_on, idempotency_key, at FROM call WHERE seq > ? ORDER BY seq LIMIT ?
"""
_POSITIONS = """
SELECT key, state, last_call, last_write FROM position WHERE key > ? ORDER BY key LIMIT ?
"""
_EVENTS = """
SELECT seq, call, scope FROM event
WHERE seq > ? AND digest IS NULL AND kind <> 'archived' AND (call IS NOT NULL OR scope IS NOT NULL)
ORDER BY seq LIMIT ?
"""
_SINCE = """
SELECT event.seq, call.run, call.prior, call.leans_on, position.last_call, position.last_write
FROM event
JOIN call ON call.seq = event.call
LEFT JOIN position ON position.key = call.position
WHERE event.seq > ? ORDER BY event.seq
"""
