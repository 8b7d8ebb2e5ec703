"""What becomes of a connection to a vendor that no guarded call makes: warning, row and refusal."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import warnings
from collections import deque
from dataclasses import dataclass, replace

from keybrake.config import settings, started_under
from keybrake.errors import EndpointNotAllowed, KeybrakeError
from keybrake.guard import call_counts, caller
from keybrake.ledger import Busy, Note, open_ledger
from keybrake.model import waiting
from keybrake.model.call import Call, Effect, State

_log = logging.getLogger("keybrake")

_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Connection:
    """
    A connection, or the look-up of a name for one, that no guarded call makes.

    Attributes:
        host: With its port, where that is known.
        place: File and line of the code that asked for it; None: a thread of a library did.
        run: The run around it, if there is one.
        tool: The name of the tool around it, if there is one.
        by_address: The host is an address: the look-up of its name may have been noticed before.
        allowed: The reason that ``unguarded(reason)`` gave, if that is around it.
    """

    vendor: str
    host: str
    place: tuple[str, int] | None
    run: caller.RunFrame | None
    tool: str | None
    allowed: str | None
    by_address: bool = False

    @property
    def where(self) -> str:
        """Return the place as text."""
        if self.place is None:
            return "a thread that an HTTP library started"
        return f"{self.place[0]}:{self.place[1]}"


def notice(found: Connection) -> None:
    """
    Write a connection down, and warn of it or refuse it, as the operator wants it.

    This runs inside of the connection, in whatever thread makes it, so it waits for no ledger.

    Raises:
        EndpointNotAllowed: ``unguarded = "refuse"``, and no ``unguarded(reason)`` is around it.
    """
    wanted = "ignore" if found.allowed is not None else settings.current().unguarded
    # A name is looked up, maybe once more in a library's thread, and its address connected to: the
    # later ones belong to the first.
    # A resolver's thread may stand in no run.
    names = [("name", found.vendor, run) for run in (found.run and found.run.uid, None)]
    follows = found.by_address or found.place is None
    if not follows or not any(name in _remembered for name in names):
        call_counts.count_past(found.vendor)
        if _is_new(("row", found.host, found.place, found.run and found.run.uid)):
            _write_later(found, refused=wanted == "refuse")
        if wanted == "warn" and _is_new(("warning", found.host, found.place)):
            _warn(found)
    if not found.by_address:
        _is_new(names[0])
    if wanted == "refuse":
        raise _refused(found)


_remembered: dict[object, object] = {}


def _is_new(key: object) -> bool:
    if len(_remembered) >= _MOST_REMEMBERED:
        _remembered.clear()
    mine = object()
    return _remembered.setdefault(key, mine) is mine  # in one step, whatever other threads do


def forget() -> None:
    """Warn anew of every place from here on: ``uninstall()`` was called."""
    _remembered.clear()


def _refused(found: Connection) -> EndpointNotAllowed:
    label = found.run.label if found.run else None
    return EndpointNotAllowed(
        f"{_around(found)}: a connection to {found.host} was refused, because no guarded call makes "
        f"it ({found.where}). Nothing was sent. Do not retry: the same connection will be refused "
        f"again. A developer has to make the call through {found.vendor}'s SDK, or write "
        f"keybrake.unguarded(reason) around it.",
        reason="past_the_guard",
        run_id=found.run.uid if found.run else None,
        label=label,
        scope=f"tool {found.tool}" if found.tool else None,
        endpoint=f"{found.vendor}.connection",
        hint=f"Use {found.vendor}'s SDK, or keybrake.unguarded(reason).",
    )


def _around(found: Connection) -> str:
    if found.run is not None:
        return found.run.label
    return (
        "under the vault key of this process"
        if started_under.vault_keys()
        else "outside of every run"
    )


def _warn(found: Connection) -> None:
    message = (
        f"{_around(found)}: a connection to {found.host} was made by no guarded call "
        f"({found.where}), so nothing of it is counted or capped. Make the call through "
        f"{found.vendor}'s SDK, or write keybrake.unguarded(reason) around it; "
        f'unguarded = "refuse" in keybrake.toml stops such connections'
    )
    _log.warning(message)
    file, line = found.place or ("<unknown>", 1)
    # Where warnings are errors, the log has this one: the connection is the user's to make.
    with contextlib.suppress(RuntimeWarning):
        warnings.warn_explicit(message, RuntimeWarning, file, line)


# Rows are written by a thread: a connection is made inside an event loop, or inside a signal
# handler that interrupted a ledger's transaction, where asking the ledger would wait for ever.
_unwritten: deque[tuple[Connection, Note]] = deque()
_writing = waiting.Mutex()


def _write_later(found: Connection, *, refused: bool) -> None:
    call = Call(found.vendor, f"{found.vendor}.connection", "CONNECT", found.host, Effect.READ)
    what = "connection past the guard" + (", refused" if refused else "")
    reason = found.allowed or f"{what}; from {found.where}"
    run = found.run.pk if found.run else None
    note = Note(secrets.token_hex(12), call, State.UNGUARDED, reason, run=run, tool=found.tool)
    _unwritten.append((found, note))
    # Not at the interpreter's end, where no thread starts any more: flush() runs then.
    with contextlib.suppress(RuntimeError):
        waiting.start_new_thread(flush, ())


def flush(wait: bool = True) -> None:  # noqa: FBT001, FBT002 -- called as Books.work is
    """
    Write down every connection that was noticed.

    Raises:
        Busy: *wait* is False, and there are some.
    """
    if not wait and _unwritten:
        raise Busy
    with _writing:
        while _unwritten:
            with contextlib.suppress(IndexError):
                _write(*_unwritten.popleft())


def _write(found: Connection, note: Note) -> None:
    try:
        if found.run is not None:
            found.run.ledger.note(note)
        elif keys := started_under.vault_keys():
            ledger, record = caller.join(keys[0])
            ledger.note(replace(note, run=record.pk))
        else:
            (caller.open_runs.newest_ledger() or open_ledger()).note(note)
    except KeybrakeError as error:
        _log.warning("a connection to %s could not be written down: %s", found.host, error)


def _after_fork() -> None:
    """Leave to the parent what it has noticed; a thread that was writing is not here to end it."""
    _unwritten.clear()
    if _writing.locked():
        _writing.release()


atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
