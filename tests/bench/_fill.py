"""
Many calls into a ledger, fast: rows, positions, totals and the chain of events, as calls leave them.

Everything a call leaves behind is written by the ledger's own statements and hashes, only many at
a time; what is filled this way passes ``keybrake verify``.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from keybrake import Policy
from keybrake.ledger import statements as sql
from keybrake.ledger.entries import row_of
from keybrake.ledger.event_chain import digest, link
from keybrake.ledger.protocol import Admission, NewRun
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import State
from keybrake.policy.policy import terms_of
from tests.bench._ledger import CALL, CENT, ORIGIN

RUNS = 1000
_BATCH = 50_000
_ENDPOINTS = ("payment_intents", "refunds", "charges", "invoices", "transfers", "payouts")

_COLUMNS = sql.INSERT_CALL.partition("(")[2].partition(")")[0]
_CALL = f"""
INSERT INTO call ({_COLUMNS}, seq, cost, object_id, http_status, ended_at)
VALUES ({", ".join("?" * 33)})
"""
_EVENT = """
INSERT INTO event (seq, at, kind, call, scope, reserved, spent, detail, hash)
VALUES (?, ?, ?, ?, NULL, ?, ?, NULL, ?)
"""
_SPEND = "UPDATE scope SET spent = spent + ?, calls = calls + ? WHERE id = ?"
_HEAD = "SELECT seq, at, hash FROM event ORDER BY seq DESC LIMIT 1"


class Filling:
    """
    A ledger that is filled up, call by call of a cent, over a thousand runs.

    Args:
        path: Where there is no ledger yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hex = random.Random(11).getrandbits
        self.calls = 0
        with closing(SQLiteLedger(path, lock_timeout_s=60, durability="process")) as ledger:
            terms = terms_of(Policy(cap=1_000_000))
            self._runs = [
                ledger.open_run(NewRun(f"run_{n:016x}", f"agent {n}", terms, None, os.urandom(32)))
                for n in range(RUNS)
            ]
        self._templates = [self._template(run) for run in self._runs]

    @staticmethod
    def _template(run: int) -> tuple[object, ...]:
        """Return the columns that all calls of a run have in common."""
        noun = _ENDPOINTS[run % len(_ENDPOINTS)]
        call = CALL._replace(endpoint=f"stripe.{noun}.create", path=f"/v1/{noun}")
        asked = Admission("", call, (run,), origin=ORIGIN)
        return row_of(asked, State.SETTLED, 0, reserved=CENT, process="0123456789ab")

    def up_to(self, calls: int) -> None:
        """Add calls until there are so many."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            # Random ids land anywhere in their index: it is kept in memory while it grows.
            connection.execute("PRAGMA cache_size=-4000000")
            while self.calls < calls:
                first = self.calls + 1
                self._batch(connection, first, min(calls, self.calls + _BATCH))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _batch(self, connection: sqlite3.Connection, first: int, last: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        head, at, before = connection.execute(_HEAD).fetchone()
        rows, events, positions = [], [], []
        for seq in range(first, last + 1):
            row = self._settled(seq, at)
            at += 2
            for event in _events(row, seq, head):
                before = link(before, event[-1])
                events.append((*event[:-1], before))
                head += 1
            rows.append(row)
            positions.append((row[25], "open", CENT, "usd", "1", seq, seq))
        connection.executemany(_CALL, rows)
        connection.executemany(_EVENT, events)
        connection.executemany(sql.NEW_POSITION, positions)
        self._count(connection, rows)
        connection.execute(sql.FOLD)
        connection.execute(sql.FOLDED, (head,))
        connection.execute("COMMIT")
        self.calls = last

    def _settled(self, seq: int, at: int) -> tuple[object, ...]:
        """Return the row of a call that has ended: what INSERT_CALL takes, and five more."""
        template = self._templates[seq % RUNS]
        name = f"pi_{self._hex(96):024x}"
        uid = f"{self._hex(96):024x}"
        began = (uid, at + 1, *template[2:25], f"stripe::{name}", *template[26:])
        return (*began, seq, CENT, name, 200, at + 2)

    def _count(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        counts: dict[object, int] = {}
        for row in rows:
            counts[row[2]] = counts.get(row[2], 0) + 1
        connection.executemany(_SPEND, [(CENT * n, n, run) for run, n in counts.items()])


def _events(row: tuple[object, ...], seq: int, head: int) -> tuple[tuple[object, ...], ...]:
    """Return the two events of a call, each with its digest at the end."""
    _, at, *_ = row
    # As the ledger fixes them: when it is admitted, and when it has ended.
    facts = (*row[:12], *row[16:21], row[22], row[23], row[24], row[26], row[27])
    admitted = (head + 1, at, "admitted", seq, None, CENT, 0, None)
    ended_at, contingent = row[32], row[21]
    ends = (row[25], None, row[30], row[31], contingent, ended_at, None)
    settled = (head + 2, ended_at, "settled", seq, None, -CENT, CENT, None)
    return tuple(
        (*columns[:4], columns[5], columns[6], digest(columns, said))
        for columns, said in ((admitted, facts), (settled, ends))
    )


def check(path: Path, calls: int) -> None:
    """Assert that rows, runs and totals of a ledger say the same."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT count(*), sum(cost) FROM call").fetchone()
        runs = connection.execute("SELECT sum(calls), sum(spent), sum(reserved) FROM scope")
        totals = connection.execute("SELECT sum(calls), sum(spent), sum(reserved) FROM totals")
        assert rows == (calls, calls * CENT), rows
        for found in (runs.fetchone(), totals.fetchone()):
            assert found == (calls, calls * CENT, 0), found
