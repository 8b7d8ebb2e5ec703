"""A ledger in which everything that can happen has happened, through the engine, in one place."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import keybrake
from keybrake import Limit
from keybrake.ledger import Note
from keybrake.ledger.audit import verify
from keybrake.ledger.audit.verify import Verdict
from keybrake.ledger.stores.sqlite import ledger_files
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import Outcome, State
from keybrake.policy.policy import Policy, terms_of
from tests.ledger.test_contract import MONEY, READ, asking, opened, settled

SMALL, LARGE = Limit(cap=90, per="1h"), Limit(cap=500, per="day")


def written(path: Path, runs: int = 3) -> SQLiteLedger:
    """Write a ledger with runs, child runs, tools, windows and calls of every state."""
    ledger = SQLiteLedger(path, lock_timeout_s=20, durability="process")
    for number in range(1, runs + 1):
        _write(ledger, number)
    return ledger


def _write(ledger: SQLiteLedger, number: int) -> None:
    limits = {"stripe.refunds.create": SMALL, "stripe.*.create": LARGE}
    run = opened(ledger, f"run_{number}", cap=100, limits=limits)
    child = opened(ledger, f"run_{number}_child", cap=20, parent=run)
    tool = ledger.tool(run, "payer", terms_of(Policy(cap=60)))
    ledger.settle(ledger.admit(asking(5, run)), settled(5, f"plain_{number}"))
    ledger.settle(ledger.admit(asking(4, child, run)), settled(3, f"child_{number}"))
    ledger.settle(ledger.admit(asking(6, run, tool)), settled(7, f"tool_{number}"))
    with contextlib.suppress(keybrake.CapExceeded):
        ledger.admit(asking(500, run))
    ledger.settle(ledger.admit(asking(1, run)), Outcome(State.VOIDED))
    _shrink(ledger, run, f"shrunk_{number}")
    ledger.note(Note("note", READ, State.SETTLED, "lookup", run=run, http_status=200))
    ledger.note(Note("orphan", READ, State.REFUSED, "no_active_run"))
    ledger.note(Note("open", READ, State.UNGUARDED, "a word", run=run))
    ledger.pause(f"run_{number}")
    ledger.resume(f"run_{number}")
    ledger.close_run(child)


def _shrink(ledger: SQLiteLedger, run: int, key: str) -> None:
    """Have a later write on a position give a part of it back."""
    ledger.settle(ledger.admit(asking(9, run)), settled(9, key))
    again = MONEY._replace(position=key)
    ledger.settle(ledger.admit(asking(9, run, call=again)), settled(4, key))


def left_open(ledger: SQLiteLedger, uid: str = "run_1") -> None:
    """Leave a call that is unknown, one that is reserved, and one that a person has resolved."""
    run = ledger.runs(uid)[0].pk
    lost = Outcome(State.UNKNOWN, note="timeout", http_status=500)
    for _ in range(2):
        ledger.settle(ledger.admit(asking(2, run)), lost)
    ledger.resolve(ledger.in_doubt()[0].seq, settled(2), "seen on the dashboard")
    ledger.admit(asking(3, run, call=MONEY._replace(position=f"shrunk_{uid[-1]}")))


def verified(path: Path) -> Verdict:
    """Verify a ledger as it is on the disk."""
    with contextlib.closing(ledger_files.connect(path, read_only=True)) as connection:
        return verify.verify(connection, path)


@contextlib.contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger as somebody with a SQLite tool would, the guards taken away for a while."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        kept = guards.fetchall()
        for name, _ in kept:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, statement in kept:
            connection.execute(statement)
