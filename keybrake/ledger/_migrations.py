"""How an older ledger becomes this version's: sqlite-utils migrations, in order."""

from __future__ import annotations

import sqlite3
from importlib import resources

from sqlite_utils import Database, Migrations

_migrations = Migrations("keybrake")


@_migrations()
def m001_first_schema(db: Database) -> None:
    """Make the tables, triggers and views."""
    script = resources.files("keybrake.ledger").joinpath("schema.sql").read_text("utf-8")
    # executescript() would commit the transaction the migration runs in.
    for statement in _statements(script):
        db.execute(statement)


def apply(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration in a transaction of its own."""
    # execute_plugins=False: a plugin of the user's sqlite-utils has no business in a ledger.
    _migrations.apply(Database(connection, execute_plugins=False))


def _statements(script: str) -> list[str]:
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    return statements
