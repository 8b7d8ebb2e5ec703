"""The verbs that leave, find, carry and stop a run."""

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
        reason: Why, for whoever reads the call log: a non-empty text up to 200 characters.

    Raises:
        PolicyError: There is no reason.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason_of(reason)

    def __enter__(self) -> Self:
        """Begin the block."""
        install()
        caller.active.set(UnguardedFrame(self._reason, caller.active.get(), self))
        return self

    def __call__(self, function: F) -> F:
        """Decorate *function*: its own code runs unguarded."""

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
    """Return the run around the calling code; None: there is none."""
    frame = caller.run_around(caller.active.get())
    return None if frame is None else frame.handle


def bind(function: F) -> F:
    """
    Return *function* so that it runs in the run around the call of ``bind()``.

    For threads, pools and callbacks that keybrake does not see start.

    Raises:
        NoActiveRun: There is no run around here.
    """
    frame = caller.active.get()
    if caller.run_around(frame) is None:
        msg = "bind() was called outside of every run; call it inside `with keybrake.run(…):`"
        raise NoActiveRun(msg, reason="no_active_run", hint="Call bind() inside a run.")
    return wrapping.around(function, lambda: wrapping.Here(frame))


def revoke(run_or_key: Run | str) -> None:
    """
    End a run for good; it binds the next call of any process. Twice is once.

    Args:
        run_or_key: A run, its id, a vault key, or a label that only one run has which has not ended.

    Raises:
        LedgerError: There is no such run in the ledger, or more than one.
    """
    ledger, uid = _meant(run_or_key)
    ledger.revoke(uid)


def pause(run_or_key: Run | str) -> None:
    """Stop a run for a while, in every process; see :func:`revoke`."""
    ledger, uid = _meant(run_or_key)
    ledger.pause(uid)


def resume(run_or_key: Run | str) -> None:
    """Let a paused run go on; see :func:`revoke`. A revoked run stays revoked."""
    ledger, uid = _meant(run_or_key)
    ledger.resume(uid)


def _meant(run_or_key: object) -> tuple[Ledger, str]:
    if isinstance(run_or_key, Run):
        return run_or_key._ledger(), run_or_key.id  # noqa: SLF001 -- same file
    if not isinstance(run_or_key, str):
        msg = f"{type(run_or_key).__name__} is neither a run nor an id, a label or a vault key"
        raise PolicyError(msg)
    if run_or_key.startswith(vault_key.PREFIX):
        ledger, record = caller.join(run_or_key)
        return ledger, record.uid
    ledger = open_ledger()
    return ledger, run_or_key if ledger.runs(run_or_key) else _labelled(ledger, run_or_key)


def _labelled(ledger: Ledger, label: str) -> str:
    """Return the id of the run with a label: the only one that has not ended, or else the only one."""
    found = ledger.runs(label=label)
    going_on = [run for run in found if run.state() in ("open", "paused")]
    if len(found) > 1 and len(going_on) != 1:
        named = ", ".join(f"{run.uid} ({run.state()})" for run in (going_on or found)[:5])
        msg = (
            f"{shown(label)} is the label of {len(found)} runs, such as {named}; name one by its id"
        )
        raise LedgerError(msg)
    # An id that is unknown is told by the ledger.
    return (going_on or found)[0].uid if found else label
