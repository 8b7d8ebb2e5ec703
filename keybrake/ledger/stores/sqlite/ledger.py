"""The ledger in a SQLite file: each decision is one transaction under one lock."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from keybrake.errors import CallRefused, LedgerError, PolicyError
from keybrake.ledger import doubts, ending, entries, lifting, positions, stakes
from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.positions import Increase
from keybrake.ledger.protocol import (
    Admission,
    Admitted,
    Estimated,
    InDoubt,
    NewRun,
    Note,
    RunRecord,
    Stale,
)
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.group_commit import GroupCommit
from keybrake.ledger.stores.sqlite.owners import Owner
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome, Position, State
from keybrake.model.shown import shown
from keybrake.policy import decision as policy_decision
from keybrake.policy.clash import Clash
from keybrake.policy.decision import Standing, Used
from keybrake.policy.policy import Terms, applies, load_terms

__all__ = ["SQLiteLedger"]


_ONE_RUN = " WHERE scope.uid = ? AND scope.kind = 'run'"


class SQLiteLedger:
    """
    See ``keybrake.ledger.Ledger``.

    Args:
        path: See ``Store``.
        lock_timeout_s: See ``Store``.
        durability: See ``Store``.
        at_once: Open the file in the constructor; otherwise ``open`` opens it.

    Attributes:
        is_open: Whether the file has been opened, or made.
    """

    def __init__(
        self, path: Path, *, lock_timeout_s: float, durability: str, at_once: bool = True
    ) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._store = Store(path, lock_timeout_s=lock_timeout_s, durability=durability)
        self._group_commit = GroupCommit(self._store)
        self._owner = Owner(path)
        self._chains: dict[int, tuple[int, ...]] = {}
        self._tools: dict[int, dict[str, tuple[int, str]]] = {}
        self._latest = 0
        self.is_open = False
        if at_once:
            try:
                self.open()
            except BaseException:
                self._store.give_up()
                raise

    def open(self) -> None:
        """
        Open the file now, and not with the first call; make it if it does not exist.

        Threads that do so at the same time all wait, each until its own deadline.

        Raises:
            LedgerUnavailable: The file cannot be made, opened or locked, or is not a ledger.
        """
        if not self.is_open:
            self._group_commit.take(lambda _: None)
            self.is_open = True

    # Runs

    def open_run(self, new: NewRun, *, wait: bool = True) -> int:
        """See ``Ledger.open_run``."""
        return self._group_commit.take(functools.partial(self._open_run, new), wait=wait)

    def _open_run(self, new: NewRun, writing: Writing) -> int:
        if new.parent is not None:
            self._refuse_under_ended_parents(writing, new)
        expires_at = None if new.lives_for is None else writing.now + new.lives_for
        terms = new.terms
        return _open_scope(
            writing,
            (new.uid, "run", new.label, new.parent, new.key_hash, new.mode),
            (terms.dump(), terms.cap, terms.max_calls, writing.now, expires_at),
        )

    def _refuse_under_ended_parents(self, writing: Writing, new: NewRun) -> None:
        opening = Call("keybrake", "keybrake.run", "OPEN", "/", Effect.FREE)
        parents = self.chain(new.parent or 0)
        chain = [self._standing(writing, pk, opening, writing.now) for pk in parents]
        # Check only whether the parents are open. Caps and limits are checked for each call.
        alive = [scope._replace(terms=_FREE_TERMS, used=()) for scope in chain]
        if refusal := policy_decision.decide(alive, opening, increase=0, now=writing.now).refusal:
            raise refusal

    def join(self, key_hash: bytes) -> RunRecord | None:
        """See ``Ledger.join``."""
        row = self._store.read(sql.SELECT_RUNS + " WHERE scope.key_hash = ?", (key_hash,))
        return RunRecord._make(row[0]) if row else None

    def close_run(self, pk: int, *, wait: bool = True) -> None:
        """See ``Ledger.close_run``."""
        self._group_commit.take(
            lambda writing: _stop(writing, pk, "closed", sql.CLOSE_RUN), wait=wait
        )
        # Free the caches: a long-lived process opens many runs. Later calls read the rows again.
        self._chains.pop(pk, None)
        self._tools.pop(pk, None)

    def revoke(self, uid: str) -> None:
        """See ``Ledger.revoke``."""

        def revoke(writing: Writing) -> None:
            _stop(writing, self._existing(writing, uid).pk, "revoked", sql.REVOKE_RUN)

        self._group_commit.take(revoke, durable=True)

    def pause(self, uid: str) -> None:
        """See ``Ledger.pause``."""

        def pause(writing: Writing) -> None:
            run = self._existing(writing, uid)
            self._refuse_unless_open(run, "paused")
            _stop(writing, run.pk, "paused", sql.PAUSE_RUN)

        self._group_commit.take(pause, durable=True)

    def resume(self, uid: str) -> None:
        """See ``Ledger.resume``."""

        def resume(writing: Writing) -> None:
            run = self._existing(writing, uid)
            lifting.refuse_under_own_key(writing.execute, run.pk, f"resume run {run.uid}")
            self._refuse_unless_open(run, "resumed")
            if writing.execute(sql.RESUME_RUN, (run.pk,)).rowcount:
                writing.of_scope("resumed", run.pk)

        self._group_commit.take(resume, durable=True)

    @staticmethod
    def _existing(writing: Writing, uid: str) -> RunRecord:
        row = writing.execute(sql.SELECT_RUNS + _ONE_RUN, (uid,)).fetchone()
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
        def find_or_open(writing: Writing) -> tuple[int, str]:
            row = writing.execute(sql.SELECT_TOOL, (run, name)).fetchone()
            if row is not None:
                return int(row[0]), str(row[1])
            uid, mode = writing.execute(sql.SELECT_OWNER, (run,)).fetchone()
            text = terms.dump()
            pk = _open_scope(
                writing,
                (f"{uid}:{name}", "tool", name, run, None, mode),
                (text, terms.cap, terms.max_calls, writing.now, None),
            )
            return pk, text

        return self._group_commit.take(find_or_open, wait=wait)

    def chain(self, pk: int) -> tuple[int, ...]:
        """See ``Ledger.chain``."""
        # Parents never change, so a chain is read once.
        if pk not in self._chains:
            self._chains[pk] = tuple(row[0] for row in self._store.read(sql.SELECT_CHAIN, (pk,)))
        return self._chains[pk]

    def run(self, pk: int) -> RunRecord:
        """See ``Ledger.run``."""
        return RunRecord._make(self._store.read(sql.SELECT_RUNS + " WHERE scope.id = ?", (pk,))[0])

    def runs(self, uid: str | None = None, label: str | None = None) -> Sequence[RunRecord]:
        """See ``Ledger.runs``."""
        given = {"scope.uid = ?": uid, "scope.label = ?": label}
        named = {clause: value for clause, value in given.items() if value is not None}
        where = " AND ".join(("scope.kind = 'run'", *named))
        rows = self._store.read(
            f"{sql.SELECT_RUNS} WHERE {where} ORDER BY scope.id", tuple(named.values())
        )
        return [RunRecord._make(row) for row in rows]

    # Calls

    def position(self, key: str) -> Position | None:
        """See ``Ledger.position``."""
        rows = self._store.read(sql.SELECT_POSITION, (key,))
        if not rows:
            return None
        state, value, currency, rate, open_writes = rows[0]
        exact = None if rate is None else Fraction(rate)
        return Position(key, state, value, currency, exact, in_doubt=open_writes > 0)

    def newest_event(self) -> int:
        """See ``Ledger.newest_event``."""
        return int(self._store.read(sql.NEWEST_EVENT, ())[0][0])

    def refuses(self, admission: Admission) -> bool:
        """See ``Ledger.refuses``."""
        call = admission.call._replace(value_micros=None, lookup=None)
        with self._store.reading() as reader:
            now = self._tick(reader.execute(sql.NEWEST).fetchone()[0])
            chain = [self._standing(reader, pk, call, now) for pk in admission.scopes]
        return policy_decision.decide(chain, call, increase=0, now=now).refusal is not None

    def together(self, *, durable: bool, wait: bool) -> AbstractContextManager[None]:
        """See ``Ledger.together``."""
        return self._group_commit.together(durable=durable, wait=wait)

    def admit(self, admission: Admission, *, wait: bool = True) -> Admitted:
        """See ``Ledger.admit``."""
        admitted = self._group_commit.take(
            functools.partial(self._admit, admission),
            # A read reserves no money, so nothing is lost if a power cut loses its row.
            durable=admission.call.effect is not Effect.READ,
            wait=wait,
        )
        if isinstance(admitted, CallRefused | Stale):
            raise admitted
        return admitted

    def _admit(self, admission: Admission, writing: Writing) -> Admitted | CallRefused | Stale:
        """Decide and write the decision; return a refusal, because raising it would roll back."""
        admission = stakes.with_absorbed(writing, admission)
        call, now = admission.call, writing.now
        clash: Clash | None = None
        if call.priced_by or call.may_raise:
            clash = stakes.clash(writing, admission)
            if clash is not None and clash.ended and admission.may_repeat:
                return Stale()
        chain = [self._standing(writing, pk, call, now) for pk in admission.scopes]
        more = positions.increase(writing, call, admission.scopes)
        decision = policy_decision.decide(chain, call, increase=more.micros, now=now, clash=clash)
        if decision.refusal is None:
            return self._reserve(writing, admission, chain, more, decision)
        self._record_refusal(writing, admission, decision.refusal.reason)
        return decision.refusal

    @staticmethod
    def _standing(asked: Writing | sqlite3.Connection, pk: int, call: Call, now: int) -> Standing:
        """Return the state and the counters of a scope at ledger time *now*."""
        row = asked.execute(sql.SELECT_STANDING, (pk,)).fetchone()
        terms = load_terms(row[5])
        used = tuple(
            Used(
                index,
                rule,
                *asked.execute(sql.SUM_BUCKETS, (pk, index, rule.since(now))).fetchone(),
            )
            for index, rule in enumerate(terms.rules)
            if applies(rule.pattern, call)
        )
        return Standing._make((*row[:5], terms, *row[6:], used))

    def _reserve(
        self,
        writing: Writing,
        admission: Admission,
        chain: Sequence[Standing],
        more: Increase,
        decision: policy_decision.Decision,
    ) -> Admitted:
        increase = more.micros
        buckets = _reserve_in(writing, chain, increase)
        row = entries.row_of(
            admission,
            State.RESERVED,
            writing.now,
            reserved=increase,
            request=admission.request,
            buckets=json.dumps(buckets) if buckets else None,
            would_refuse=decision.would_refuse.reason if decision.would_refuse else None,
            position=(tracked := positions.tracked(writing, admission.call)),
            leans_on=more.leans_on,
            process=self._owner.token(),
        )
        seq = entries.write(writing, "admitted", row, reserved=increase)
        if tracked is not None:
            writing.execute(sql.BEGIN_WRITE, (seq, tracked))
        staked = stakes.begin(writing, seq, admission.call)
        return Admitted(
            seq,
            admission.scopes,
            tuple(buckets),
            increase,
            tracked,
            more.leans_on,
            contingent_micros=admission.call.contingent_micros,
            staked=staked,
        )

    @staticmethod
    def _record_refusal(writing: Writing, admission: Admission, reason: str) -> None:
        row = entries.row_of(admission, State.REFUSED, writing.now, reason=reason)
        entries.write(writing, "refused", row, detail=reason)
        for pk in admission.scopes:
            writing.execute(sql.COUNT_REFUSAL, (pk,))
        writing.fold()

    def settle(self, admitted: Admitted, outcome: Outcome, *, wait: bool = True) -> None:
        """See ``Ledger.settle``."""

        def settle(writing: Writing) -> None:
            ending.end(writing, admitted, outcome)
            writing.fold()

        # check=False: the contents of the file were checked when the call was admitted.
        self._group_commit.take(settle, wait=wait, check=False)

    # Calls in doubt, and positions without a final price

    def in_doubt(self, seq: int | None = None) -> Sequence[InDoubt]:
        """See ``Ledger.in_doubt``."""
        if seq is not None:
            return [InDoubt(*row) for row in self._store.read(sql.ONE_IN_DOUBT, (seq,))]
        return doubts.among(self._store.read(sql.ALL_IN_DOUBT, ()), self.path, self._tick())

    def resolve(self, seq: int, outcome: Outcome, evidence: str, *, proven: bool = False) -> None:
        """See ``Ledger.resolve``."""

        def resolve(writing: Writing) -> None:
            admitted = self._resolvable(writing, seq)
            if not proven:
                for run in admitted.scopes or (None,):
                    lifting.refuse_under_own_key(writing.execute, run, f"resolve call {seq}")
            ending.end(writing, admitted, outcome, evidence)

        self._group_commit.take(resolve, durable=True)

    def _resolvable(self, writing: Writing, seq: int) -> Admitted:
        state, admitted = ending.open_call(writing, seq)
        if state not in (State.RESERVED, State.UNKNOWN):
            msg = f"call {seq} has ended already: it is {state}"
            raise LedgerError(msg)
        found = writing.execute(sql.ONE_IN_DOUBT, (seq,)).fetchall()
        if not doubts.among(found, self.path, writing.now):
            msg = (
                f"call {seq} may still be under way: its process lives, and it was admitted less "
                f"than {doubts.STILL_UNDER_WAY // clock.MINUTE} minutes ago; try again later"
            )
            raise LedgerError(msg)
        if leaning := writing.execute(sql.SELECT_LEANERS, (seq,)).fetchone():
            msg = f"call {leaning[0]}, under the same idempotency key, counts on call {seq}; resolve that one first"
            raise LedgerError(msg)
        return admitted

    def estimated(self) -> Sequence[Estimated]:
        """See ``Ledger.estimated``."""
        return [Estimated._make(row) for row in self._store.read(sql.SELECT_ESTIMATED, ())]

    def observe(self, note: Note, outcome: Outcome) -> None:
        """See ``Ledger.observe``."""

        def observe(writing: Writing) -> None:
            seq = entries.write_note(writing, note)
            positions.cost(writing, Admitted(seq, (), (), 0), replace(outcome, observed=True))

        self._group_commit.take(observe)

    def note(self, note: Note, *, wait: bool = True) -> None:
        """See ``Ledger.note``."""
        self._group_commit.take(lambda writing: entries.write_note(writing, note), wait=wait)

    # The file

    def configure(self, *, lock_timeout_s: float, durability: str) -> None:
        """Change the settings, from the next transaction on; see ``Config``."""
        self._store.configure(lock_timeout_s=lock_timeout_s, durability=durability)

    def _tick(self, newest: int = 0) -> int:
        """Return ledger time: the wall clock, but never earlier than *newest* or an earlier result."""
        self._latest = max(clock.now(), newest, self._latest)
        return self._latest

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._owner.close()
        self._store.close()


def _open_scope(writing: Writing, name: tuple[object, ...], policy: tuple[object, ...]) -> int:
    """
    Write a new run or tool, and return its primary key.

    Args:
        writing: The open transaction.
        name: uid, kind, label, parent, key_hash and mode.
        policy: terms, cap, max_calls, opened_at and expires_at.
    """
    writing.execute(sql.INSERT_SCOPE, (*name, *policy))
    pk = int(writing.cursor.lastrowid or 0)
    hashed = name[4].hex().upper() if isinstance(name[4], bytes) else ""
    writing.of_scope("opened", pk, (*name[:4], hashed, name[5], *policy))
    return pk


def _stop(writing: Writing, pk: int, kind: str, statement: str) -> None:
    """Close, revoke or pause a run; do nothing if that was done before."""
    if writing.execute(statement, (writing.now, pk)).rowcount:
        writing.of_scope(kind, pk)


def _reserve_in(
    writing: Writing, chain: Sequence[Standing], increase: int
) -> list[tuple[int, int, int]]:
    """Reserve *increase* in every scope; return the buckets in which it is counted."""
    buckets = []
    for scope in chain:
        report = scope.mode == "report"
        writing.execute(sql.RESERVE, (increase, scope.pk, report, increase, increase))
        _must_change_one(writing)
        for used in scope.used:
            at = used.rule.bucket(writing.now)
            # A rolling window is the sum of many buckets, so this statement cannot repeat its cap.
            whole = used.rule.since(writing.now) == at and not report
            cap = used.rule.cap if whole else None
            writing.execute(sql.RESERVE_BUCKET, (scope.pk, used.nr, at, increase, cap, cap))
            _must_change_one(writing)
            buckets.append((scope.pk, used.nr, at))
    return buckets


def _must_change_one(writing: Writing) -> None:
    # The statement repeats the cap of decide(). If they disagree, trust neither: roll back.
    if writing.cursor.rowcount != 1:
        msg = "the ledger's totals contradict the decision; nothing was sent"
        raise sqlite3.IntegrityError(msg)


_FREE_TERMS = Terms(cap=None, max_calls=None, max_amount=None, allow=None, rules=())
