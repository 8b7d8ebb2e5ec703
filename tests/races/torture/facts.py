"""What is left after a torture run: the vendor's journal, the ledger's tables, the records."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.races.torture import record

Row = dict[str, Any]
MICROS_PER_CENT = 10_000


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What really happened, and what is said of it; read with none of the code that is tried.

    Attributes:
        caps: Micros that each run of the plan may move.
        revoked_at: When ``keybrake revoke`` had returned, by run.
        journal: What the vendor was asked, in order.
        records: What the workers saw, in order.
        calls: The ledger's rows by amount: each call of a plan has an amount of its own.
        scopes: The ledger's runs and tools by number.
        totals: What the ledger's views say was counted at each endpoint.
        damage: What SQLite itself finds wrong with the file.
    """

    caps: dict[str, int]
    revoked_at: dict[str, float]
    journal: list[Row]
    records: list[Row]
    calls: dict[int, list[Row]]
    scopes: dict[int, Row]
    buckets: list[Row]
    events: list[Row]
    totals: list[Row]
    damage: str = ""

    @property
    def moved(self) -> list[Row]:
        """The requests that moved money."""
        return [entry for entry in self.journal if entry["moved"]]

    @property
    def rows(self) -> Iterator[Row]:
        """Every row of the call log."""
        return (row for rows in self.calls.values() for row in rows)

    def admitted(self, cents: int) -> list[Row]:
        """Return the rows of a call that were let through."""
        return [row for row in self.calls.get(cents, ()) if row["state"] != "refused"]

    def times(self, what: str) -> int:
        """Return how often the workers saw something."""
        return sum(record["what"] == what for record in self.records)


def gather(folder: Path, caps: dict[str, int], revoked_at: dict[str, float]) -> Facts:
    """Read everything; *caps* in cents."""
    journal = (folder / "journal.jsonl").read_text().splitlines()
    ledger = f"file:{folder / 'ledger.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(ledger, uri=True)) as db:
        db.row_factory = sqlite3.Row
        return Facts(
            caps={run: cents * MICROS_PER_CENT for run, cents in caps.items()},
            revoked_at=revoked_at,
            journal=[json.loads(line) for line in journal],
            records=record.read(folder / "seen"),
            calls=_calls(db),
            scopes={row["id"]: row for row in _all(db, "SELECT * FROM scope")},
            buckets=_all(db, "SELECT * FROM bucket"),
            events=_all(db, "SELECT * FROM event ORDER BY seq"),
            totals=_all(db, _TOTALS),
            damage=db.execute("PRAGMA integrity_check").fetchone()[0].removeprefix("ok"),
        )


_TOTALS = """
SELECT endpoint, spent_micros AS spent, reserved_micros AS reserved, calls, refused
FROM spend_by_endpoint
"""


def _calls(db: sqlite3.Connection) -> dict[int, list[Row]]:
    calls: dict[int, list[Row]] = {}
    for row in _all(db, "SELECT * FROM call ORDER BY seq"):
        row["scopes"] = tuple(json.loads(row["scopes"]))
        row["buckets"] = [tuple(bucket) for bucket in json.loads(row["buckets"] or "[]")]
        calls.setdefault(row["amount"], []).append(row)
    return calls


def _all(db: sqlite3.Connection, statement: str) -> list[Row]:
    return [dict(row) for row in db.execute(statement)]
