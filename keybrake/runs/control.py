"""Public functions that act on a run: unguarded, current_run, bind, revoke, pause, resume."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from keybrake.errors import LedgerError, NoActiveRun, PolicyError
from keybrake.guard import caller
from keybrake.guard.caller import UnguardedFrame
from keybrake.ledger import Ledger, open_ledger
from keybrake.model import vault_key
from keybrake.model.shown import shown
from keybrake.runs import wrapping
from keybrake.runs.arguments import reason_of
from keybrake.runs.install import install
from keybrake.runs.run import Run

F = TypeVar("F", bound=Callable[..., Any])


class unguarded:  # noqa: N801 -- read as a verb: with unguarded("why")
    """
    Let the vendor calls of a block, or of a function, go out unguarded, each on record.

    Args:
        reason: The reason, for the call log: a non-empty text of up to 200 characters.

    Raises:
        PolicyError: The reason is blank or too long.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason_of(reason)

    def __enter__(self) -> Self:
        """Begin the block."""
        install()
        caller.active.set(UnguardedFrame(self._reason, caller.active.get(), self))
        return self

    def __call__(self, function: F) -> F:
        """Decorate *function* so that its code runs unguarded."""

        def begin() -> wrapping.Here:
            install()
            return wrapping.Here(UnguardedFrame(self._reason, caller.active.get()))

        return wrapping.around(function, begin)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the block."""
        frame = caller.active.get()
        if isinstance(frame, UnguardedFrame) and frame.handle is self:
            caller.leave(frame)


def current_run() -> Run | None:
    """Return the innermost active run; None: no run is active."""
    frame = caller.run_around(caller.active.get())
    return None if frame is None else frame.handle


def bind(function: F) -> F:
    """
    Return a wrapper that runs *function* in the run that is active now.

    Use it for threads, pools and callbacks whose start keybrake does not hook.

    Raises:
        NoActiveRun: No run is active.
    """
    frame = caller.active.get()
    if caller.run_around(frame) is None:
        msg = "bind() was called outside of every run; call it inside `with keybrake.run(…):`"
        raise NoActiveRun(msg, reason="no_active_run", hint="Call bind() inside a run.")
    return wrapping.around(function, lambda: wrapping.Here(frame))


def revoke(run_or_key: Run | str) -> None:
    """
    End a run for good; the next call in any process is refused. Revoking twice has no effect.

    Args:
        run_or_key: A run, its id, its vault key, or its label. If several runs have the label,
            exactly one of them must be open or paused.

    Raises:
        LedgerError: The ledger has no such run, or the label fits several.
    """
    ledger, uid = _ledger_and_id(run_or_key)
    ledger.revoke(uid)


def pause(run_or_key: Run | str) -> None:
    """Refuse the calls of a run, in every process, until :func:`resume`; see :func:`revoke`."""
    ledger, uid = _ledger_and_id(run_or_key)
    ledger.pause(uid)


def resume(run_or_key: Run | str) -> None:
    """Allow the calls of a paused run again; see :func:`revoke`. A revoked run stays revoked."""
    ledger, uid = _ledger_and_id(run_or_key)
    ledger.resume(uid)


def _ledger_and_id(run_or_key: object) -> tuple[Ledger, str]:
    if isinstance(run_or_key, Run):
        return run_or_key._ledger(), run_or_key.id  # noqa: SLF001 -- same folder
    if not isinstance(run_or_key, str):
        msg = f"{type(run_or_key).__name__} is neither a run nor an id, a label or a vault key"
        raise PolicyError(msg)
    if run_or_key.startswith(vault_key.PREFIX):
        ledger, record = caller.join(run_or_key)
        return ledger, record.uid
    ledger = open_ledger()
    return ledger, run_or_key if ledger.runs(run_or_key) else _id_by_label(ledger, run_or_key)


def _id_by_label(ledger: Ledger, label: str) -> str:
    """Return the id of the only run with *label*, or of the only one that is open or paused."""
    found = ledger.runs(label=label)
    live = [run for run in found if run.state() in ("open", "paused")]
    if len(found) > 1 and len(live) != 1:
        named = ", ".join(f"{run.uid} ({run.state()})" for run in (live or found)[:5])
        msg = (
            f"{shown(label)} is the label of {len(found)} runs, such as {named}; name one by its id"
        )
        raise LedgerError(msg)
    # Without a match, return the text itself: the ledger raises LedgerError for the unknown id.
    return (live or found)[0].uid if found else label
