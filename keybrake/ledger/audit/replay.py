"""Replay the events of a ledger to compute the expected rows: states, counters and totals."""

from __future__ import annotations

import functools
import json
from array import array
from typing import Any

from keybrake.ledger.audit.event_reader import Event, Finding
from keybrake.model import clock

STATES = ("", "reserved", "unknown", "settled", "voided", "refused", "unguarded")
_CODE = {state: code for code, state in enumerate(STATES)}
_NONE, _RESERVED, _UNKNOWN = 0, 1, 2

_BEGINS = {"admitted": "reserved", "refused": "refused", "noted": "settled"}
_BEGINS |= {"unguarded": "unguarded"}
_MOMENTS = {"closed": 0, "revoked": 1, "paused": 2, "resumed": 2}

Sums = list[int]
"""Spent, reserved, calls and refused calls."""


class Replay:
    """
    The expected states, sums and times, from all events that were taken so far.

    Attributes:
        open: The calls that have not ended.
        unknown: The calls that are unknown, each with the detail of its event.
        days: Sums by UTC day and endpoint.
        findings: Sequences of events that are impossible.
    """

    def __init__(self, newest_call: int = 0) -> None:
        self._state, self._reserved, self._cost = bytearray(), array("q"), array("q")
        self.know_of(newest_call)
        self._charged: dict[str, Sums] = {}
        self._in_buckets: dict[str, Sums] = {}
        self._moments: dict[int, list[Any]] = {}
        self.open: set[int] = set()
        self.unknown: dict[int, str | None] = {}
        self.days: dict[tuple[int, str], Sums] = {}
        self.findings: list[Finding] = []

    def know_of(self, newest_call: int) -> None:
        """Make room for the calls up to *newest_call*."""
        more = newest_call + 1 - len(self._state)
        if more > 0:
            self._state.extend(bytes(more))
            self._reserved.frombytes(bytes(8 * more))
            self._cost.frombytes(bytes(8 * more))

    def take(self, event: Event) -> None:
        """Take the next event into account."""
        try:
            self._take(event)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            self._wrong(event, "readable values", repr(error))

    def _take(self, event: Event) -> None:
        if event.call is None:
            self._take_of_scope(event)
        elif not 0 < event.call < len(self._state):
            self._wrong(event, f"a call up to {len(self._state) - 1}", event.call)
        else:
            self._take_state(event, event.call)
            if event.here is not None:
                self.count(event)

    def _wrong(self, event: Event, expected: object, found: object) -> None:
        self.findings.append(Finding("order", str(event), expected, found))

    # Calls

    def _take_state(self, event: Event, call: int) -> None:
        kind, before = event.kind, self._state[call]
        begins = _BEGINS.get(kind)
        if begins is not None:
            if before != _NONE:
                self._wrong(event, "one event that begins a call", "a second")
            self._begin(event, call, _CODE[begins])
        elif kind == "recounted":
            if before in (_NONE, _RESERVED, _UNKNOWN):
                self._wrong(event, "a call that has ended", STATES[before] or "none")
        elif before not in (_RESERVED, _UNKNOWN):
            self._wrong(event, "a call that has not ended", STATES[before] or "none")
        else:
            self._go_on(event, call)
        self._cost[call] += event.spent

    def _begin(self, event: Event, call: int, code: int) -> None:
        self._state[call] = code
        self._reserved[call] = event.reserved
        if code == _RESERVED:
            self.open.add(call)
        elif event.here is not None and event.detail != event.reason:
            self.findings.append(Finding("reason", str(event), event.detail, event.reason))

    def _go_on(self, event: Event, call: int) -> None:
        self._state[call] = _CODE.get(event.kind, _NONE)
        if event.kind == "unknown":
            self.unknown[call] = event.detail
        else:
            self.open.discard(call)
            self.unknown.pop(call, None)

    def count(self, event: Event) -> None:
        """Add an event to the sums of the scopes, buckets and day of its call."""
        assert event.scopes is not None
        assert event.began_at is not None
        _listed(event.scopes)  # a value that is no list must raise here, not later in charged()
        admitted, refused = event.kind == "admitted", event.kind == "refused"
        sums = (event.spent, event.reserved, admitted, refused)
        _add(self._charged, event.scopes, *sums)
        if event.buckets is not None:
            _listed(event.buckets)
            _add(self._in_buckets, event.buckets, *sums)
        day = (event.began_at // clock.DAY, event.endpoint or "")
        logged = admitted or event.kind == "noted"
        _add(self.days, day, event.spent, event.reserved, logged, refused)

    def call(self, seq: int) -> tuple[str, int, int] | None:
        """Return state, reservation and cost of a call; None if no event began it."""
        if not 0 < seq < len(self._state) or self._state[seq] == _NONE:
            return None
        return STATES[self._state[seq]], self._reserved[seq], self._cost[seq]

    # Scopes

    def _take_of_scope(self, event: Event) -> None:
        if event.scope is None:
            return
        known = self._moments.get(event.scope)
        if event.kind == "opened":
            if known is not None:
                self._wrong(event, "one event that opens a scope", "a second")
            self._moments[event.scope] = [None] * 3
        elif known is None:
            self._wrong(event, "a scope that was opened", "none")
        elif event.kind in _MOMENTS:
            known[_MOMENTS[event.kind]] = None if event.kind == "resumed" else event.at

    def scopes(self) -> dict[int, tuple[object, ...]]:
        """Return for each scope: spent, reserved, calls, refused, closed_at, revoked_at, paused_at."""
        sums = {**{pk: [0, 0, 0, 0] for pk in self._moments}, **self.charged()}
        return {pk: (*found, *self._moments.get(pk, [None] * 3)) for pk, found in sums.items()}

    def charged(self) -> dict[int, Sums]:
        """Return for each scope the sums of its calls."""
        sums: dict[int, Sums] = {}
        for text, more in self._charged.items():
            for pk in _listed(text):
                _add(sums, pk, *more)
        return sums

    def buckets(self) -> dict[tuple[int, int, int], tuple[int, ...]]:
        """Return for each bucket: spent, reserved and calls."""
        sums: dict[tuple[int, int, int], Sums] = {}
        for text, more in self._in_buckets.items():
            for scope, rule, at in _listed(text):
                _add(sums, (scope, rule, at), *more)
        return {key: tuple(found[:3]) for key, found in sums.items()}


def _add(
    sums: dict[Any, Sums], key: Any, spent: int, reserved: int, calls: int, refused: int
) -> None:
    known = sums.get(key)
    if known is None:
        sums[key] = [spent, reserved, int(calls), int(refused)]
        return
    known[0] += spent
    known[1] += reserved
    known[2] += calls
    known[3] += refused


@functools.lru_cache(maxsize=4096)
def _listed(text: str) -> list[Any]:
    """Return the list of scopes or buckets in a JSON column; raise TypeError if it is no list."""
    found = json.loads(text)
    if not isinstance(found, list):
        raise TypeError(text)
    return found
