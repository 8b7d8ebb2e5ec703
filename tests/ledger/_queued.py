"""What waits in a queue: pieces of work that write, or fail, and the turns of other threads."""

from collections.abc import Callable
from typing import Any

from keybrake.ledger.event_chain import Writing
from keybrake.ledger.stores.sqlite.group_commit import GroupCommit, _Work
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger


class Struck(BaseException):
    """Strikes anywhere, as Ctrl-C does; at a real one the test runner itself would stop."""


def note(ledger: SQLiteLedger, reason: str) -> Callable[[Writing], str]:
    """Return work that writes one row, and says so."""

    def work(writing: Writing) -> str:
        writing.execute(
            "INSERT INTO event (seq, at, kind, reserved, spent, hash, detail) "
            "SELECT max(seq) + 1, 0, 'x', 0, 0, zeroblob(32), ? FROM event",
            (reason,),
        )
        writing._chain.seq += 1
        writing._chain._hash = bytes(32)
        return reason

    return work


def written(ledger: SQLiteLedger) -> list[str]:
    """Return what was written by such work."""
    rows = ledger._store.read("SELECT detail FROM event WHERE kind = 'x' ORDER BY seq", ())
    return [reason for (reason,) in rows]


def failing(error: BaseException) -> Callable[[Writing], Any]:
    """Return work that fails."""

    def work(_: Writing) -> None:
        raise error

    return work


def lined_up(turns: GroupCommit, *works: Callable[[Writing], Any], **how: bool) -> list[_Work]:
    """Return turns of other threads, which wait."""
    waiting = [_Work(work, durable=False, check=True, **how) for work in works]
    for turn in waiting:
        turn.line_up()
        turns._waiting.append(turn)
    return waiting


def is_woken(turn: _Work) -> bool:
    """Return whether the thread of a turn would look."""
    return turn._gate.wait(0)
