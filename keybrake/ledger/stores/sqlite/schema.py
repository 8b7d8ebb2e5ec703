"""
How an older ledger becomes this version's: migrations, in order, on record as sqlite-utils has them.

They are applied without sqlite-utils itself. It brings pandas, other builds of SQLite and its plugins
along, where they are installed, and this happens in an agent's process, in its first run.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from keybrake.ledger import event_chain
from keybrake.model import clock, data_files

_SET = "keybrake"


def m001_first_schema(connection: sqlite3.Connection) -> None:
    """Make the tables, triggers and views."""
    # executescript() would commit the transaction the migration runs in.
    for statement in _statements():
        connection.execute(statement)


def m002_events(connection: sqlite3.Connection) -> None:
    """Begin the chain of events, and the totals, in a ledger that has had none."""
    if "event" in _names(connection, "table"):
        return
    for view in _names(connection, "view"):
        connection.execute(f"DROP VIEW {view}")
    connection.execute("ALTER TABLE ledger DROP COLUMN latest")
    connection.execute("ALTER TABLE ledger ADD COLUMN folded INTEGER NOT NULL DEFAULT 0")
    for statement in _statements():
        if _NEW.match(statement):
            connection.execute(statement)
    _carry_over(connection)


_ALL: tuple[Callable[[sqlite3.Connection], None], ...] = (m001_first_schema, m002_events)


def _names(connection: sqlite3.Connection, kind: str) -> list[str]:
    """Return the names of the tables or views that there are."""
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = ?", (kind,))
    return [name for (name,) in rows.fetchall()]


# What the schema of version 2 has and that of version 1 had not, or had otherwise.
_NEW = re.compile(
    r"CREATE (VIEW|TABLE (event|total|stake)|TRIGGER event_|INDEX (call_weightless|stake_open))"
)


def _carry_over(connection: sqlite3.Connection) -> None:
    """Write one event for each scope and call there is: what it has come to so far."""
    uid, now = connection.execute("SELECT uid, created_at FROM ledger").fetchone()
    event_chain.begin(connection, uid, now)
    head = connection.execute("SELECT hash FROM event").fetchone()[0]
    at = connection.execute("SELECT coalesce(max(at), ?) FROM call", (now,)).fetchone()[0]
    facts = ", ".join(event_chain.SCOPE_FACTS)
    scopes = connection.execute(f"SELECT id, {facts} FROM scope ORDER BY id").fetchall()  # noqa: S608 -- constants
    seq = 1
    for pk, *fixed in scopes:
        seq += 1
        head = event_chain.append(
            connection, head, (seq, at, "carried", None, pk, 0, 0, None), tuple(fixed)
        )
    facts = ", ".join(event_chain.CALL_FACTS)
    calls = connection.execute(
        f"SELECT seq, state, reserved, coalesce(cost, 0), {facts} FROM call ORDER BY seq"  # noqa: S608 -- constants
    )
    for call, state, reserved, cost, *fixed in calls:
        seq += 1
        counted = reserved if state in ("reserved", "unknown") else 0
        columns = (seq, at, "carried", call, None, counted, cost, state)
        head = event_chain.append(connection, head, columns, tuple(fixed))


def apply(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration in a transaction of its own, with the record of it."""
    with _transaction(connection):
        if "_sqlite_migrations" not in _names(connection, "table"):
            for statement in _RECORDS:
                connection.execute(statement)
    rows = connection.execute(
        "SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (_SET,)
    )
    applied = {name for (name,) in rows.fetchall()}
    for migration in _ALL:
        if migration.__name__ in applied:
            continue
        with _transaction(connection):
            migration(connection)
            connection.execute(_RECORD, (_SET, migration.__name__, _stamp()))


# The table of sqlite-utils, word for word, so that its command line finds what was applied.
_RECORDS = (
    """CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)""",
    """CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")""",
)
_RECORD = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)"


def _stamp() -> str:
    return str(datetime.fromtimestamp(clock.now() / clock.SECOND, UTC))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _statements() -> list[str]:
    script = data_files.read("keybrake.ledger.stores.sqlite", "schema.sql")
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(_COMMENT.sub("", current).strip())
            current = ""
    return statements


_COMMENT = re.compile(r"\A(\s*(--[^\n]*)?\n)+")
