"""What a ledger has to look like, going by its events alone."""

from __future__ import annotations

import functools
import json
from array import array
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from keybrake.ledger.audit.event_reader import Event, Finding
from keybrake.model import clock

STATES = ("", "reserved", "unknown", "settled", "voided", "refused", "unguarded")
_CODE = {state: code for code, state in enumerate(STATES)}
_NONE, _RESERVED, _UNKNOWN = 0, 1, 2
_MOVED = 128

_BEGINS = {"admitted": "reserved", "refused": "refused", "noted": "settled"}
_BEGINS |= {"unguarded": "unguarded"}
_MOMENTS = {"closed": 0, "revoked": 1, "paused": 2, "resumed": 2}

UNSAID = object()
"""What no event says: of a ledger of an older version."""

Sums = list[int]
"""Spent, reserved, calls and refused calls."""


class Replay:
    """
    The sums, the states and the moments that follow from the events taken so far.

    Attributes:
        open: The calls that have not ended.
        days: Sums by UTC day and endpoint.
        emptied: The scopes some calls of which were moved to an archive.
        findings: What cannot have happened.
    """

    def __init__(self, newest_call: int = 0) -> None:
        self._state, self._reserved, self._cost = bytearray(), array("q"), array("q")
        self.know_of(newest_call)
        self._charged: dict[str, Sums] = {}
        self._in_buckets: dict[str, Sums] = {}
        self._moved: dict[int, Sums] = {}
        self._moments: dict[int, list[Any]] = {}
        self.open: set[int] = set()
        self.unknown: dict[int, str | None] = {}
        self.days: dict[tuple[int, str], Sums] = {}
        self.emptied: set[int] = set()
        self.findings: list[Finding] = []
        self._stubs, self._archived = [0, 0], [0, 0]

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
            self._wrong(event, "what can be read", repr(error))

    def _take(self, event: Event) -> None:
        if event.call is None:
            self._take_of_scope(event)
        elif not 0 < event.call < len(self._state):
            self._wrong(event, f"a call up to {len(self._state) - 1}", event.call)
        else:
            self._take_state(event, event.call)
            if event.here is None:
                self._take_stub(event, event.call)
            else:
                self.count(event)

    def _wrong(self, event: Event, expected: object, found: object) -> None:
        self.findings.append(Finding("order", str(event), expected, found))

    # Calls

    def _take_state(self, event: Event, call: int) -> None:
        kind, before = event.kind, self._state[call] & ~_MOVED
        begins = event.detail if kind == "carried" else _BEGINS.get(kind)
        if begins is not None:
            if before != _NONE:
                self._wrong(event, "one event that begins a call", "a second")
            self._begin(event, call, _CODE.get(begins, _NONE))
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
        known = event.kind != "carried" or code in (_RESERVED, _UNKNOWN)
        self._reserved[call] = event.reserved if known else -1
        if code in (_RESERVED, _UNKNOWN):
            self.open.add(call)
        elif event.here is not None and event.detail != event.reason and event.kind in _BEGINS:
            self.findings.append(Finding("reason", str(event), event.detail, event.reason))

    def _go_on(self, event: Event, call: int) -> None:
        self._state[call] = _CODE.get(event.kind, _NONE)
        if event.kind == "unknown":
            self.unknown[call] = event.detail
        else:
            self.open.discard(call)
            self.unknown.pop(call, None)

    def count(self, event: Event) -> None:
        """Add to the sums of whatever its call is charged to."""
        assert event.scopes is not None
        assert event.began_at is not None
        _listed(event.scopes)  # what is no list is found here, not when it is added up
        admitted, counted, refused = _counts_as(event)
        sums = (event.spent, event.reserved, admitted, refused)
        _add(self._charged, event.scopes, *sums)
        if event.buckets is not None:
            _listed(event.buckets)
            _add(self._in_buckets, event.buckets, *sums)
        day = (event.began_at // clock.DAY, event.endpoint or "")
        _add(self.days, day, event.spent, event.reserved, counted, refused)

    def call(self, seq: int) -> tuple[str, int, int] | None:
        """Return state, reservation (-1: not said) and cost of a call; None: it is not here."""
        if not 0 < seq < len(self._state) or not 0 < self._state[seq] < _MOVED:
            return None
        return STATES[self._state[seq]], self._reserved[seq], self._cost[seq]

    # What was moved to an archive

    def _take_stub(self, event: Event, call: int) -> None:
        if event.digest is None:
            return  # the walk along the chain has found it
        self._state[call] |= _MOVED
        self._stubs[0] += 1
        self._stubs[1] = (self._stubs[1] + fingerprint(event, event.digest)) % 2**256

    def _take_archived(self, event: Event) -> None:
        said = json.loads(event.detail or "{}")
        self._archived[0] += said["events"]
        self._archived[1] = (self._archived[1] + int(said["sum"], 16)) % 2**256
        for scope, spent, calls, refused in said["scopes"]:
            _add(self._moved, scope, spent, 0, calls, refused)
            self.emptied.add(scope)
        for day, endpoint, spent, calls, refused in said["totals"]:
            _add(self.days, (day, endpoint), spent, 0, calls, refused)

    def moved_calls(self) -> Iterable[Finding]:
        """Yield what is wrong with the events that were left of moved calls."""
        if self._stubs[0] != self._archived[0]:
            yield Finding("archived", "events of moved calls", self._archived[0], self._stubs[0])
        elif self._stubs[1] != self._archived[1]:
            sums = (f"{self._archived[1]:064x}"[:16], f"{self._stubs[1]:064x}"[:16])
            yield Finding("archived", "events of moved calls", *sums)

    # Scopes

    def _take_of_scope(self, event: Event) -> None:
        if event.scope is None:
            return
        known = self._moments.get(event.scope)
        if event.kind in ("opened", "carried"):
            if known is not None:
                self._wrong(event, "one event that opens a scope", "a second")
            self._moments[event.scope] = [None if event.kind == "opened" else UNSAID] * 3
        elif known is None:
            self._wrong(event, "a scope that was opened", "none")
        elif event.kind == "archived":
            self._take_archived(event)
        elif event.kind in _MOMENTS:
            known[_MOMENTS[event.kind]] = None if event.kind == "resumed" else event.at

    def scopes(self) -> dict[int, tuple[object, ...]]:
        """Return by scope: spent, reserved, calls, refused, and when closed, revoked, paused."""
        sums = {**{pk: [0, 0, 0, 0] for pk in self._moments}, **self.charged()}
        for pk, more in self._moved.items():
            _add(sums, pk, *more)
        unsaid = [UNSAID] * 3
        return {pk: (*found, *self._moments.get(pk, unsaid)) for pk, found in sums.items()}

    def charged(self) -> dict[int, Sums]:
        """Return the sums of each scope's calls that were not moved."""
        sums: dict[int, Sums] = {}
        for text, more in self._charged.items():
            for pk in _listed(text):
                _add(sums, pk, *more)
        return sums

    def buckets(self) -> dict[tuple[int, int, int], tuple[int, ...]]:
        """Return by bucket: spent, reserved and calls."""
        sums: dict[tuple[int, int, int], Sums] = {}
        for text, more in self._in_buckets.items():
            for scope, rule, at in _listed(text):
                _add(sums, (scope, rule, at), *more)
        return {key: tuple(found[:3]) for key, found in sums.items()}


def _counts_as(event: Event) -> tuple[bool, bool, bool]:
    """Return if it adds a call to its scopes, a call to the totals, and a refused one to both."""
    kind = event.kind
    if kind != "carried":
        return kind == "admitted", kind in ("admitted", "noted"), kind == "refused"
    went_out = event.detail not in ("refused", "unguarded")
    # Of an older version: keybrake's own look-ups are told from calls by their endpoint.
    looked_up = event.process is None and (event.endpoint or "").endswith(".lookup")
    return went_out and not looked_up, went_out, event.detail == "refused"


def fingerprint(event: Event, digest: bytes) -> int:
    """Return what stands for an event in a sum that shows whether one was changed or lacks."""
    return int.from_bytes(sha256(repr(tuple(event[:8])).encode() + digest).digest())


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
    """Return the scopes or buckets a call is charged to."""
    found = json.loads(text)
    if not isinstance(found, list):
        raise TypeError(text)
    return found
