"""
What happened, in order, so that an edit shows: the chain of events.

An event's hash is SHA-256 over the hash of the event before it and the digest of what it says;
the digest is SHA-256 over that as JSON: its columns, and those of the call or scope it is about
that never change afterwards. Before the first event stands the ledger's own id.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from hashlib import sha256

from keybrake.ledger import statements as sql
from keybrake.model import clock

# The columns that are fixed by the event a row begins with, and by the one a call ends with.
CALL_FACTS = (
    "uid",
    "at",
    "run",
    "tool",
    "scopes",
    "vendor",
    "endpoint",
    "method",
    "path",
    "origin",
    "account",
    "owner",
    "amount",
    "currency",
    "usd_per_unit",
    "idempotency_key",
    "meter",
    "recurring",
    "buckets",
    "would_refuse",
    "leans_on",
    "process",
)
SCOPE_FACTS = (
    "uid",
    "kind",
    "label",
    "parent",
    "hex(key_hash)",
    "mode",
    "terms",
    "cap",
    "max_calls",
    "opened_at",
    "expires_at",
)
END_FACTS = (
    "position",
    "prior",
    "object_id",
    "http_status",
    "contingent",
    "ended_at",
    "evidence",
)

_INSERT = """
INSERT INTO event (seq, at, kind, call, scope, reserved, spent, detail, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A view over so few events answers in a millisecond.
_FOLD_AFTER = 256

_HEAD = "SELECT seq, at, hash FROM event ORDER BY seq DESC LIMIT 1"
_HASH_AT = "SELECT hash FROM event WHERE seq = ?"

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def digest(columns: Sequence[object], facts: Sequence[object]) -> bytes:
    """
    Return the digest of an event.

    Args:
        columns: seq, at, kind, call, scope, reserved, spent and detail.
        facts: The columns it fixes of the row it is about, in the order given above.
    """
    return sha256(_encode((*columns, *facts)).encode()).digest()


def link(before: bytes, digested: bytes) -> bytes:
    """Return the hash of an event, from that of the one before it and its own digest."""
    return sha256(before + digested).digest()


def root(ledger_uid: str) -> bytes:
    """Return what stands before the first event of a ledger."""
    return sha256(f"keybrake:{ledger_uid}".encode()).digest()


def begin(connection: sqlite3.Connection, ledger_uid: str, at: int) -> None:
    """Write the first event of a ledger."""
    append(connection, root(ledger_uid), (1, at, "made", None, None, 0, 0, None), ())


def append(
    connection: sqlite3.Connection | sqlite3.Cursor,
    before: bytes,
    columns: tuple[int, int, str, int | None, int | None, int, int, str | None],
    facts: Sequence[object],
) -> bytes:
    """
    Append an event and return its hash.

    Args:
        connection: In the open transaction.
        before: The hash of the event before it.
        columns: seq, at, kind, call, scope, reserved, spent and detail.
        facts: See ``digest``.
    """
    hashed = link(before, digest(columns, facts))
    connection.execute(_INSERT, (*columns, hashed))
    return hashed


class Rewritten(Exception):
    """The ledger's past is not the one this process knows."""


class Chain:
    """
    The newest event, as this process knows it, and ledger time.

    Attributes:
        seq: Number of the newest event; it is the ledger's sequence.
        at: Its time in micros.
        folded: The newest event that is in the totals, as far as this process knows.
    """

    def __init__(self) -> None:
        self.seq, self.at, self._hash = 0, 0, b""
        self.folded = 0
        self._known = (0, b"")

    def catch_up(self, cursor: sqlite3.Cursor) -> None:
        """
        Read what the newest event is. Call it at the begin of a transaction.

        Raises:
            Rewritten: What this process has seen before is not there any more.
        """
        self.seq, self.at, self._hash = cursor.execute(_HEAD).fetchone()
        seen, known = self._known
        if self.seq == seen and self._hash == known:
            return
        if seen:
            there = cursor.execute(_HASH_AT, (seen,)).fetchone()
            if there is None or there[0] != known:
                raise Rewritten
        self._known = (self.seq, self._hash)

    def committed(self) -> None:
        """Remember the newest event: it will not go away any more."""
        self._known = (self.seq, self._hash)

    def write(
        self,
        cursor: sqlite3.Cursor,
        columns: tuple[int, str, int | None, int | None, int, int, str | None],
        facts: Sequence[object],
    ) -> None:
        """Append an event; *columns* as in ``append``, without seq."""
        self.seq += 1
        self.at = columns[0]
        self._hash = append(cursor, self._hash, (self.seq, *columns), facts)


class Writing:
    """
    What one transaction writes with.

    Attributes:
        cursor: SQLite's own.
        execute: The cursor's.
        now: Ledger time in micros: the wall clock, but never before anything on record.
    """

    __slots__ = ("_chain", "cursor", "execute", "now")

    def __init__(self, cursor: sqlite3.Cursor, chain: Chain) -> None:
        self.cursor = cursor
        self.execute = cursor.execute
        self._chain = chain
        self.now = max(clock.now(), chain.at)

    @property
    def event(self) -> int:
        """Return the number of the newest event."""
        return self._chain.seq

    def of_call(
        self,
        kind: str,
        call: int,
        facts: Sequence[object] = (),
        *,
        reserved: int = 0,
        spent: int = 0,
        detail: str | None = None,
    ) -> None:
        """Append what happened to a call; *reserved* and *spent*: by how many micros they changed."""
        columns = (self.now, kind, call, None, reserved, spent, detail)
        self._chain.write(self.cursor, columns, facts)

    def fold(self) -> None:
        """Take the newest events into the totals, once there are enough of them."""
        if self._chain.seq - self._chain.folded >= _FOLD_AFTER:
            self.execute(sql.FOLD)
            self.execute(sql.FOLDED, (self._chain.seq,))
            self._chain.folded = self._chain.seq

    def of_scope(
        self,
        kind: str,
        scope: int | None,
        facts: Sequence[object] = (),
        *,
        detail: str | None = None,
    ) -> None:
        """Append what happened to a run or a tool, or to the ledger itself: *scope* None."""
        self._chain.write(self.cursor, (self.now, kind, None, scope, 0, 0, detail), facts)
