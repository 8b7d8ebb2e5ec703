"""Verify a ledger: its hash chain, its seal, and every row against the events."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from keybrake.ledger.audit import comparison
from keybrake.ledger.audit.event_reader import Event, Finding, Walk, events
from keybrake.ledger.audit.replay import Replay
from keybrake.ledger.stores.sqlite import seal_file

# Keep the first findings only, but count all of them.
MOST_KEPT = 1000
# Few enough events to read within the last, short transaction.
_NEARLY = 2000
_HEAD = "SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1"
_NEWEST_CALL = "SELECT coalesce(max(seq), 0) FROM call"


class Head(NamedTuple):
    """The newest event of a ledger, which a person may store elsewhere as an anchor."""

    seq: int
    hash: str


@dataclass(slots=True)
class Verdict:
    """The result of an audit; *findings* has the first findings, *found* is their total number."""

    path: Path
    head: Head
    events: int = 0
    calls: int = 0
    runs: int = 0
    reserved: int = 0
    unknown: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count the findings, and keep the first of them."""
        for finding in findings:
            self.found += 1
            if len(self.findings) < MOST_KEPT:
                self.findings.append(finding)


def head(connection: sqlite3.Connection) -> Head:
    """Return the newest event."""
    row = connection.execute(_HEAD).fetchone()
    return Head(0, "") if row is None else Head(row[0], row[1].hex())


def verify(
    connection: sqlite3.Connection,
    path: Path,
    *,
    anchors: Iterable[Head] = (),
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Verdict:
    """
    Verify a ledger while other processes write to it.

    No statement stays open for long, because an open read keeps the WAL from being checkpointed.

    Args:
        connection: A read-only connection.
        path: The ledger.
        anchors: Heads that were stored elsewhere before; the chain must contain them.
        progress: Called with the work done so far and the total work.
    """
    audit = _Audit(connection, path, progress)
    if not audit.is_damaged():
        audit.look_at_guards()
        audit.look_at_seal()
        audit.walk()
        audit.look_at_anchors(anchors)
        audit.compare()
    return audit.verdict


class _Audit:
    def __init__(
        self, connection: sqlite3.Connection, path: Path, progress: Callable[[int, int], None]
    ) -> None:
        self._connection, self._progress = connection, progress
        self._uid: str = connection.execute("SELECT uid FROM ledger").fetchone()[0]
        # Read the seal before the head: the seal is written after each commit, so the head that is
        # read later can only be newer.
        self._sealed = _sealed(path)
        self.verdict = Verdict(path, head(connection))
        self._newest_call: int = connection.execute(_NEWEST_CALL).fetchone()[0]
        self._replay = Replay(self._newest_call)
        self._walk = Walk(self._uid)
        self._done, self._total = 0, self.verdict.head.seq + self._newest_call

    def is_damaged(self) -> bool:
        """Return whether SQLite finds damaged pages; check table by table, as each check is slow."""
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        for (name,) in self._connection.execute(names).fetchall():
            told = self._connection.execute(f"PRAGMA quick_check('{name}')").fetchall()
            wrong = [line for (line,) in told if line != "ok"]
            self.verdict.add(Finding("damage", f"table {name}", "ok", line) for line in wrong)
        return self.verdict.found > 0

    def look_at_guards(self) -> None:
        """Check that the triggers and views are those of the schema."""
        self.verdict.add(comparison.differing_guards(self._connection))

    def look_at_seal(self) -> None:
        """Compare the ledger with its seal."""
        newest = self.verdict.head.seq
        if isinstance(self._sealed, str):
            self.verdict.add([Finding("seal", str(self.verdict.path), "a seal", self._sealed)])
            return
        uid, sealed = self._sealed
        if uid != self._uid:
            self.verdict.add([Finding("seal", str(self.verdict.path), self._uid, uid)])
        elif newest < sealed:
            where = "newest event"
            self.verdict.add([Finding("seal", where, f"at least {sealed}", newest)])

    def walk(self) -> None:
        """Check the chain, up to the event that was the newest when the audit began."""
        for page in events(self._connection, after=self._walk.seq, up_to=self.verdict.head.seq):
            self._take(page)
            self._tick(len(page))
        self.verdict.events = self.verdict.head.seq

    def _take(self, page: Iterable[Event]) -> None:
        findings = self._replay.findings
        for event in page:
            self.verdict.add(self._walk.check(event))
            self._replay.take(event)
            if findings:
                self.verdict.add(findings)
                findings.clear()

    def _tick(self, more: int) -> None:
        self._done += more
        self._progress(min(self._done, self._total), self._total)

    def look_at_anchors(self, anchors: Iterable[Head]) -> None:
        """Check that the chain contains the heads that were stored elsewhere."""
        for seq, noted in anchors:
            row = self._connection.execute("SELECT hash FROM event WHERE seq = ?", (seq,))
            found = next((value.hex() for (value,) in row.fetchall()), "no such event")
            if found != noted:
                self.verdict.add([Finding("anchor", f"event {seq}", noted, found)])

    def compare(self) -> None:
        """
        Compare every row with the value that follows from the events.

        Other processes write meanwhile, so a row may be newer than the events that were read. So
        collect the rows that differ, then read the new events and compare only these rows again, in
        one short transaction.
        """
        suspects = self._suspects()
        calls = self._suspect_calls()
        self._catch_up_nearly()
        self._connection.execute("BEGIN")
        try:
            self._catch_up()
            self._count()
            self.verdict.add(comparison.differing_calls(self._connection, self._replay, calls))
            self.verdict.add(comparison.unknown_calls(self._connection, self._replay))
            expected = comparison.expected_of(self._replay, self._connection)
            for (table, rows), keys in zip(expected, suspects, strict=True):
                self.verdict.add(comparison.differences(self._connection, table, rows, keys))
            self.verdict.add(comparison.differing_stakes(self._connection))
            self.verdict.add(comparison.differing_totals(self._connection, self._replay))
        finally:
            self._connection.execute("ROLLBACK")

    def _suspects(self) -> list[set[comparison.Key]]:
        return [
            comparison.suspects(self._connection, table, rows)
            for table, rows in comparison.expected_of(self._replay, self._connection)
        ]

    def _suspect_calls(self) -> list[int]:
        found: list[int] = []
        after = 0
        for page in comparison.pages(self._connection, comparison.CALLS):
            found += comparison.suspect_calls(self._replay, page, after)
            after = page[-1][0]
            self._tick(len(page))
            if after >= self._newest_call:
                break  # newer calls were added after the audit began
        found += comparison.suspect_calls(self._replay, (), after, self._newest_call)
        return found

    def _catch_up_nearly(self) -> None:
        """Read events that were written meanwhile, until only a few are left."""
        while head(self._connection).seq - self._walk.seq > _NEARLY:
            self._catch_up()

    def _catch_up(self) -> None:
        self._replay.know_of(self._connection.execute(_NEWEST_CALL).fetchone()[0])
        for page in events(self._connection, after=self._walk.seq):
            self._take(page)

    def _count(self) -> None:
        verdict, states = self.verdict, self._replay.open
        verdict.unknown = len(self._replay.unknown)
        verdict.reserved = len(states) - verdict.unknown
        verdict.calls = self._connection.execute("SELECT count(*) FROM call").fetchone()[0]
        runs = "SELECT count(*) FROM scope WHERE kind = 'run'"
        verdict.runs = self._connection.execute(runs).fetchone()[0]


def _sealed(path: Path) -> tuple[str, int] | str:
    """Return the id and newest event in the seal, or the reason why it cannot be read."""
    try:
        seal = seal_file.Seal(path)
    except FileNotFoundError:
        return "none"
    except seal_file.Broken:
        return "one that cannot be read"
    try:
        return seal.uid, seal.newest()
    except seal_file.Broken:
        return "one that cannot be read"
    finally:
        seal.close()
