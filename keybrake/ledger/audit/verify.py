"""Is a ledger what was written into it: its chain, its sums, its states and its seal."""

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

# What is kept of the findings; all of them are counted.
MOST_KEPT = 1000
# So few events are taken in while the rows stand still.
_NEARLY = 2000
_HEAD = "SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1"
_NEWEST_CALL = "SELECT coalesce(max(seq), 0) FROM call"


class Head(NamedTuple):
    """The newest event of a ledger, to be kept elsewhere."""

    seq: int
    hash: str


@dataclass(slots=True)
class Verdict:
    """What came out; *findings* has the first of them, *found* their number."""

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
        """Take findings in."""
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
    Verify a ledger while others write to it; no statement is open for long.

    Args:
        connection: To read only.
        path: The ledger.
        anchors: Heads that were noted down before and must be in the chain.
        progress: Is told how much has been done, and how much there is.
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
        # The seal follows the ledger, so it is read first.
        self._sealed = _sealed(path)
        self.verdict = Verdict(path, head(connection))
        self._newest_call: int = connection.execute(_NEWEST_CALL).fetchone()[0]
        self._replay = Replay(self._newest_call)
        self._walk = Walk(self._uid)
        self._done, self._total = 0, self.verdict.head.seq + self._newest_call

    def is_damaged(self) -> bool:
        """Have SQLite look at the pages, a table at a time: each reads for a while."""
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        for (name,) in self._connection.execute(names).fetchall():
            told = self._connection.execute(f"PRAGMA quick_check('{name}')").fetchall()
            wrong = [line for (line,) in told if line != "ok"]
            self.verdict.add(Finding("damage", f"table {name}", "ok", line) for line in wrong)
        return self.verdict.found > 0

    def look_at_guards(self) -> None:
        """See that nothing was taken away that keeps rows from being changed."""
        self.verdict.add(comparison.differing_guards(self._connection))

    def look_at_seal(self) -> None:
        """Compare the ledger with what is kept outside of it."""
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
        """Walk along the chain, up to the head that was noted first."""
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
        """See that the heads that were noted down elsewhere are where they were."""
        for seq, noted in anchors:
            row = self._connection.execute("SELECT hash FROM event WHERE seq = ?", (seq,))
            found = next((value.hex() for (value,) in row.fetchall()), "no such event")
            if found != noted:
                self.verdict.add([Finding("anchor", f"event {seq}", noted, found)])

    def compare(self) -> None:
        """
        Compare every row with what the events say.

        The rows may be ahead of the events that were read. Those that differ are looked at once
        more at the end, beside the events that came in between, in one short transaction.
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
                break  # agents add calls all the time
        found += comparison.suspect_calls(self._replay, (), after, self._newest_call)
        return found

    def _catch_up_nearly(self) -> None:
        """Take in what was written meanwhile, until little of it is left."""
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
    """Return what the seal says, or what is wrong with it."""
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
