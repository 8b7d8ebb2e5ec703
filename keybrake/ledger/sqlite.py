"""The ledger in a SQLite file: every decision one transaction, under one lock."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from keybrake import _clock, _policy
from keybrake._model import Call, Effect, Outcome, Position, State
from keybrake._policy import Standing, Used
from keybrake._shown import shown
from keybrake._terms import Terms, applies, load_terms
from keybrake.errors import LedgerError, PolicyError
from keybrake.ledger import _doubts, _ending, _positions
from keybrake.ledger import _statements as sql
from keybrake.ledger._owners import Owner
from keybrake.ledger._positions import Increase
from keybrake.ledger._store import Store
from keybrake.ledger.protocol import (
    Admission,
    Admitted,
    Estimated,
    InDoubt,
    NewRun,
    Note,
    RunRecord,
)

__all__ = ["SQLiteLedger"]


_ONE_RUN = " WHERE scope.uid = ? AND scope.kind = 'run'"


class SQLiteLedger:
    """See ``keybrake.ledger.Ledger``."""

    def __init__(self, path: Path, *, lock_timeout_s: float, durability: str) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._store = Store(path, lock_timeout_s=lock_timeout_s, durability=durability)
        self._owner = Owner(path)
        self._chains: dict[int, tuple[int, ...]] = {}
        self._tools: dict[int, dict[str, tuple[int, str]]] = {}
        self._latest = 0

    # Runs

    def open_run(self, new: NewRun, *, wait: bool = True) -> int:
        """See ``Ledger.open_run``."""
        with self._store.transaction(wait=wait) as cursor:
            now = self._now(cursor)
            if new.parent is not None:
                self._refuse_under_ended_parents(cursor, new, now)
            expires_at = None if new.lives_for is None else now + new.lives_for
            cursor.execute(
                sql.INSERT_RUN,
                (
                    new.uid,
                    new.label,
                    new.parent,
                    new.key_hash,
                    new.mode,
                    new.terms.dump(),
                    new.terms.cap,
                    new.terms.max_calls,
                    now,
                    expires_at,
                ),
            )
            return int(cursor.lastrowid or 0)

    def _refuse_under_ended_parents(self, cursor: sqlite3.Cursor, new: NewRun, now: int) -> None:
        opening = Call("keybrake", "keybrake.run", "OPEN", "/", Effect.FREE)
        chain = [self._standing(cursor, pk, opening, now)[0] for pk in self.chain(new.parent or 0)]
        # Only whether the parents are alive matters here: each call asks for the rest.
        alive = [scope._replace(terms=_FREE_TERMS, used=()) for scope in chain]
        if refusal := _policy.decide(alive, opening, increase=0, now=now).refusal:
            raise refusal

    def join(self, key_hash: bytes) -> RunRecord | None:
        """See ``Ledger.join``."""
        row = self._store.read(sql.SELECT_RUNS + " WHERE scope.key_hash = ?", (key_hash,))
        return RunRecord._make(row[0]) if row else None

    def close_run(self, pk: int, *, wait: bool = True) -> None:
        """See ``Ledger.close_run``."""
        with self._store.transaction(wait=wait) as cursor:
            cursor.execute(sql.CLOSE_RUN, (self._now(cursor), pk))
        # A process that lives long opens many runs; what is left of this one reads it anew.
        self._chains.pop(pk, None)
        self._tools.pop(pk, None)

    def revoke(self, uid: str) -> None:
        """See ``Ledger.revoke``."""
        with self._store.transaction(durable=True) as cursor:
            self._existing(cursor, uid)
            cursor.execute(sql.REVOKE_RUN, (self._now(cursor), uid))

    def pause(self, uid: str) -> None:
        """See ``Ledger.pause``."""
        with self._store.transaction(durable=True) as cursor:
            self._refuse_unless_open(self._existing(cursor, uid), "paused")
            cursor.execute(sql.PAUSE_RUN, (self._now(cursor), uid))

    def resume(self, uid: str) -> None:
        """See ``Ledger.resume``."""
        with self._store.transaction(durable=True) as cursor:
            self._refuse_unless_open(self._existing(cursor, uid), "resumed")
            cursor.execute(sql.RESUME_RUN, (uid,))

    @staticmethod
    def _existing(cursor: sqlite3.Cursor, uid: str) -> RunRecord:
        row = cursor.execute(sql.SELECT_RUNS + _ONE_RUN, (uid,)).fetchone()
        if row is None:
            msg = f"there is no run {shown(uid)} in this ledger; keybrake runs lists them"
            raise LedgerError(msg)
        return RunRecord._make(row)

    @staticmethod
    def _refuse_unless_open(run: RunRecord, word: str) -> None:
        if (state := run.state()) not in ("open", "paused"):
            msg = f"run {run.uid} is {state} and cannot be {word}"
            raise LedgerError(msg)

    def tool(self, run: int, name: str, terms: Terms, *, wait: bool = True) -> int:
        """See ``Ledger.tool``."""
        text = terms.dump()
        tools = self._tools.setdefault(run, {})
        known = tools.get(name) or self._tool(run, name, terms, wait=wait)
        tools[name] = known
        pk, written = known
        if written != text:
            msg = (
                f"two tools are named {shown(name)} in one run and have different limits; give one of "
                f"them a name of its own: @tool(name=…)"
            )
            raise PolicyError(msg)
        return pk

    def _tool(self, run: int, name: str, terms: Terms, *, wait: bool) -> tuple[int, str]:
        with self._store.transaction(wait=wait) as cursor:
            row = cursor.execute(sql.SELECT_TOOL, (run, name)).fetchone()
            if row is not None:
                return int(row[0]), str(row[1])
            owner = cursor.execute("SELECT uid, mode FROM scope WHERE id = ?", (run,)).fetchone()
            cursor.execute(
                sql.INSERT_TOOL,
                (
                    f"{owner[0]}:{name}",
                    name,
                    run,
                    owner[1],
                    terms.dump(),
                    terms.cap,
                    terms.max_calls,
                    self._now(cursor),
                ),
            )
            return int(cursor.lastrowid or 0), terms.dump()

    def chain(self, pk: int) -> tuple[int, ...]:
        """See ``Ledger.chain``."""
        # Parents never change, so a chain is read once.
        if pk not in self._chains:
            self._chains[pk] = tuple(row[0] for row in self._store.read(sql.SELECT_CHAIN, (pk,)))
        return self._chains[pk]

    def run(self, pk: int) -> RunRecord:
        """See ``Ledger.run``."""
        return RunRecord._make(self._store.read(sql.SELECT_RUNS + " WHERE scope.id = ?", (pk,))[0])

    def runs(self, uid: str | None = None) -> Sequence[RunRecord]:
        """See ``Ledger.runs``."""
        if uid is None:
            rows = self._store.read(
                sql.SELECT_RUNS + " WHERE scope.kind = 'run' ORDER BY scope.id", ()
            )
        else:
            rows = self._store.read(sql.SELECT_RUNS + _ONE_RUN, (uid,))
        return [RunRecord._make(row) for row in rows]

    # The way of a call

    def position(self, key: str) -> Position | None:
        """See ``Ledger.position``."""
        rows = self._store.read(sql.SELECT_POSITION, (key,))
        if not rows:
            return None
        state, value, currency, rate, open_writes = rows[0]
        exact = None if rate is None else Fraction(rate)
        return Position(key, state, value, currency, exact, in_doubt=open_writes > 0)

    def refuses(self, admission: Admission) -> bool:
        """See ``Ledger.refuses``."""
        call, now = admission.call._replace(value_micros=None), self._tick()
        with self._store.reading() as reader:
            chain = [self._standing(reader, pk, call, now)[0] for pk in admission.scopes]
        return _policy.decide(chain, call, increase=0, now=now).refusal is not None

    def admit(self, admission: Admission, *, wait: bool = True) -> Admitted:
        """See ``Ledger.admit``."""
        call = admission.call
        # A read reserves nothing that a power cut could lose.
        durable = call.effect is not Effect.READ
        with self._store.transaction(durable=durable, wait=wait) as cursor:
            now = self._tick()
            chain = []
            for pk in admission.scopes:
                standing, now = self._standing(cursor, pk, call, now)
                chain.append(standing)
            more = _positions.increase(cursor, call, admission.scopes, now)
            decision = _policy.decide(chain, call, increase=more.micros, now=now)
            if decision.refusal is None:
                return self._reserve(cursor, admission, chain, more, now, decision)
            self._record_refusal(cursor, admission, now, decision.refusal.reason)
        raise decision.refusal

    @staticmethod
    def _standing(
        cursor: sqlite3.Cursor | sqlite3.Connection, pk: int, call: Call, now: int
    ) -> tuple[Standing, int]:
        """Return a scope's facts, and ledger time: never before anything on record."""
        *row, newest = cursor.execute(sql.SELECT_STANDING, (pk,)).fetchone()
        terms = load_terms(row[5])
        now = max(now, newest)
        used = tuple(
            Used(
                index,
                rule,
                *cursor.execute(sql.SUM_BUCKETS, (pk, index, rule.since(now))).fetchone(),
            )
            for index, rule in enumerate(terms.rules)
            if applies(rule.pattern, call)
        )
        return Standing._make((*row[:5], terms, *row[6:], used)), now

    def _reserve(
        self,
        cursor: sqlite3.Cursor,
        admission: Admission,
        chain: Sequence[Standing],
        more: Increase,
        now: int,
        decision: _policy.Decision,
    ) -> Admitted:
        buckets, increase = [], more.micros
        for scope in chain:
            report = scope.mode == "report"
            cursor.execute(sql.RESERVE, (increase, scope.pk, report, increase, increase))
            self._must_change_one(cursor)
            for used in scope.used:
                at = used.rule.bucket(now)
                # A rolling window is the sum of many rows; only decide() can hold that one.
                whole = used.rule.since(now) == at and not report
                cap = used.rule.cap if whole else None
                cursor.execute(sql.RESERVE_BUCKET, (scope.pk, used.nr, at, increase, cap, cap))
                self._must_change_one(cursor)
                buckets.append((scope.pk, used.nr, at))
        would_refuse = decision.would_refuse.reason if decision.would_refuse else None
        tracked = _positions.tracked(cursor, admission.call)
        row = _row(admission, State.RESERVED, now, reserved=increase, request=admission.request)
        listed = json.dumps(buckets) if buckets else None
        cursor.execute(
            sql.INSERT_CALL,
            (*row, listed, would_refuse, tracked, more.leans_on, self._owner.token()),
        )
        seq = int(cursor.lastrowid or 0)
        if tracked is not None:
            cursor.execute(sql.BEGIN_WRITE, (seq, tracked))
        scopes = admission.scopes
        return Admitted(seq, scopes, tuple(buckets), increase, tracked, more.leans_on)

    @staticmethod
    def _must_change_one(cursor: sqlite3.Cursor) -> None:
        # The statement repeats the cap. If it disagrees with the decision, nobody is right.
        if cursor.rowcount != 1:
            msg = "the ledger's totals contradict the decision; nothing was sent"
            raise sqlite3.IntegrityError(msg)

    @staticmethod
    def _record_refusal(
        cursor: sqlite3.Cursor, admission: Admission, now: int, reason: str
    ) -> None:
        row = _row(admission, State.REFUSED, now, reason=reason)
        cursor.execute(sql.INSERT_CALL, (*row, None, None, None, None, None))
        for pk in admission.scopes:
            cursor.execute(sql.COUNT_REFUSAL, (pk,))

    def settle(self, admitted: Admitted, outcome: Outcome, *, wait: bool = True) -> None:
        """See ``Ledger.settle``."""
        # Which file is behind the path was checked when the call was admitted.
        with self._store.transaction(wait=wait, check=False) as cursor:
            _ending.end(cursor, admitted, outcome, self._tick())

    # What nobody knows yet

    def in_doubt(self, seq: int | None = None) -> Sequence[InDoubt]:
        """See ``Ledger.in_doubt``."""
        if seq is not None:
            return [InDoubt._make(row) for row in self._store.read(sql.ONE_IN_DOUBT, (seq,))]
        return _doubts.among(self._store.read(sql.ALL_IN_DOUBT, ()), self.path, self._tick())

    def resolve(self, seq: int, outcome: Outcome, evidence: str) -> None:
        """See ``Ledger.resolve``."""
        with self._store.transaction(durable=True) as cursor:
            now = self._now(cursor)
            state, admitted = _ending.open_call(cursor, seq)
            if state not in (State.RESERVED, State.UNKNOWN):
                msg = f"call {seq} has ended already: it is {state}"
                raise LedgerError(msg)
            if not _doubts.among(cursor.execute(sql.ONE_IN_DOUBT, (seq,)), self.path, now):
                msg = (
                    f"call {seq} may still be under way: its process lives, and it was admitted less "
                    f"than {_doubts.STILL_UNDER_WAY // _clock.MINUTE} minutes ago; try again later"
                )
                raise LedgerError(msg)
            if leaning := cursor.execute(sql.SELECT_LEANERS, (seq,)).fetchone():
                msg = f"call {leaning[0]}, under the same idempotency key, counts on call {seq}; resolve that one first"
                raise LedgerError(msg)
            _ending.end(cursor, admitted, outcome, now, evidence)

    def estimated(self) -> Sequence[Estimated]:
        """See ``Ledger.estimated``."""
        return [Estimated._make(row) for row in self._store.read(sql.SELECT_ESTIMATED, ())]

    def observe(self, note: Note, outcome: Outcome) -> None:
        """See ``Ledger.observe``."""
        with self._store.transaction() as cursor:
            seq = self._write_note(cursor, note)
            _positions.cost(cursor, Admitted(seq, (), (), 0), replace(outcome, observed=True))

    def note(self, note: Note, *, wait: bool = True) -> None:
        """See ``Ledger.note``."""
        with self._store.transaction(wait=wait) as cursor:
            self._write_note(cursor, note)

    def _write_note(self, cursor: sqlite3.Cursor, note: Note) -> int:
        scopes = () if note.run is None else (note.run,)
        admission = Admission(note.uid, note.call, scopes, note.tool)
        now = self._now(cursor)
        row = _row(admission, note.state, now, reason=note.reason)
        cursor.execute(sql.INSERT_CALL, (*row, None, None, None, None, None))
        seq = int(cursor.lastrowid or 0)
        cursor.execute(sql.END_NOTE, (note.http_status, now, seq))
        return seq

    # The file

    def _now(self, cursor: sqlite3.Cursor) -> int:
        """Return ledger time, the wall clock but never before anything on record, and record it."""
        now = self._tick(cursor.execute(sql.NEWEST).fetchone()[0])
        cursor.execute(sql.TOUCH, (now,))
        return now

    def _tick(self, newest: int = 0) -> int:
        """Return ledger time as far as this process and *newest* know it."""
        self._latest = max(_clock.now(), newest, self._latest)
        return self._latest

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._owner.close()
        self._store.close()


_FREE_TERMS = Terms(cap=None, max_calls=None, max_amount=None, allow=None, rules=())


@functools.lru_cache(maxsize=4096)
def _listed(scopes: tuple[int, ...]) -> str:
    return json.dumps(scopes)


def _rate_text(call: Call) -> str | None:
    if call.usd_per_unit is None:
        return None
    return "1" if call.currency == "usd" else str(call.usd_per_unit)


def _row(
    admission: Admission,
    state: State,
    now: int,
    *,
    reserved: int = 0,
    reason: str | None = None,
    request: str | None = None,
) -> tuple[object, ...]:
    """Return the columns of a call that are known when it begins, in the order of INSERT_CALL."""
    call, scopes = admission.call, admission.scopes
    return (
        admission.uid,
        now,
        scopes[0] if scopes else None,
        admission.tool,
        _listed(scopes),
        call.vendor,
        call.endpoint,
        call.method,
        call.path,
        admission.origin,
        call.account,
        call.owner,
        request,
        state,
        reason,
        reserved,
        call.amount,
        call.currency,
        _rate_text(call),
        call.idempotency_key,
        call.meter,
        call.contingent_micros,
        call.recurring,
    )
