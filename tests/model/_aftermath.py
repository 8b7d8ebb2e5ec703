"""How a life ends: every process is killed, what is in doubt is resolved, and the sums are struck."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing, suppress
from contextvars import copy_context
from typing import Any

from keybrake.errors import LedgerError
from keybrake.guard import caller
from keybrake.guard.caller import RunFrame
from keybrake.ledger import NewRun
from keybrake.ledger.audit.verify import verify
from keybrake.ledger.doubts import STILL_UNDER_WAY
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import InDoubt, Outcome, Reply, State
from keybrake.policy.policy import Policy, terms_of
from keybrake.vendors import VENDORS
from keybrake.vendors.inquiry import call_of, shown_as_answer
from tests._doors import take
from tests.model._agents import CREATE
from tests.model._flight import VirtualDoor, deliver
from tests.model._invariants import CENT, OPEN, require
from tests.model._life import Life
from tests.model._vendor import Sent
from tests.model._world import World

ROUNDS = 6


def end(life: Life, *, thorough: bool) -> None:
    """Find out what became of everybody's calls, and compare with the vendor."""
    world = life.world
    world.is_locked = False
    _kill(life)
    world.eyes.look()
    while world.mail:
        deliver(world, world.mail.pop(0))
    # The clock is put right, and after a while a process that lives has given up what it could
    # not write down.
    world.now = max(world.now, world.eyes.at)
    world.passes(STILL_UNDER_WAY)
    ledger = (world.alive() or [world.start()])[0].ledger
    world.eyes.look()
    _doubt_is_visible(world, ledger)
    _resolve(life, ledger)
    _read_everything(world, ledger)
    world.eyes.look()
    _nothing_is_left_in_doubt(world)
    _what_counts_is_what_moved(world)
    if thorough:
        _is_verified(world)


def _kill(life: Life) -> None:
    """Kill everybody, or all but one that has nothing to do any more."""
    spared = life.world.alive()[:1] if life.world.dice.random() < 0.5 else []
    for process in life.world.alive():
        if process not in spared or life.is_busy:
            process.die()
    for agent in life.agents:
        agent.drop()


def _doubt_is_visible(world: World, ledger: SQLiteLedger) -> None:
    """Whatever a dead process left open is listed."""
    listed = {doubt.seq for doubt in ledger.in_doubt()}
    left = {seq: call for seq, call in world.eyes.seen.calls.items() if call["state"] in OPEN}
    matters = ("reserved", "position")  # what has neither is a read
    holds = {
        seq
        for seq, call in left.items()
        if call["state"] == "unknown" or any(call[fact] for fact in matters)
    }
    require(holds <= listed <= set(left), "whatever is in doubt is listed", holds, listed)


def _resolve(life: Life, ledger: SQLiteLedger) -> None:
    """Reconcile; what that cannot prove, a person looks up and resolves by hand."""
    for attempt in range(ROUNDS):
        for doubt in _open(life.world, ledger):
            # Those that another call leans on come later, and may be resolved with it by then.
            with suppress(LedgerError):
                if attempt < ROUNDS // 2:
                    life.world.tell("at last", life.reconciler().reconcile(doubt))
                else:
                    ledger.resolve(doubt.seq, _truth(life.world, doubt), "looked up by hand")
            life.world.eyes.look()


def _open(world: World, ledger: SQLiteLedger) -> list[InDoubt]:
    """Return every call that is open; what reserved nothing is not listed, but it can be named."""
    calls = world.eyes.seen.calls.items()
    return [ledger.in_doubt(seq)[0] for seq, call in calls if call["state"] in OPEN]


def _truth(world: World, doubt: InDoubt) -> Outcome:
    """Return what the vendor's own dashboard shows for a call."""
    vendor = world.vendor
    for event in reversed(vendor.events):
        if event["request"]["idempotency_key"] == doubt.sent_key:
            made = event["data"]["object"]["id"]
            thing = vendor.intents.get(made) or vendor.refunds.get(made)
            return VENDORS["stripe"].outcome(call_of(doubt), shown_as_answer(thing))
    return Outcome(State.VOIDED, conclusive=vendor.has_seen(doubt.sent_key))


class _QuietDoor(VirtualDoor):
    """A door to a vendor that answers, at once."""

    def forward(self, idempotency_key: str | None) -> Any:
        """See ``Door.forward``."""
        answer = self._world.vendor.receive(Sent("GET", self._path, {}, idempotency_key))
        return json.dumps(answer.body), answer.status, {}

    def reply(self, answer: Any) -> Reply:
        """See ``Door.reply``."""
        text, status, headers = answer
        return Reply(status, headers, text)


def _read_everything(world: World, ledger: SQLiteLedger) -> None:
    """Retrieve every intent, by guarded calls of a run of its own."""
    terms = terms_of(Policy(cap=0))
    pk = ledger.open_run(NewRun("reader", "reader", terms, None, b"reader".ljust(32)))
    frame = RunFrame(ledger, pk, "reader", "reader", (pk,), None)
    context = copy_context()
    context.run(caller.active.set, frame)
    for made in world.vendor.intents:
        context.run(take, _QuietDoor(world, "GET", f"{CREATE}/{made}", {}, None))


def _nothing_is_left_in_doubt(world: World) -> None:
    for pk, scope in world.eyes.seen.scopes.items():
        require(scope["reserved"] == 0, "nothing stays reserved", pk, scope["reserved"])


def _what_counts_is_what_moved(world: World) -> None:
    """Each event counts for what it is worth at the vendor, to the cent, and is charged once."""
    view, vendor = world.eyes.seen, world.vendor
    charged: dict[str, int] = defaultdict(int)
    for call in view.calls.values():
        charged[call["position"]] += call["cost"]
    for made, intent in vendor.intents.items():
        counted = view.positions.get(f"stripe::{made}")
        worth = vendor.worth(intent) * CENT
        if counted is None:
            # Declined before it was counted: then it has taken nothing.
            nothing = intent["amount_received"] == intent["amount_capturable"] == 0
            require(nothing, "whatever moved has a position", made, intent)
        else:
            require(counted == (worth, 0), "a position is what it is worth", made, counted, worth)
    for made, refund in vendor.refunds.items():
        counted = view.positions.get(f"stripe::{made}")
        require(counted == (refund["amount"] * CENT, 0), "a refund counts", made, counted)
    for key, (value, _) in view.positions.items():
        require(charged[key] == value, "a position is charged once", key, charged[key], value)


def _is_verified(world: World) -> None:
    with closing(sqlite3.connect(f"file:{world.path}?mode=ro", uri=True)) as reader:
        verdict = verify(reader, world.path)
    require(verdict.found == 0, "the chain and its replay agree", verdict.findings)
