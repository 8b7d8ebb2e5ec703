"""Compare the rows of a ledger with the rows that its events lead to."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from keybrake.ledger.audit.event_reader import PAGE, Finding
from keybrake.ledger.audit.replay import Replay
from keybrake.model import data_files

Key = tuple[Any, ...]
Rows = Mapping[Key, tuple[object, ...]]


class Table(NamedTuple):
    """
    One table with rows that follow from the events.

    Attributes:
        key: Number of columns in the key; they come first in both statements.
        page: Selects the rows after a key, with a limit.
        one: Selects the row with a key.
        columns: Names of the compared columns.
        name: Returns the name of a row for a finding.
    """

    key: int
    page: str
    one: str
    columns: tuple[str, ...]
    name: Callable[[Key], str]


_SCOPE = (
    "SELECT id, spent, reserved, calls, refused, closed_at, revoked_at, paused_at FROM scope WHERE"
)
_BUCKET = "SELECT scope, rule, at, spent, reserved, calls FROM bucket WHERE"
_POSITION = """
SELECT position.key, position.open_writes, newest.position, newest.state, writer.seq IS NOT NULL
FROM position
LEFT JOIN call AS newest ON newest.seq = position.last_call
LEFT JOIN call AS writer ON writer.seq = position.last_write
WHERE"""
_CALL = "SELECT seq, state, reserved, coalesce(cost, 0) FROM call WHERE"
_DETAIL = "SELECT reason, object_id, http_status FROM call WHERE seq = ?"

SCOPES = Table(
    1,
    f"{_SCOPE} id > ? ORDER BY id LIMIT ?",
    f"{_SCOPE} id = ?",
    ("spent", "reserved", "calls", "refused", "closed_at", "revoked_at", "paused_at"),
    lambda key: f"scope {key[0]}",
)
BUCKETS = Table(
    3,
    f"{_BUCKET} (scope, rule, at) > (?, ?, ?) ORDER BY scope, rule, at LIMIT ?",
    f"{_BUCKET} (scope, rule, at) = (?, ?, ?)",
    ("spent", "reserved", "calls"),
    lambda key: f"window {key[2]} of limit {key[1]} of scope {key[0]}",
)
POSITIONS = Table(
    1,
    f"{_POSITION} position.key > ? ORDER BY position.key LIMIT ?",
    f"{_POSITION} position.key = ?",
    ("open_writes", "position of last_call", "state of last_call", "last_write is there"),
    lambda key: f"position {key[0]}",
)
CALLS = Table(
    1,
    f"{_CALL} seq > ? ORDER BY seq LIMIT ?",
    f"{_CALL} seq = ?",
    ("state", "reserved", "cost"),
    lambda key: f"call {key[0]}",
)
_FIRST: Mapping[str, Key] = {
    SCOPES.page: (-1,),
    BUCKETS.page: (-1, -1, -(2**63)),
    POSITIONS.page: ("",),
    CALLS.page: (-1,),
}


def pages(connection: sqlite3.Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a table; no statement is open between two pages."""
    key = _FIRST[table.page]
    while page := connection.execute(table.page, (*key, PAGE)).fetchall():
        yield page
        key = page[-1][: table.key]


def expected_of(replay: Replay, connection: sqlite3.Connection) -> list[tuple[Table, Rows]]:
    """Return the expected rows of every table except the calls."""
    tracked = Counter[str](
        row[0]
        for call in sorted(replay.open)
        for row in connection.execute(
            "SELECT position FROM call WHERE seq = ? AND position IS NOT NULL", (call,)
        )
    )
    return [
        (SCOPES, {(pk,): row for pk, row in replay.scopes().items()}),
        (BUCKETS, replay.buckets()),
        (POSITIONS, _Positions(tracked)),
    ]


class _Positions(dict[Key, tuple[object, ...]]):
    """The expected rows of positions; a position without an open call is not an entry, but valid."""

    def __init__(self, tracked: Mapping[str, int]) -> None:
        super().__init__({(key,): (n, key, "settled", 1) for key, n in tracked.items()})

    def __missing__(self, key: Key) -> tuple[object, ...]:
        return (0, key[0], "settled", 1)


def suspects(connection: sqlite3.Connection, table: Table, expected: Rows) -> set[Key]:
    """Return the keys of the rows that differ, are missing, or are not expected."""
    found, seen = set(), 0
    for page in pages(connection, table):
        for row in page:
            key = row[: table.key]
            wanted = _wanted(expected, key)
            seen += key in expected
            if wanted is None or wanted != row[table.key :]:
                found.add(key)
    if seen != len(expected):
        found |= {key for key in expected if _one(connection, table, key) is None}
    return found


def _wanted(expected: Rows, key: Key) -> tuple[object, ...] | None:
    try:
        return expected[key]
    except KeyError:
        return None


def _one(connection: sqlite3.Connection, table: Table, key: Key) -> tuple[Any, ...] | None:
    row = connection.execute(table.one, key).fetchone()
    return None if row is None else row[table.key :]


def differences(
    connection: sqlite3.Connection, table: Table, expected: Rows, keys: Iterable[Key]
) -> Iterator[Finding]:
    """Yield a finding for each column that differs in the rows of *keys*."""
    for key in sorted(keys):
        found, wanted = _one(connection, table, key), _wanted(expected, key)
        name = table.name(key)
        if table is SCOPES and found is not None:
            name = _scope_name(connection, key[0])
        if found is None or wanted is None:
            if found is not wanted:
                yield Finding("row", name, *map(_there, (wanted, found)))
            continue
        for column, want, have in zip(table.columns, wanted, found, strict=True):
            if want != have:
                yield Finding(column, name, want, have)


def _there(row: object) -> str:
    return "none" if row is None else "one"


def _scope_name(connection: sqlite3.Connection, pk: int) -> str:
    kind, uid = connection.execute("SELECT kind, uid FROM scope WHERE id = ?", (pk,)).fetchone()
    return f"{kind} {uid}"


# Calls


def suspect_calls(
    replay: Replay, rows: Iterable[tuple[Any, ...]], after: int, up_to: int | None = None
) -> Iterator[int]:
    """Yield the calls that differ from the events: among *rows*, or missing between them."""
    for seq, *found in rows:
        yield from (n for n in range(after + 1, seq) if replay.call(n) is not None)
        if replay.call(seq) != (*found,):
            yield seq
        after = seq
    if up_to is not None:
        yield from (n for n in range(after + 1, up_to + 1) if replay.call(n) is not None)


def differing_calls(
    connection: sqlite3.Connection, replay: Replay, calls: Iterable[int]
) -> Iterator[Finding]:
    """Yield a finding for each column that differs in *calls*."""
    expected = {(seq,): wanted for seq in calls if (wanted := replay.call(seq)) is not None}
    yield from differences(connection, CALLS, expected, {(seq,) for seq in calls})


def unknown_calls(connection: sqlite3.Connection, replay: Replay) -> Iterator[Finding]:
    """Yield the unknown calls with another reason, object or HTTP status than in their event."""
    for seq, detail in sorted(replay.unknown.items()):
        found = connection.execute(_DETAIL, (seq,)).fetchone()
        if found is not None and detail is not None and json.loads(detail) != [*found]:
            yield Finding("outcome", f"call {seq}", detail, json.dumps(found))


def differing_stakes(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield the stakes that are open although their call has ended, or ended although it is open."""
    for key, call, is_open in connection.execute(_STAKES).fetchall():
        wanted, have = ("ended", "open") if is_open else ("open", "ended")
        yield Finding("stake", f"{key} of call {call}", wanted, have)


_STAKES = """
SELECT stake.object, stake.call, stake.ended IS NULL
FROM stake LEFT JOIN call ON call.seq = stake.call
WHERE (stake.ended IS NULL) <> (coalesce(call.state, '') IN ('reserved', 'unknown'))
ORDER BY stake.call, stake.object
"""


# Triggers and views


def differing_guards(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield triggers that are missing, changed or added, and views that are missing or changed."""
    script = data_files.read("keybrake.ledger.stores.sqlite", "schema.sql")
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(script)
        expected, found = (
            {(kind, name): text for kind, name, text in c.execute(_GUARDS).fetchall()}
            for c in (made, connection)
        )
    for kind, name in sorted(expected.keys() | found.keys()):
        wanted, have = expected.get((kind, name)), found.get((kind, name))
        # An extra view does no harm, but an extra trigger could change rows.
        if wanted != have and (wanted is not None or kind == "trigger"):
            yield Finding("schema", f"{kind} {name}", _kept(wanted), _kept(have))


def _kept(statement: str | None) -> str:
    return "none" if statement is None else " ".join(statement.split())


_GUARDS = """
SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')
"""


# Totals


def differing_totals(connection: sqlite3.Connection, replay: Replay) -> Iterator[Finding]:
    """Yield the days and endpoints with totals that differ from the sums of their calls."""
    rows = connection.execute(
        "SELECT day, endpoint, sum(spent), sum(reserved), sum(calls), sum(refused) FROM totals "
        "GROUP BY day, endpoint"
    )
    found = {(day, endpoint): sums for day, endpoint, *sums in rows}
    for day, endpoint in sorted({*found, *replay.days}, key=str):
        nothing = [0, 0, 0, 0]
        wanted, have = (sums.get((day, endpoint), nothing) for sums in (replay.days, found))
        if [*wanted] != [*have]:
            where = f"day {day}, {endpoint}"
            yield Finding("totals", where, _sums(wanted), _sums(have))


def _sums(sums: Iterable[object]) -> str:
    return "/".join(map(str, sums))
