"""How an older ledger becomes this version's: sqlite-utils migrations, in order."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

from sqlite_utils import Database, Migrations

from keybrake.ledger import _events

_migrations = Migrations("keybrake")


@_migrations()
def m001_first_schema(db: Database) -> None:
    """Make the tables, triggers and views."""
    # executescript() would commit the transaction the migration runs in.
    for statement in _statements():
        db.execute(statement)


@_migrations()
def m002_events(db: Database) -> None:
    """Begin the chain of events, and the totals, in a ledger that has had none."""
    if "event" in db.table_names():
        return
    for view in db.view_names():
        db.execute(f"DROP VIEW {view}")
    db.execute("ALTER TABLE ledger DROP COLUMN latest")
    db.execute("ALTER TABLE ledger ADD COLUMN folded INTEGER NOT NULL DEFAULT 0")
    for statement in _statements():
        if _NEW.match(statement):
            db.execute(statement)
    _carry_over(db.conn)


# What the schema of version 2 has and that of version 1 had not, or had otherwise.
_NEW = re.compile(
    r"CREATE (VIEW|TABLE (event|total|stake)|TRIGGER event_|INDEX (call_weightless|stake_open))"
)


def _carry_over(connection: sqlite3.Connection) -> None:
    """Write one event for each scope and call there is: what it has come to so far."""
    uid, now = connection.execute("SELECT uid, created_at FROM ledger").fetchone()
    _events.begin(connection, uid, now)
    head = connection.execute("SELECT hash FROM event").fetchone()[0]
    at = connection.execute("SELECT coalesce(max(at), ?) FROM call", (now,)).fetchone()[0]
    facts = ", ".join(_events.SCOPE_FACTS)
    scopes = connection.execute(f"SELECT id, {facts} FROM scope ORDER BY id").fetchall()  # noqa: S608 -- constants
    seq = 1
    for pk, *fixed in scopes:
        seq += 1
        head = _events.append(
            connection, head, (seq, at, "carried", None, pk, 0, 0, None), tuple(fixed)
        )
    facts = ", ".join(_events.CALL_FACTS)
    calls = connection.execute(
        f"SELECT seq, state, reserved, coalesce(cost, 0), {facts} FROM call ORDER BY seq"  # noqa: S608 -- constants
    )
    for call, state, reserved, cost, *fixed in calls:
        seq += 1
        counted = reserved if state in ("reserved", "unknown") else 0
        columns = (seq, at, "carried", call, None, counted, cost, state)
        head = _events.append(connection, head, columns, tuple(fixed))


def apply(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration in a transaction of its own."""
    # execute_plugins=False: a plugin of the user's sqlite-utils has no business in a ledger.
    _migrations.apply(Database(connection, execute_plugins=False))


def _statements() -> list[str]:
    script = resources.files("keybrake.ledger").joinpath("schema.sql").read_text("utf-8")
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(_COMMENT.sub("", current).strip())
            current = ""
    return statements


_COMMENT = re.compile(r"\A(\s*(--[^\n]*)?\n)+")
