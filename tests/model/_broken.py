"""Engines that are broken on purpose, each in the way of a real bug: the simulation has to see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from keybrake.ledger import Admission, Admitted, positions
from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model import clock
from keybrake.model.call import Outcome, Reply, State
from keybrake.policy.decision import Standing
from keybrake.vendors.attempts import Verdict
from keybrake.vendors.stripe import outcomes

_ADMIT, _SETTLE, _INIT = SQLiteLedger.admit, SQLiteLedger.settle, SQLiteLedger.__init__
_STANDING, _VERDICT, _WRITING = SQLiteLedger._standing, outcomes.verdict, Writing.__init__

# What reserves whatever it is told; takes the same parameters.
_RESERVE_BLINDLY = """
UPDATE scope SET reserved = reserved + ?, calls = calls + 1
WHERE id = ? AND (? + ? + ?) IS NOT NULL
"""
_BUCKET_BLINDLY = """
INSERT INTO bucket (scope, rule, at, reserved, calls) VALUES (?, ?, ?, ?, 1)
ON CONFLICT DO UPDATE SET reserved = reserved + excluded.reserved, calls = calls + 1
WHERE (? IS NULL) + (? IS NULL) >= 0
"""


def _reserve_blindly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sql, "RESERVE", _RESERVE_BLINDLY)
    patch.setattr(sql, "RESERVE_BUCKET", _BUCKET_BLINDLY)


def _stale_facts(patch: pytest.MonkeyPatch) -> None:
    """Decide on what this process saw at its own last admission."""
    seen: dict[tuple[Any, int], Standing] = {}

    def standing(self: SQLiteLedger, asked: Any, pk: int, call: Any, now: int) -> Standing:
        fresh = _STANDING(asked, pk, call, now)
        stale, seen[self, pk] = seen.get((self, pk), fresh), fresh
        return fresh._replace(spent=stale.spent, reserved=stale.reserved)

    patch.setattr(SQLiteLedger, "_standing", standing)
    _reserve_blindly(patch)


def _stops_are_cached(patch: pytest.MonkeyPatch) -> None:
    """Look only once whether a run was revoked, paused or closed."""
    seen: dict[tuple[Any, int], Standing] = {}

    def standing(self: SQLiteLedger, asked: Any, pk: int, call: Any, now: int) -> Standing:
        fresh = _STANDING(asked, pk, call, now)
        first = seen.setdefault((self, pk), fresh)
        return fresh._replace(
            revoked_at=first.revoked_at, paused_at=first.paused_at, closed_at=first.closed_at
        )

    patch.setattr(SQLiteLedger, "_standing", standing)
    _reserve_blindly(patch)


def _windows_forget_what_is_reserved(patch: pytest.MonkeyPatch) -> None:
    spent_only = sql.SUM_BUCKETS.replace("coalesce(sum(reserved), 0)", "0")
    patch.setattr(sql, "SUM_BUCKETS", spent_only)
    _reserve_blindly(patch)


def _parents_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SQLiteLedger, "chain", lambda _self, pk: (pk,))


def _void_on_5xx(patch: pytest.MonkeyPatch) -> None:
    def verdict(reply: Reply, *, keyed: bool = True) -> Verdict:
        failed = reply.status is not None and reply.status >= 500
        return Verdict.NOTHING_HAPPENED if failed else _VERDICT(reply)

    patch.setattr(outcomes, "verdict", verdict)


def _void_on_error(patch: pytest.MonkeyPatch) -> None:
    def verdict(reply: Reply, *, keyed: bool = True) -> Verdict:
        return Verdict.NOTHING_HAPPENED if reply.status is None else _VERDICT(reply)

    patch.setattr(outcomes, "verdict", verdict)


def _last_attempt_decides(patch: pytest.MonkeyPatch) -> None:
    """Believe the last of several attempts, whatever the ones before it may have done."""

    def verdict(reply: Reply, *, keyed: bool = True) -> Verdict:
        last = reply.attempts[-1:]
        return _VERDICT(Reply(reply.status, reply.headers, reply.body, last))

    patch.setattr(outcomes, "verdict", verdict)


def _record_after_the_call(patch: pytest.MonkeyPatch) -> None:
    asked: dict[int, tuple[SQLiteLedger, Admission]] = {}

    def admit(self: SQLiteLedger, admission: Admission, *, wait: bool = True) -> Admitted:
        number = -1 - len(asked)
        asked[number] = self, admission
        return Admitted(number, admission.scopes, (), 0)

    def settle(self: Any, admitted: Admitted, outcome: Outcome, *, wait: bool = True) -> None:
        ledger, admission = asked[admitted.seq]
        _SETTLE(self, _ADMIT(ledger, admission), outcome)

    patch.setattr(SQLiteLedger, "admit", admit)
    patch.setattr(SQLiteLedger, "settle", settle)


def _release_on_death(patch: pytest.MonkeyPatch) -> None:
    def init(self: SQLiteLedger, *args: Any, **kwargs: Any) -> None:
        _INIT(self, *args, **kwargs)
        for doubt in self.in_doubt():
            if doubt.state == State.RESERVED:
                self.resolve(doubt.seq, Outcome(State.VOIDED), "its process has ended")

    patch.setattr(SQLiteLedger, "__init__", init)


def _ends_twice(patch: pytest.MonkeyPatch) -> None:
    """Take the state out of the statement that ends a call, and the trigger behind it away."""

    def init(self: SQLiteLedger, *args: Any, **kwargs: Any) -> None:
        _INIT(self, *args, **kwargs)
        self._store._writer.execute("DROP TRIGGER IF EXISTS call_ends_once")

    patch.setattr(SQLiteLedger, "__init__", init)
    patch.setattr(sql, "END_UNKNOWN", sql.END_UNKNOWN.replace("AND state = 'unknown'", ""))


def _time_runs_back(patch: pytest.MonkeyPatch) -> None:
    def init(self: Writing, *args: Any) -> None:
        _WRITING(self, *args)
        self.now = clock.now()

    patch.setattr(Writing, "__init__", init)


def _any_answer_is_news(patch: pytest.MonkeyPatch) -> None:
    """Let an answer that comes late shrink what newer ones have grown."""
    patch.setattr(positions, "_is_news", lambda *_: True)


def _refusals_count_as_calls(patch: pytest.MonkeyPatch) -> None:
    also = sql.COUNT_REFUSAL.replace("refused + 1", "refused + 1, calls = calls + 1")
    patch.setattr(sql, "COUNT_REFUSAL", also)


BROKEN: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "stale-facts": _stale_facts,
    "stops-are-cached": _stops_are_cached,
    "windows-forget-what-is-reserved": _windows_forget_what_is_reserved,
    "parents-are-forgotten": _parents_are_forgotten,
    "void-on-5xx": _void_on_5xx,
    "void-on-error": _void_on_error,
    "last-attempt-decides": _last_attempt_decides,
    "record-after-the-call": _record_after_the_call,
    "release-on-death": _release_on_death,
    "ends-twice": _ends_twice,
    "time-runs-back": _time_runs_back,
    "any-answer-is-news": _any_answer_is_news,
    "refusals-count-as-calls": _refusals_count_as_calls,
}
