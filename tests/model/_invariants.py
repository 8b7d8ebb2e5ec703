"""What has to be true of a ledger after every step, looked at from outside: in its rows alone."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keybrake.model import clock
from keybrake.policy.policy import Terms, load_terms, matches
from tests.model._vendor import VirtualStripe

CENT = 10_000
OPEN = ("reserved", "unknown")
LOOKUP = "stripe.lookup"  # has a row of its own, and is no call of the agent's
FORWARD = {
    "reserved": {"reserved", "unknown", "settled", "voided"},
    "unknown": {"unknown", "settled", "voided"},
}
_SCOPES = """
SELECT id, kind, parent, terms, cap, max_calls, opened_at, expires_at, closed_at, revoked_at,
    paused_at, spent, reserved, calls, refused FROM scope
"""
_CALLS = """
SELECT seq, uid, at, run, scopes, endpoint, method, path, state, reason, reserved,
    coalesce(cost, 0) AS cost, idempotency_key, position FROM call
"""
_EVENTS = "SELECT seq, at, kind, call, scope, reserved, spent FROM event WHERE seq > ? ORDER BY seq"


class Violation(AssertionError):
    """A promise was broken."""


class View(NamedTuple):
    """The ledger at one moment, as any SQLite tool sees it."""

    scopes: Mapping[int, sqlite3.Row]
    calls: Mapping[int, sqlite3.Row]
    buckets: list[tuple[int, ...]]
    positions: Mapping[str, tuple[int, int]]


def require(true: object, promise: str, *shown: object) -> None:
    """Raise unless it is true."""
    if not true:
        msg = f"{promise}: {', '.join(map(str, shown))}"
        raise Violation(msg)


class Eyes:
    """Whoever watches a ledger, and remembers what was there before."""

    def __init__(self, path: Path, vendor: VirtualStripe) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._db.row_factory = sqlite3.Row
        self._vendor = vendor
        self._version, self._event = -1, 0
        self._charged: list[str] = []
        self.at = 0
        """Ledger time: that of the newest event."""
        self.stopped: set[int] = set()
        """Scopes that somebody was told are stopped: nothing is admitted in them any more."""
        self.seen = View({}, {}, [], {})

    def close(self) -> None:
        """Look no more."""
        self._db.close()

    def look(self) -> None:
        """Look at everything, if anything has changed."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        moved = list(self._vendor.moved)
        if (version, moved) == (self._version, self._charged):
            return
        before, self.seen = self.seen, self._view()
        self._version, self._charged = version, moved
        self._events()
        _rows_stay(before, self.seen)
        _totals_are_sums(self.seen)
        _no_cap_is_passed(self.seen)
        self._money_is_counted()
        new = [call for seq, call in self.seen.calls.items() if seq not in before.calls]
        if new and all(call["state"] == "refused" for call in new):
            _only_refused(before, self.seen, new)

    def root_of(self, run: int) -> int:
        """Return the run that everything above *run* ends in."""
        return ancestors(self.seen.scopes, run)[-1]

    def call_of(self, key: str) -> sqlite3.Row | None:
        """Return the admitted call that went out under an idempotency key, the newest if several."""
        found = [
            c for c in self.seen.calls.values() if key_of(c) == key and c["state"] != "refused"
        ]
        return found[-1] if found else None

    def _view(self) -> View:
        read = self._db.execute
        read("BEGIN")
        view = View(
            {row["id"]: row for row in read(_SCOPES)},
            {row["seq"]: row for row in read(_CALLS)},
            [
                tuple(row)
                for row in read("SELECT scope, rule, at, spent, reserved, calls FROM bucket")
            ],
            {
                row[0]: (row[1], row[2])
                for row in read("SELECT key, value, open_writes FROM position")
            },
        )
        self._new = read(_EVENTS, (self._event,)).fetchall()
        read("COMMIT")
        return view

    def _events(self) -> None:
        """Ledger time and numbers only grow; nothing is admitted in what was stopped before."""
        for event in self._new:
            require(event["seq"] == self._event + 1, "no event is missing", tuple(event))
            require(event["at"] >= self.at, "ledger time never runs backwards", tuple(event))
            self._event, self.at = event["seq"], event["at"]
            if event["kind"] == "admitted":
                self._admitted(self.seen.calls[event["call"]])

    def _admitted(self, call: sqlite3.Row) -> None:
        scopes = json.loads(call["scopes"])
        above = {up for pk in scopes for up in ancestors(self.seen.scopes, pk)}
        require(above <= set(scopes), "every scope above counts it", call["seq"], above)
        require(not above & self.stopped, "stop means the next call", call["seq"], self.stopped)
        for pk in above:
            until = self.seen.scopes[pk]["expires_at"]
            require(until is None or call["at"] < until, "nothing after expiry", call["seq"])

    def _money_is_counted(self) -> None:
        """Whatever moved under a call is counted under it or, all in all, in its root run."""
        moved: dict[int, int] = defaultdict(int)
        for key, cents in self._vendor.moved.items():
            call = self.call_of(key)
            require(call is not None, "written down before it is sent", key)
            assert call is not None
            by_key = [c for c in self.seen.calls.values() if key_of(c) == key]
            counts = any(c["state"] in (*OPEN, "settled") for c in by_key)
            require(counts, "what moved is not voided", key, tuple(call))
            moved[self.root_of(call["run"])] += cents * CENT
        for root, micros in moved.items():
            scope = self.seen.scopes[root]
            exposure = scope["spent"] + scope["reserved"]
            require(micros <= exposure, "no more moved than counts", root, micros, exposure)


def key_of(call: Mapping[str, Any] | sqlite3.Row) -> str:
    """Return the idempotency key a call goes out with."""
    return call["idempotency_key"] or f"kb-{call['uid']}"


def ancestors(scopes: Mapping[int, sqlite3.Row], pk: int) -> list[int]:
    """Return a scope and all above it, innermost first."""
    found = [pk]
    while (above := scopes[found[-1]]["parent"]) is not None:
        found.append(above)
    return found


def _rows_stay(before: View, now: View) -> None:
    """One row a call for ever, one call a row; states go forward only."""
    uids = [call["uid"] for call in now.calls.values()]
    require(len(uids) == len(set(uids)), "one row a call", uids)
    for seq, old in before.calls.items():
        require(seq in now.calls, "a row stays for ever", seq)
        new = now.calls[seq]
        if tuple(new) == tuple(old):
            continue
        require(new["uid"] == old["uid"] and new["scopes"] == old["scopes"], "a row stays", seq)
        require(new["reserved"] == old["reserved"], "a reservation is final", seq)
        forward = FORWARD.get(old["state"], {old["state"]})
        require(new["state"] in forward, "states go forward", seq, old["state"], new["state"])


def _totals_are_sums(view: View) -> None:
    spent, held, calls = (defaultdict(int) for _ in range(3))
    for call in view.calls.values():
        _cost_is_what_was_set_aside(view, call)
        if call["state"] == "refused" or call["endpoint"] == LOOKUP:
            continue
        for pk in json.loads(call["scopes"]):
            spent[pk] += call["cost"]
            held[pk] += call["reserved"] if call["state"] in OPEN else 0
            calls[pk] += 1
    for pk, scope in view.scopes.items():
        counted = scope["spent"], scope["reserved"], scope["calls"]
        summed = spent[pk], held[pk], calls[pk]
        require(counted == summed, "totals are sums", pk, counted, summed)


def _cost_is_what_was_set_aside(view: View, call: sqlite3.Row) -> None:
    require(call["cost"] == 0 or call["state"] == "settled", "what is settled costs", tuple(call))
    flagged = call["reason"] == "overrun" and _may_overrun(view, call)
    require(overrun(call) == 0 or flagged, "no call costs more than it reserved", tuple(call))


def _may_overrun(view: View, call: sqlite3.Row) -> bool:
    """
    Return whether a call may turn out to cost more than was set aside for it.

    What the vendor repeats under an agent's own key may be older than what is counted, and show
    more. And a call may be carried out after another that raised the amount, which had reserved
    that for itself. Whatever an answer shows is counted, and the row says so.
    """
    object_of_it = (call["position"] or "").removeprefix("stripe::")
    raised = any(
        other["path"].endswith(f"/{object_of_it}") and other["reserved"]
        for other in view.calls.values()
    )
    return call["idempotency_key"] is not None or raised


def exposed(call: sqlite3.Row) -> int:
    """Return what a call counts for."""
    return int(call["reserved"] if call["state"] in OPEN else call["cost"])


def overrun(call: sqlite3.Row) -> int:
    """Return by how much a call costs more than was set aside for it."""
    return max(0, call["cost"] - call["reserved"])


def _no_cap_is_passed(view: View) -> None:
    for pk, scope in view.scopes.items():
        mine = [c for c in view.calls.values() if pk in json.loads(c["scopes"])]
        exposure = scope["spent"] + scope["reserved"] - sum(map(overrun, mine))
        require(
            scope["cap"] is None or exposure <= scope["cap"], "never over the cap", pk, exposure
        )
        most = scope["max_calls"]
        require(most is None or scope["calls"] <= most, "no more calls than max_calls", pk)
        terms = load_terms(scope["terms"])
        if terms.rules:
            _no_window_is_passed(pk, terms, mine)


def _no_window_is_passed(pk: int, terms: Terms, mine: Iterable[sqlite3.Row]) -> None:
    """Add up each window from the rows: the buckets may say what they like."""
    admitted = [c for c in mine if c["state"] in (*OPEN, "settled", "voided")]
    for rule in terms.rules:
        counted = [
            c for c in admitted if matches(rule.pattern, c["endpoint"], c["method"], c["path"])
        ]
        for last in counted:
            since = rule.since(last["at"])
            window = [c for c in counted if since <= c["at"] <= last["at"]]
            exposure = sum(exposed(c) - overrun(c) for c in window)
            fits = rule.cap is None or exposure <= rule.cap
            require(fits, "never over a window", pk, rule.per, exposure, clock.iso(last["at"]))


def _only_refused(before: View, now: View, new: list[sqlite3.Row]) -> None:
    """A refusal leaves everything as it was, save its row and its count."""
    for seq, call in before.calls.items():
        require(tuple(now.calls[seq]) == tuple(call), "a refusal changes no other row", seq)
    refused = [pk for call in new for pk in json.loads(call["scopes"])]
    for pk, scope in before.scopes.items():
        expected = {**dict(scope), "refused": scope["refused"] + refused.count(pk)}
        require(dict(now.scopes[pk]) == expected, "a refusal counts, and that is all", pk)
    same = (now.buckets, now.positions) == (before.buckets, before.positions)
    require(same, "a refusal changes nothing", [call["seq"] for call in new])
