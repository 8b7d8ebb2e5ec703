"""Read the events page by page, each with its call or scope, and check the hash chain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from keybrake.ledger import event_chain

PAGE = 2000


class Finding(NamedTuple):
    """One difference: the kind (*what*), the place (*where*), the expected and the found value."""

    what: str
    where: str
    expected: object
    found: object


class Event(NamedTuple):
    """
    An event, together with the row of its call or scope.

    Attributes:
        here: Primary key of that call or scope; None: the row is missing.
        began_at: Time when the call was admitted.
        facts: Present values of the columns that the event's digest covers.
    """

    seq: int
    at: int
    kind: str
    call: int | None
    scope: int | None
    reserved: int
    spent: int
    detail: str | None
    hash: bytes
    here: int | None
    scopes: str | None
    buckets: str | None
    began_at: int | None
    endpoint: str | None
    reason: str | None
    facts: tuple[object, ...]

    @property
    def fixes_facts(self) -> bool:
        """Return whether the digest covers columns of the call or scope."""
        return _slice(self.kind, self.call) is not _NOTHING

    def digested(self) -> bytes:
        """Return the digest of the present values."""
        return event_chain.digest(self[:8], self.facts)

    def __str__(self) -> str:
        """Name the event, and its call or scope."""
        about = f", call {self.call}" if self.call is not None else ""
        return f"event {self.seq} ({self.kind}{about or self._scope()})"

    def _scope(self) -> str:
        named = f" {self.facts[0]}" if self.facts else ""
        return "" if self.scope is None else f", scope {self.scope}{named}"


_OWN = 15
_CALL = slice(_OWN, _OWN + len(event_chain.CALL_FACTS))
_END = slice(_CALL.stop, _CALL.stop + len(event_chain.END_FACTS))
_SCOPE = slice(_END.stop, _END.stop + len(event_chain.SCOPE_FACTS))
_NOTHING = slice(0, 0)

_OF_CALL = dict.fromkeys(("admitted", "refused", "noted", "unguarded"), _CALL)
_OF_CALL |= dict.fromkeys(("settled", "voided"), _END)
_OF_SCOPE = {"opened": _SCOPE}


def _slice(kind: str, call: int | None) -> slice:
    return (_OF_SCOPE if call is None else _OF_CALL).get(kind, _NOTHING)


def _qualified(table: str, columns: tuple[str, ...]) -> str:
    named = (c.replace("hex(", f"hex({table}.") if "(" in c else f"{table}.{c}" for c in columns)
    return ", ".join(named)


SELECT = f"""
SELECT event.seq, event.at, event.kind, event.call, event.scope, event.reserved, event.spent,
    event.detail, event.hash, coalesce(call.seq, scope.id), call.scopes, call.buckets, call.at,
    call.endpoint, call.reason,
    {_qualified("call", event_chain.CALL_FACTS)},
    {_qualified("call", event_chain.END_FACTS)},
    {_qualified("scope", event_chain.SCOPE_FACTS)}
FROM event
LEFT JOIN call ON call.seq = event.call
LEFT JOIN scope ON scope.id = event.scope
"""  # noqa: S608 -- made of constants


def events(
    connection: sqlite3.Connection, *, after: int = 0, up_to: int = 2**63 - 1
) -> Iterator[list[Event]]:
    """Yield pages of events in order; no statement is open between two pages."""
    statement = f"{SELECT} WHERE event.seq > ? AND event.seq <= ? ORDER BY event.seq LIMIT ?"
    while page := connection.execute(statement, (after, up_to, PAGE)).fetchall():
        yield [event_of(row) for row in page]
        after = page[-1][0]


def event_of(row: tuple[Any, ...]) -> Event:
    """Return one row of ``SELECT`` as an event."""
    return Event._make((*row[:_OWN], row[_slice(row[2], row[3])]))


class Walk:
    """Checks the chain of the ledger *uid*, event by event: none changed, and none missing."""

    def __init__(self, uid: str) -> None:
        self.seq, self.at, self.hash = 0, 0, event_chain.root(uid)

    def check(self, event: Event) -> list[Finding]:
        """Check the next event; return the findings."""
        digested, findings = self._digest(event)
        if event.seq == self.seq + 1:
            # Without a digest the hash cannot be checked; _digest() has reported that already.
            if digested is not None and event_chain.link(self.hash, digested) != event.hash:
                expected = event_chain.link(self.hash, digested)
                findings.append(_differs("chain", event, expected, event.hash))
        else:
            missing = f"event {self.seq + 1}"
            findings.append(Finding("chain", missing, "an event", f"none before {event}"))
        if event.at < self.at:
            findings.append(Finding("time", str(event), f"not before {self.at}", event.at))
        self.seq, self.at, self.hash = event.seq, event.at, event.hash
        return findings

    @staticmethod
    def _digest(event: Event) -> tuple[bytes | None, list[Finding]]:
        """Return the digest of an event; None, with a finding, if its call or scope is missing."""
        if event.here is not None or not event.fixes_facts:
            return event.digested(), []
        return None, [Finding("chain", str(event), "its call or scope", "none")]


def _differs(what: str, event: Event, expected: bytes, found: bytes) -> Finding:
    return Finding(what, str(event), f"{expected.hex():.16}", f"{found.hex():.16}")
