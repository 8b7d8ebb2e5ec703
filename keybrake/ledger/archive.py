"""How runs that are over go to another file, while the ledger's chain and sums stay what they are."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from keybrake.errors import LedgerError
from keybrake.ledger import archived, movable
from keybrake.ledger import statements as sql
from keybrake.ledger.audit import event_reader
from keybrake.ledger.audit.event_reader import Event
from keybrake.ledger.audit.replay import Replay, fingerprint
from keybrake.ledger.audit.verify import is_archive
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.movable import Family, Kept, Plan
from keybrake.ledger.stores.sqlite import ledger_files
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.group_commit import Turns
from keybrake.model import clock

# As many calls leave at once as hold up an agent for some hundredths of a second.
_TOGETHER = 500


class Moved(NamedTuple):
    """What was moved to an archive, or would be; *kept*: what is over, but stays."""

    path: Path
    runs: list[str]
    calls: int
    kept: list[Kept]


class Steps(NamedTuple):
    """Is called after each step: a copy is safe on the disk; a batch has left the ledger."""

    copied: Callable[[Family], None] = lambda _: None
    left: Callable[[int], None] = lambda _: None


def move(
    store: Store, before: int, to: Path, *, dry_run: bool = False, steps: Steps | None = None
) -> Moved:
    """
    Move the calls of runs that ended before a moment to an archive.

    They are copied first, and leave the ledger once the copy is on the disk: whatever stops this
    half-way, each is in one of the files at least, and doing it again completes it.

    Args:
        store: The ledger.
        before: In micros.
        to: The archive; made if there is nothing there.
        dry_run: Only say what would be moved.
        steps: Who is told of each step.

    Raises:
        LedgerError: *to* is no archive of this ledger, or what is to be moved fails its chain.
        LedgerUnavailable: The ledger cannot be used.
    """
    turns, steps = Turns(store), steps or Steps()
    turns.take(lambda _: None)  # opens it, or refuses to
    with closing(ledger_files.connect(store.path, read_only=True)) as reader:
        if is_archive(reader, store.path):
            msg = f"{store.path} is an archive already"
            raise LedgerError(msg)
        now = max(clock.now(), reader.execute(sql.NEWEST).fetchone()[0])
        plan = Plan(reader, before, now)
        moved = Moved(to, [], 0, plan.kept)
        for family in plan.families():
            gone = family.calls()
            if not dry_run:
                gone = _move(turns, reader, plan, family, to, steps)
            if gone:
                moved.runs.extend(family.runs.values())
                moved = moved._replace(calls=moved.calls + gone)
    return moved


def _move(
    turns: Turns, reader: sqlite3.Connection, plan: Plan, family: Family, to: Path, steps: Steps
) -> int:
    with closing(archived.open_to_add(reader, to)) as archive:
        archived.copy(reader, archive, family)
    ledger_files.sync(to.parent)
    steps.copied(family)
    gone = 0
    for seqs in _batches(family):
        leaving = _Leaving(plan, family, list(event_reader.intact(reader, seqs)), to.name)
        if not turns.take(leaving.leave, durable=True):
            plan.kept.extend(Kept(uid, movable.USED) for uid in family.runs.values())
            break
        gone += len(leaving.calls)
        steps.left(gone)
    return gone


def _batches(family: Family) -> Iterator[list[int]]:
    """
    Yield the events of so many calls together, the newest calls first.

    A call counts on older ones only, so that none in the ledger ever counts on one that has left.
    """
    pairs = (zip(calls, seqs, strict=True) for seqs, calls in family.events.values())
    batch: list[int] = []
    calls, last = 0, 0
    for call, seq in sorted(itertools.chain.from_iterable(pairs), reverse=True):
        if call != last:
            if calls == _TOGETHER:
                yield batch
                batch, calls = [], 0
            calls, last = calls + 1, call
        batch.append(seq)
    yield batch


class _Leaving:
    """Some calls of a family, with their events, on their way out of the ledger."""

    def __init__(self, plan: Plan, family: Family, events: Sequence[Event], to: str) -> None:
        self._plan, self._family, self._to = plan, family, to
        self._events = events
        self.calls = sorted({event.call for event in events if event.call is not None})
        self._digests = [(event.digested(), event.seq) for event in events]
        self._emptied: set[int] = set()
        by_run: dict[int, list[Event]] = {}
        for event in events:
            by_run.setdefault(plan.run_of(event.call), []).append(event)
        self._said = {run: self._say(some) for run, some in sorted(by_run.items())}

    def leave(self, writing: Writing) -> bool:
        """Take them out of the ledger, unless somebody has come to count on them."""
        if self._plan.was_used(writing.cursor, self._family):
            return False
        # What the newest events add is taken from the calls they are about.
        writing.execute(sql.FOLD)
        newest = writing.execute("SELECT max(seq) FROM event").fetchone()[0]
        writing.execute(sql.FOLDED, (newest,))
        guards = writing.execute(_GUARDS).fetchall()
        for name, _ in guards:
            writing.execute(f"DROP TRIGGER {name}")
        self._take_out(writing.cursor)
        for _, statement in guards:
            writing.execute(statement)
        for run, said in self._said.items():
            writing.of_scope("archived", run, detail=said)
        return True

    def _take_out(self, cursor: sqlite3.Cursor) -> None:
        cursor.executemany(_STUB, self._digests)
        places = ", ".join(map(str, self.calls))
        for (key,) in cursor.execute(_POSITIONS.format(places)).fetchall():
            owner = cursor.execute(_OWNER, (key,)).fetchone()
            if owner is not None and owner[0] in self._family.runs:
                cursor.execute("DELETE FROM position WHERE key = ?", (key,))
        # What they raised an hour ago is known to every look-up that is under way.
        cursor.execute(_STAKES.format(places), (clock.now() - clock.HOUR,))
        cursor.executemany("DELETE FROM bucket WHERE scope = ?", ((pk,) for pk in self._emptied))
        cursor.executemany("DELETE FROM call WHERE seq = ?", ((seq,) for seq in self.calls))
        if cursor.rowcount != len(self.calls):
            msg = "some of these calls have left the ledger already: another archive is under way"
            raise LedgerError(msg)

    def _say(self, events: Sequence[Event]) -> str:
        """Return what stays on record of a run's calls: enough to add everything up without them."""
        replay, marks = Replay(), 0
        for event in events:
            replay.count(event)
            marks += fingerprint(event, event.digested())
        self._emptied |= replay.charged().keys()
        said = {
            "to": self._to,
            "calls": len({event.call for event in events}),
            "events": len(events),
            "sum": f"{marks % 2**256:064x}",
            "scopes": [[pk, s[0], *s[2:]] for pk, s in sorted(replay.charged().items())],
            "totals": [[*key, s[0], *s[2:]] for key, s in sorted(replay.days.items())],
        }
        return json.dumps(said, separators=(",", ":"))


_GUARDS = "SELECT name, sql FROM sqlite_master WHERE name IN ('call_stays', 'event_is_final')"
_STUB = "UPDATE event SET digest = ? WHERE seq = ?"
_POSITIONS = """
SELECT DISTINCT position FROM call WHERE seq IN ({}) AND position IS NOT NULL
"""
_STAKES = """
DELETE FROM stake WHERE call IN (SELECT seq FROM call WHERE seq IN ({}) AND ended_at < ?)
"""
_OWNER = """
SELECT call.run FROM position JOIN call ON call.seq = position.last_call WHERE position.key = ?
"""
