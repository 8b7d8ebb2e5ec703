"""``run()`` and ``Run``: open, join, close, read and stop a run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar

from keybrake.errors import KeybrakeError, LedgerError, PolicyError
from keybrake.guard import audit_hook, caller, unentered_runs, unguarded_connections
from keybrake.guard.caller import Frame, RunFrame
from keybrake.ledger import Ledger, NewRun, RunRecord
from keybrake.model import vault_key
from keybrake.model.call import Finding
from keybrake.model.money import usd
from keybrake.model.shown import shown
from keybrake.model.vault_key import VaultKey
from keybrake.policy import policy as policies
from keybrake.policy.policy import Policy
from keybrake.runs import wrapping
from keybrake.runs.arguments import (
    UNSAID,
    Amount,
    Limits,
    Unsaid,
    given_arguments,
    parse_key,
    parse_label,
    parse_ledger,
    policy_from,
)
from keybrake.runs.install import install

_log = logging.getLogger("keybrake")

F = TypeVar("F", bound=Callable[..., Any])


def run(  # noqa: PLR0913 -- one keyword per promise
    label: str | None = None,
    *,
    cap: Amount | Unsaid | None = UNSAID,
    daily_usd_cap: Amount | Unsaid | None = UNSAID,
    max_calls: int | Unsaid | None = UNSAID,
    max_amount: Amount | Unsaid | None = UNSAID,
    allow: Sequence[str] | Unsaid | None = UNSAID,
    limits: Limits | Unsaid | None = UNSAID,
    expires_in: object = UNSAID,
    policy: Policy | str | None = None,
    key: str | None = None,
    mode: str = "enforce",
    reconcile: bool = False,
    ledger: str | os.PathLike[str] | Ledger | None = None,
) -> Run:
    """
    Guard every vendor call in a block: ``with``, ``async with``, or as a decorator.

    Nothing is written before the block is entered. A run inside another run is its child; the
    policies of both apply to its calls.

    Args:
        label: Name of the run in the call log: a non-empty text of up to 200 characters.
        cap: The most the run may move or cost, in USD. Required, unless *policy* or *key* is given;
            ``cap=None`` explicitly sets no cap.
        daily_usd_cap: The most per UTC calendar day, in USD.
        max_calls: The most vendor calls.
        max_amount: The most one call may ask for, in USD.
        allow: Endpoint patterns (``stripe.refunds.create``, ``stripe.*.list``,
            ``GET stripe:/v1/charges/*``). None: every classified endpoint; ``[]``: none.
        limits: Endpoint pattern → :class:`keybrake.Limit`.
        expires_in: ``"30m"``, ``"2h"``, ``"7d"``, a ``timedelta``, or None for never.
            By default 24 hours.
        policy: A :class:`keybrake.Policy`, or the name of one in ``keybrake.toml``. Other arguments
            override its fields.
        key: Join the run of this vault key; the run stays open after the block.
        mode: ``"enforce"``, or ``"report"``: a call that the policy would refuse is sent, and its
            row in the call log has ``would_refuse``.
        reconcile: Call :meth:`Run.reconcile` after the block, once the run is closed. Errors in it
            are only logged.
        ledger: URL, path or open ledger; see :func:`keybrake.open_ledger`.

    Raises:
        PolicyError: An argument is invalid; the text names it. Nothing is written.
    """
    if mode not in ("enforce", "report"):
        msg = f'mode={shown(mode)} is unknown; write "enforce" or "report"'
        raise PolicyError(msg)
    given = given_arguments(
        cap=cap,
        daily_usd_cap=daily_usd_cap,
        max_calls=max_calls,
        max_amount=max_amount,
        allow=allow,
        limits=limits,
        expires_in=expires_in,
    )
    if key is not None:
        if given or policy is not None or mode != "enforce" or reconcile:
            other = "mode" if mode != "enforce" else "reconcile"
            named = next(iter(given), other if policy is None else "policy")
            msg = f"run(key=…) takes its policy from the key; open a child run inside to narrow {named}"
            raise PolicyError(msg)
        return Run(
            parse_label(label) if label is not None else "", None, key=parse_key(key), ledger=ledger
        )
    made = policy_from(policy, given)
    return Run(parse_label(label), made, mode=mode, reconcile=reconcile, ledger=ledger)


class Run:
    """
    One execution of an agent, with a label and a policy. Made by :func:`keybrake.run`.

    Its attributes work before, inside and after the block; amounts are ``Decimal`` US dollars.

    Attributes:
        id: ``run_…``, unique.
        key: The vault key of this run; with it another process can join the run.
        label: Name of the run in the call log.
    """

    def __init__(
        self,
        label: str,
        policy: Policy | None,
        *,
        key: str | None = None,
        mode: str = "enforce",
        reconcile: bool = False,
        ledger: str | os.PathLike[str] | Ledger | None = None,
    ) -> None:
        self.label = label
        self.id = "" if key is not None else f"run_{secrets.token_hex(8)}"
        self.key: str = VaultKey(vault_key.make(), self.id) if key is None else key
        self._policy = policy
        self._mode = mode
        self._reconciles = reconcile
        self._wanted_ledger = ledger
        self._frame: RunFrame | None = None
        self._entered = False
        self.left = False
        self._pid = 0
        # If this run is never entered, the audit hook warns at the next unguarded vendor call.
        audit_hook.add()
        self._unentered = unentered_runs.made(self, repr(self), audit_hook.caller())

    def __repr__(self) -> str:
        return f"<Run {shown(self.label)} {self.id or 'not joined yet'}>"

    # Entering and leaving

    def __enter__(self) -> Self:
        """
        Open or join the run, and make it the active one.

        Raises:
            LedgerUnavailable: The ledger cannot be opened, locked in time or written.
            UnsupportedSDK: keybrake cannot guard the version of an imported SDK.
        """
        with self._all_or_nothing():
            ledger = self._prepare()
            self._activate(ledger, self._record(ledger))
            return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the run; a joined run, or one opened before a fork by the parent, stays open."""
        with self._all_or_nothing():
            frame = self._leave()
        unguarded_connections.flush()
        if frame is not None:
            with self._only_warn("closed"):
                frame.ledger.close_run(frame.pk)
            if self._reconciles:
                with self._only_warn("reconciled"):
                    self.reconcile()

    async def __aenter__(self) -> Self:
        """See ``__enter__``; waits for the ledger without blocking the event loop."""
        from keybrake.guard import task_batching

        with self._all_or_nothing():
            ledger = self._prepare()
            if self._policy is None:
                self._activate(ledger, self._record(ledger))
                return self
            step = task_batching.Ask(
                lambda wait: ledger.open_run(self._new(ledger, wait=wait), wait=wait),
                undo_work=ledger.close_run,
            )
            self._activate(ledger, ledger.run(await task_batching.ask(step)))
            return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See ``__exit__``."""
        with self._all_or_nothing():
            frame = self._leave()
        from keybrake.guard import task_batching

        await task_batching.ask(task_batching.Ask(unguarded_connections.flush))
        if frame is not None:
            with self._only_warn("closed"):
                step = task_batching.Ask(lambda wait: frame.ledger.close_run(frame.pk, wait=wait))
                await task_batching.ask(step)
            if self._reconciles:
                with self._only_warn("reconciled"):
                    await task_batching.do_in_thread(self.reconcile)

    def _prepare(self) -> Ledger:
        if self._entered:
            msg = f"{self!r} was entered before; make a new run() for each block"
            raise PolicyError(msg)
        self._unentered.settle()
        if self._policy is None:
            caller.check(self.key)
        install()
        ledger = parse_ledger(self._wanted_ledger)
        self._entered = True
        return ledger

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Undo a half-done enter or exit on an error: Python will not call ``__exit__`` after it."""
        try:
            yield
        except BaseException:
            if self._frame is not None:
                self._deactivate(self._frame)
            raise

    def _deactivate(self, frame: RunFrame) -> None:
        """Make the run inactive, even if an interrupt hits in between."""
        try:
            self.left = True  # from here on the run counts as left; the rest is cleanup
        finally:
            caller.leave(frame)
            caller.open_runs.remove(frame)

    def _record(self, ledger: Ledger) -> RunRecord:
        if self._policy is None:
            record = caller.join(self.key, ledger)[1]
            self.id = record.uid
            self.label = self.label or record.label
            return record
        return ledger.run(ledger.open_run(self._new(ledger)))

    def _new(self, ledger: Ledger, *, wait: bool = True) -> NewRun:
        assert self._policy is not None
        return NewRun(
            uid=self.id,
            label=self.label,
            terms=policies.terms_of(self._policy),
            lives_for=policies.expiry_of(self._policy),
            key_hash=vault_key.digest(self.key),
            mode=self._mode,
            parent=caller.parent_scope(caller.active.get(), ledger, wait=wait),
        )

    def _activate(self, ledger: Ledger, record: RunRecord) -> None:
        outer = caller.active.get()
        self._frame = caller.frame_of(ledger, record, outer=outer, handle=self)
        self._pid = os.getpid()
        caller.open_runs.add(self._frame)
        caller.active.set(self._frame)

    def _leave(self) -> RunFrame | None:
        """Make the run inactive; return its frame if this process opened the run, so must close it."""
        frame = self._frame
        assert frame is not None
        self._deactivate(frame)
        ours = self._policy is not None and self._pid == os.getpid()
        return frame if ours else None

    @contextlib.contextmanager
    def _only_warn(self, what: str) -> Any:
        """Log an error in closing: raised, it would hide the block's exception. The run still expires."""
        try:
            yield
        except KeybrakeError as error:
            _log.warning("%r could not be %s: %s", self, what, error)

    def __call__(self, function: F) -> F:
        """Decorate *function*: each call opens a new run with this policy, or joins the run of the key."""
        self._unentered.settle()
        return wrapping.around(function, lambda: _DecoratedCall(self._copy()))

    def _copy(self) -> Run:
        if self._policy is None:
            return Run(self.label, None, key=self.key, ledger=self._wanted_ledger)
        return Run(
            self.label,
            self._policy,
            mode=self._mode,
            reconcile=self._reconciles,
            ledger=self._wanted_ledger,
        )

    # Reading and stopping

    @property
    def state(self) -> str:
        """``new``, ``open``, ``paused``, ``expired``, ``closed`` or ``revoked``."""
        return "new" if self._frame is None else self._now().state()

    @property
    def spent(self) -> Decimal:
        """Counted cost of its calls, in USD, including open, held and estimated positions."""
        return usd(0 if self._frame is None else self._now().spent)

    @property
    def reserved(self) -> Decimal:
        """Money set aside for calls in flight or of unknown outcome, in USD."""
        return usd(0 if self._frame is None else self._now().reserved)

    @property
    def remaining(self) -> Decimal | None:
        """Remainder of the cap, in USD; None: the run has no cap."""
        if self._frame is not None:
            left = self._now().remaining
        else:
            left = None if self._policy is None else policies.terms_of(self._policy).cap
        return None if left is None else usd(left)

    @property
    def calls(self) -> int:
        """Number of its calls that were admitted."""
        return 0 if self._frame is None else self._now().calls

    @property
    def refused(self) -> int:
        """Number of its calls that were refused."""
        return 0 if self._frame is None else self._now().refused

    def _now(self) -> RunRecord:
        assert self._frame is not None
        return self._frame.ledger.run(self._frame.pk)

    def revoke(self) -> None:
        """End the run for good, in every process; raise ``LedgerError`` if it was never entered."""
        self._ledger().revoke(self.id)

    def pause(self) -> None:
        """Refuse the calls of the run, in every process, until ``resume()``."""
        self._ledger().pause(self.id)

    def resume(self) -> None:
        """Allow the calls of a paused run again."""
        self._ledger().resume(self.id)

    def reconcile(self) -> list[Finding]:
        """
        Ask the vendors about this run's unknown outcomes and late prices; see ``keybrake reconcile``.

        It uses the credentials in ``[credentials]``, not those of the agent's SDK clients. Call it
        after the block, and again later: a vendor may take a day to name a price.

        Returns:
            One finding per call: ``seq``, ``endpoint``, ``result`` (settled, voided, estimated,
            unknown or reserved), ``cost_micros``, and the evidence in ``words``.

        Raises:
            LedgerError: The run was never entered.
        """
        from keybrake.guard.reconcile import Reconciler

        reconciler = Reconciler(self._ledger())
        return [reconciler.reconcile(one) for one in reconciler.work(self.id)]

    def is_joined_in(self, frame: RunFrame) -> None:
        """Attach this object to the run of *frame*, after it was pickled from another process."""
        self._unentered.settle()
        self.id, self.label = frame.uid, frame.label
        self._frame, self._entered = frame, True

    def was_entered_by(self, pid: int) -> bool:
        """Return whether process *pid* entered the block."""
        return self._pid == pid

    def _ledger(self) -> Ledger:
        if self._frame is None:
            msg = f"{self!r} has not been entered, so the ledger does not know it"
            raise LedgerError(msg)
        return self._frame.ledger

    def bind(self, function: F) -> F:
        """Return a wrapper that runs *function* in this run, whichever thread or task calls it."""
        self._ledger()
        frame = self._frame
        return wrapping.around(function, lambda: wrapping.Here(frame))


class _DecoratedCall:
    """Context of one call of a decorated function: opens a run before it and closes the run after."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> Frame | None:
        self._run.__enter__()
        return self._frame_for_wrapper()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Frame | None:
        await self._run.__aenter__()
        return self._frame_for_wrapper()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._run.__aexit__(kind, error, traceback)

    def _frame_for_wrapper(self) -> Frame | None:
        # Entering made the run active; undo that here. The wrapper activates the frame only while the
        # function's code runs: between two steps of a generator its consumer must not be in the run.
        run = self._run
        assert run._frame is not None  # noqa: SLF001 -- same file
        caller.active.set(run._frame.outer)  # noqa: SLF001 -- same file
        return run._frame  # noqa: SLF001 -- same file
