"""Read a ledger page by page, so that no command keeps a read transaction open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from keybrake.errors import LedgerError
from keybrake.ledger import RunRecord, doubts
from keybrake.ledger import statements as sql
from keybrake.ledger.stores.sqlite import ledger_files
from keybrake.ledger.stores.sqlite.identity import older_than_seal
from keybrake.model import clock, vault_key
from keybrake.model.call import InDoubt
from keybrake.policy.policy import matches

PAGE = 1000
# One statement scans so many rows, which takes some hundredths of a second. Between statements a
# writer can checkpoint the WAL.
_SPAN = 50_000
_GOING_ON = ("open", "paused")
_CANDIDATES_SHOWN = 5
_SHORTEST_PREFIX = len("run_") + 1

# Reserved calls have no index: find them through the runs with a reserved amount.
_MAY_CHANGE = f"""
SELECT seq FROM call WHERE state = 'unknown'
UNION
SELECT call.seq FROM scope CROSS JOIN call ON call.run = scope.id
WHERE scope.reserved > 0 AND call.state = 'reserved'
UNION
SELECT seq FROM call WHERE state = 'reserved' AND reserved = 0 AND position IS NOT NULL
UNION
SELECT call FROM stake WHERE ended IS NULL
UNION
SELECT seq FROM call WHERE seq > :up_to - {_SPAN} AND state = 'reserved'
"""  # noqa: S608 -- a constant

CALL_COLUMNS = (
    "seq",
    "at",
    "run_id",
    "label",
    "tool",
    "vendor",
    "endpoint",
    "method",
    "path",
    "state",
    "reason",
    "reserved_micros",
    "cost_micros",
    "amount",
    "currency",
    "object_id",
    "http_status",
    "duration_ms",
    "would_refuse",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of calls; a call must match all fields that are set."""

    run_id: str | None = None
    state: str | None = None
    endpoint: str | None = None

    def where(self, *more: str) -> str:
        """Return the filter and *more* as an SQL condition with named parameters."""
        conditions = [
            *(["run_id = :run_id"] if self.run_id is not None else []),
            *(["state = :state"] if self.state is not None else []),
            *(["means(:endpoint, endpoint, method, path)"] if self.endpoint is not None else []),
            *more,
        ]
        return " AND ".join(conditions) or "1"

    def parameters(self, **more: object) -> dict[str, object]:
        """Return the values of the named parameters."""
        named = {"run_id": self.run_id, "state": self.state, "endpoint": self.endpoint, **more}
        return {name: value for name, value in named.items() if value is not None}


class Book:
    """
    An existing ledger, opened for reading; it is never made here, and reads never wait for a writer.

    Raises:
        LedgerError: There is no ledger at *url* yet, or the file is not a ledger.
    """

    def __init__(self, url: str) -> None:
        self.path: Path = ledger_files.path_of(url)
        if not os.path.lexists(self.path):
            msg = f"no ledger at {self.path} yet; the first run makes it (see keybrake demo)"
            raise LedgerError(msg)
        try:
            ledger_files.check_file(self.path)
            self.connection = ledger_files.connect(self.path, read_only=True)
        except (ledger_files.Unusable, sqlite3.Error) as error:
            msg = f"the ledger {self.path} cannot be read: {error}"
            raise LedgerError(msg) from error
        try:
            ledger_files.check_schema(self.connection, self.path)
        except (ledger_files.Unusable, sqlite3.Error) as error:
            self.connection.close()
            msg = f"the ledger {self.path} cannot be read: {error}"
            raise LedgerError(msg) from error
        self.connection.create_function("means", 4, matches, deterministic=True)

    def is_not_the_newest(self) -> str | None:
        """Return why newer events may be missing from this file; None if there is no sign of that."""
        if (words := ledger_files.second_name(self.path)) is not None:
            return words
        uid, newest = self.connection.execute(ledger_files.NAME).fetchone()
        return older_than_seal(self.path, uid, newest)

    def __enter__(self) -> Self:
        """Return the open ledger."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the ledger."""
        self.connection.close()

    def rows(self, statement: str, parameters: Any = ()) -> list[dict[str, Any]]:
        """Return the rows of a statement as dictionaries by column name."""
        found = self.connection.execute(statement, parameters)
        names = [name for name, *_ in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    # Runs

    def runs(self) -> Iterator[RunRecord]:
        """Yield every run, newest first."""
        below = 2**63 - 1
        while page := self._runs(
            "scope.kind = 'run' AND scope.id < ? ORDER BY scope.id DESC LIMIT ?", below, PAGE
        ):
            yield from page
            below = page[-1].pk

    def _runs(self, where: str, *parameters: object) -> list[RunRecord]:
        rows = self.connection.execute(f"{sql.SELECT_RUNS} WHERE {where}", parameters)
        return [RunRecord._make(row) for row in rows.fetchall()]

    def run(self, uid: str) -> RunRecord:
        """Return a run by its id."""
        return self._runs("scope.uid = ?", uid)[0]

    def find(self, said: str) -> RunRecord:
        """
        Return the run with this id, beginning of an id, label or vault key.

        If several runs match and exactly one of them is open or paused, return that one.

        Raises:
            LedgerError: No run matches, or more than one.
        """
        if said.startswith(vault_key.PREFIX):
            # Do not repeat the text in an error: it may be a valid key.
            return self._only(self._by_key(said), "the vault key given")
        if exact := self._runs("scope.kind = 'run' AND scope.uid = ?", said):
            return exact[0]
        found = self._runs("scope.kind = 'run' AND scope.label = ? ORDER BY scope.id DESC", said)
        if len(said) >= _SHORTEST_PREFIX:
            found += self._runs(
                "scope.kind = 'run' AND substr(scope.uid, 1, ?) = ? AND scope.label <> ? "
                "ORDER BY scope.id DESC",
                len(said),
                said,
                said,
            )
        return self._only(found, repr(said))

    def going_on(self, label: str | None = None) -> list[RunRecord]:
        """
        Return the open and paused runs, oldest first; with *label*, only those with that label.

        Raises:
            LedgerError: No run has ever had that label.
        """
        clause, given = ("", ()) if label is None else (" AND scope.label = ?", (label,))
        found = self._runs(f"scope.kind = 'run'{clause} ORDER BY scope.id", *given)
        if label is not None and not found:
            msg = f"no run has the label {label[:100]!r} in {self.path}; keybrake runs lists them"
            raise LedgerError(msg)
        return [run for run in found if run.state() in _GOING_ON]

    def _only(self, found: Sequence[RunRecord], said: str) -> RunRecord:
        going_on = [run for run in found if run.state() in _GOING_ON]
        if len(found) == 1 or len(going_on) == 1:
            return (going_on or found)[0]
        if not found:
            msg = f"no run matches {said:.100} in {self.path}; keybrake runs lists them"
            raise LedgerError(msg)
        first = sorted(found, key=lambda run: run.state() not in _GOING_ON)[:_CANDIDATES_SHOWN]
        named = ", ".join(f"{run.uid} ({run.state()})" for run in first)
        rest = len(found) - len(first)
        more = f" and {rest} more" if rest else ""
        msg = f"{said:.100} matches {len(found)} runs: {named}{more}; name one by its id"
        raise LedgerError(msg)

    def _by_key(self, token: str) -> list[RunRecord]:
        if not vault_key.is_wellformed(token):
            return []
        return self._runs("scope.key_hash = ?", vault_key.digest(token))

    # Calls

    def calls(
        self, wanted: Wanted, *, after: int = 0, last: int | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """
        Yield pages of rows of the call log, oldest first.

        Args:
            wanted: The filter.
            after: Return only rows with a greater number.
            last: Return only so many rows, the newest.
        """
        newest = self.newest()
        if last is not None:
            after = max(after, self._before_last(wanted, last, newest))
        where = wanted.where("seq > :after", "seq <= :end")
        while after < newest:
            end = after + _SPAN
            page = self._call_rows(where, wanted.parameters(after=after, end=end))
            if page:
                yield page
            after = page[-1]["seq"] if len(page) == PAGE else end

    def calls_numbered(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows with these numbers, oldest first; at most ``PAGE`` of them."""
        places = ", ".join(map(str, numbers))
        return self._call_rows(f"seq IN ({places})", {})

    def in_doubt(self) -> list[InDoubt]:
        """Return the calls in doubt, oldest first; see ``doubts.among``."""
        rows = self.connection.execute(sql.ALL_IN_DOUBT).fetchall()
        return doubts.among(rows, self.path, clock.now())

    def newest(self) -> int:
        """Return the number of the newest call; 0 if there is none."""
        row = self.connection.execute(
            "SELECT seq FROM call_log ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        return 0 if row is None else int(row[0])

    def not_ended(self, wanted: Wanted, *, up_to: int) -> dict[int, str]:
        """
        Return number and state of the wanted calls that may still change.

        A reserved call without a reserved amount is found only if it is among the newest calls,
        because it has no index.
        """
        where = wanted.where(f"seq IN ({_MAY_CHANGE})", "seq <= :up_to")
        statement = f"SELECT seq, state FROM call_log WHERE {where}"  # noqa: S608 -- constants
        return dict(self.connection.execute(statement, wanted.parameters(up_to=up_to)).fetchall())

    def _call_rows(self, where: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        columns = ", ".join(CALL_COLUMNS)
        return self.rows(
            f"SELECT {columns} FROM call_log WHERE {where} ORDER BY seq LIMIT {PAGE}",  # noqa: S608 -- constants
            parameters,
        )

    def _before_last(self, wanted: Wanted, last: int, newest: int) -> int:
        """Return the number after which there are exactly *last* wanted rows; 0 if there are fewer."""
        where = wanted.where("seq > :after", "seq <= :end")
        statement = f"SELECT seq FROM call_log WHERE {where} ORDER BY seq DESC LIMIT :more"  # noqa: S608 -- made of constants
        end, more = newest, last + 1
        while end > 0:
            parameters = wanted.parameters(after=end - _SPAN, end=end, more=more)
            found = self.connection.execute(statement, parameters).fetchall()
            if len(found) == more:
                return int(found[-1][0])
            end, more = end - _SPAN, more - len(found)
        return 0
