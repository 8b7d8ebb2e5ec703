"""
The hash chain of events, which makes an edit of the ledger detectable.

The hash of an event is SHA-256 over the hash of the event before it and over its own digest. The
digest is SHA-256 over JSON: the columns of the event, and those columns of its call or scope that
never change afterwards. The chain starts from a hash of the ledger's id.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from hashlib import sha256

from keybrake.ledger import statements as sql
from keybrake.model import clock

# Columns that an event covers with its digest: of a call when it begins, of a scope when it is opened,
# and of a call when it ends. They never change after that event.
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
# Sum up events in the table total once there are so many; the view over fewer takes a millisecond.
_FOLD_AFTER = 256

_HEAD = "SELECT seq, at, hash FROM event ORDER BY seq DESC LIMIT 1"
_HASH_AT = "SELECT hash FROM event WHERE seq = ?"

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def digest(columns: Sequence[object], facts: Sequence[object]) -> bytes:
    """
    Return the digest of an event.

    Args:
        columns: seq, at, kind, call, scope, reserved, spent and detail.
        facts: The covered columns of its call or scope, in the order of ``CALL_FACTS``,
            ``SCOPE_FACTS`` or ``END_FACTS``.
    """
    return sha256(_encode((*columns, *facts)).encode()).digest()


def link(before: bytes, digested: bytes) -> bytes:
    """Return the hash of an event, from the hash of the event before it and its own digest."""
    return sha256(before + digested).digest()


def root(ledger_uid: str) -> bytes:
    """Return the hash from which the chain of a ledger starts."""
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
        connection: Must have an open transaction.
        before: The hash of the event before.
        columns: seq, at, kind, call, scope, reserved, spent and detail.
        facts: See ``digest``.
    """
    hashed = link(before, digest(columns, facts))
    connection.execute(_INSERT, (*columns, hashed))
    return hashed


class Rewritten(Exception):
    """The ledger lacks an event that this process has seen in it."""


class Chain:
    """
    The end of the chain, as this process knows it.

    Attributes:
        seq: Number of the newest event.
        at: Time of the newest event in microseconds.
        folded: Newest event in the table total, if this process has updated that; else 0.
    """

    def __init__(self) -> None:
        self.seq, self.at, self._hash = 0, 0, b""
        self.folded = 0
        self._known = (0, b"")

    def catch_up(self, cursor: sqlite3.Cursor) -> None:
        """
        Read the newest event; call this at the beginning of each transaction.

        Raises:
            Rewritten: The ledger lacks an event that this process has seen in it.
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
        """Remember the newest event after its commit: the ledger must never lack it again."""
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
    One open write transaction.

    Attributes:
        cursor: The cursor of the write connection.
        execute: ``cursor.execute``.
        now: Ledger time in microseconds: the wall clock, but never earlier than the newest event.
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
        """Append an event of a call; *reserved* and *spent* are changes in micro-USD."""
        columns = (self.now, kind, call, None, reserved, spent, detail)
        self._chain.write(self.cursor, columns, facts)

    def fold(self) -> None:
        """Add the newest events to the table total, once there are enough of them."""
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
        """Append an event of a run or a tool, or of the ledger itself if *scope* is None."""
        self._chain.write(self.cursor, (self.now, kind, None, scope, 0, 0, detail), facts)
