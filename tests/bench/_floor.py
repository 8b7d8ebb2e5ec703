"""What any ledger must cost: two raw transactions that keep a counter and a row."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.bench._measure import WARM_UP

_SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY, cap INTEGER, spent INTEGER, reserved INTEGER) STRICT;
CREATE TABLE call (id INTEGER PRIMARY KEY, run INTEGER, at INTEGER, endpoint TEXT, state INTEGER,
    reserved INTEGER, cost INTEGER) STRICT;
CREATE INDEX call_run ON call (run, id);
INSERT INTO run VALUES (1, 1000000000000000, 0, 0);
"""


class Floor:
    """BEGIN; UPDATE with the cap in WHERE; INSERT; COMMIT / BEGIN; UPDATE; UPDATE; COMMIT."""

    def __init__(self, path: Path, *, durability: str) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_SCHEMA)
        self._cursor = connection.cursor()
        self._admit_level = "FULL" if durability == "power" else "NORMAL"

    def call(self) -> None:
        """Record one call of one cent."""
        cursor = self._cursor
        cursor.execute(f"PRAGMA synchronous={self._admit_level}")
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute(
            "UPDATE run SET reserved = reserved + ? WHERE id = 1 AND spent + reserved + ? <= cap",
            (10_000, 10_000),
        )
        cursor.execute(
            "INSERT INTO call (run, at, endpoint, state, reserved) VALUES (1, ?, ?, 0, ?)",
            (1, "stripe.payment_intents.create", 10_000),
        )
        row = cursor.lastrowid
        cursor.execute("COMMIT")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("UPDATE call SET state = 1, cost = ? WHERE id = ?", (10_000, row))
        cursor.execute(
            "UPDATE run SET reserved = reserved - ?, spent = spent + ? WHERE id = 1",
            (10_000, 10_000),
        )
        cursor.execute("COMMIT")

    def check(self, rounds: int) -> None:
        """Assert that the totals are exact."""
        spent, reserved = self._cursor.execute("SELECT spent, reserved FROM run").fetchone()
        assert (spent, reserved) == ((rounds + WARM_UP) * 10_000, 0)
