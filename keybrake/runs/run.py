"""``run()``: what a run is, and how it is entered, left and read."""

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

    Nothing is written before the block is entered. A run inside another is its child: both bind.

    Args:
        label: What the call log calls it: any non-empty text up to 200 characters.
        cap: The most the run may move or cost, in USD. It has to be said; ``cap=None`` is "no
            cap, in writing". A *policy* or *key* brings its own.
        daily_usd_cap: The most per UTC calendar day, in USD.
        max_calls: The most vendor calls.
        max_amount: The most one call may ask for, in USD.
        allow: Endpoint patterns (``stripe.refunds.create``, ``stripe.*.list``,
            ``GET stripe:/v1/charges/*``). None: every classified endpoint; ``[]``: none.
        limits: Endpoint pattern → :class:`keybrake.Limit`.
        expires_in: ``"30m"``, ``"2h"``, ``"7d"``, a ``timedelta``, or None for never.
            By default 24 hours.
        policy: A :class:`keybrake.Policy`, or the name of one in ``keybrake.toml``; what is given
            beside it takes the place of its fields.
        key: Join the run that this vault key stands for, and leave it open at the end.
        mode: ``"enforce"``, or ``"report"``: what the policy would have refused goes out, and
            its row says ``would_refuse``.
        reconcile: Call :meth:`Run.reconcile` when the block has ended and the run is closed;
            what goes wrong then is logged.
        ledger: URL, path or open ledger; see :func:`keybrake.open_ledger`.

    Raises:
        PolicyError: Something cannot be meant; the text names it. Nothing is written.
    """
    if mode not in ("enforce", "report"):
        msg = f'mode={shown(mode)} is unknown; write "enforce" or "report"'
        raise PolicyError(msg)
    said = given_arguments(
        cap=cap,
        daily_usd_cap=daily_usd_cap,
        max_calls=max_calls,
        max_amount=max_amount,
        allow=allow,
        limits=limits,
        expires_in=expires_in,
    )
    if key is not None:
        if said or policy is not None or mode != "enforce" or reconcile:
            other = "mode" if mode != "enforce" else "reconcile"
            named = next(iter(said), other if policy is None else "policy")
            msg = f"run(key=…) takes its policy from the key; open a child run inside to narrow {named}"
            raise PolicyError(msg)
        return Run(
            parse_label(label) if label is not None else "", None, key=parse_key(key), ledger=ledger
        )
    made = policy_from(policy, said)
    return Run(parse_label(label), made, mode=mode, reconcile=reconcile, ledger=ledger)


class Run:
    """
    One execution of an agent, with a label and a policy. Made by :func:`keybrake.run`.

    Readable before, inside and after its block; amounts are ``Decimal`` US dollars.

    Attributes:
        id: ``run_…``, unique.
        key: The vault key that stands for this run; hand it to another process.
        label: What the call log calls it.
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
        # So that the first call after it is noticed, if it is never entered.
        audit_hook.add()
        self._made = unentered_runs.made(self, repr(self), audit_hook.caller())

    def __repr__(self) -> str:
        return f"<Run {shown(self.label)} {self.id or 'not joined yet'}>"

    # Entering and leaving

    def __enter__(self) -> Self:
        """
        Open the run, or join it, and put it around the block.

        Raises:
            LedgerUnavailable: The ledger cannot be opened, locked in time or written.
            UnsupportedSDK: An imported SDK cannot be guarded.
        """
        with self._whole():
            ledger = self._prepare()
            self._stand(ledger, self._record(ledger))
            return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the run; one that was joined, or is a forked parent's, stays open."""
        with self._whole():
            frame = self._leave()
        unguarded_connections.flush()
        if frame is not None:
            with self._only_warn("closed"):
                frame.ledger.close_run(frame.pk)
            if self._reconciles:
                with self._only_warn("reconciled"):
                    self.reconcile()

    async def __aenter__(self) -> Self:
        """See ``__enter__``; waits for the ledger without holding up the event loop."""
        from keybrake.guard import task_batching

        with self._whole():
            ledger = self._prepare()
            if self._policy is None:
                self._stand(ledger, self._record(ledger))
                return self
            step = task_batching.Ask(
                lambda wait: ledger.open_run(self._new(ledger, wait=wait), wait=wait),
                undo_work=ledger.close_run,
            )
            self._stand(ledger, ledger.run(await task_batching.ask(step)))
            return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See ``__exit__``."""
        with self._whole():
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
        self._made.settle()
        if self._policy is None:
            caller.check(self.key)
        install()
        ledger = parse_ledger(self._wanted_ledger)
        self._entered = True
        return ledger

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Enter or leave whole or not at all: Python leaves no block twice, or one it never entered."""
        try:
            yield
        except BaseException:
            if self._frame is not None:
                self._step_out(self._frame)
            raise

    def _step_out(self, frame: RunFrame) -> None:
        """Take the run from around the code after it, whatever strikes meanwhile."""
        try:
            self.left = True  # from here on it is open no more; the rest is tidying up
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

    def _stand(self, ledger: Ledger, record: RunRecord) -> None:
        outer = caller.active.get()
        self._frame = caller.frame_of(ledger, record, outer=outer, handle=self)
        self._pid = os.getpid()
        caller.open_runs.add(self._frame)
        caller.active.set(self._frame)

    def _leave(self) -> RunFrame | None:
        """Take the run from around the block; return its frame if it is ours to close."""
        frame = self._frame
        assert frame is not None
        self._step_out(frame)
        ours = self._policy is not None and self._pid == os.getpid()
        return frame if ours else None

    @contextlib.contextmanager
    def _only_warn(self, what: str) -> Any:
        """An error while closing must not hide what the block did; the run still expires."""
        try:
            yield
        except KeybrakeError as error:
            _log.warning("%r could not be %s: %s", self, what, error)

    def __call__(self, function: F) -> F:
        """Decorate *function*: each of its calls is a run of its own under this policy, or joins the key's."""
        self._made.settle()
        return wrapping.around(function, lambda: _Stay(self._again()))

    def _again(self) -> Run:
        if self._policy is None:
            return Run(self.label, None, key=self.key, ledger=self._wanted_ledger)
        return Run(
            self.label,
            self._policy,
            mode=self._mode,
            reconcile=self._reconciles,
            ledger=self._wanted_ledger,
        )

    # Reading and steering

    @property
    def state(self) -> str:
        """``new``, ``open``, ``paused``, ``expired``, ``closed`` or ``revoked``."""
        return "new" if self._frame is None else self._now().state()

    @property
    def spent(self) -> Decimal:
        """What its calls cost, in USD; counts open, held and estimated positions."""
        return usd(0 if self._frame is None else self._now().spent)

    @property
    def reserved(self) -> Decimal:
        """What is set aside for calls in flight or of unknown outcome, in USD."""
        return usd(0 if self._frame is None else self._now().reserved)

    @property
    def remaining(self) -> Decimal | None:
        """What is left of the cap, in USD, or None if it has no cap."""
        if self._frame is not None:
            left = self._now().remaining
        else:
            left = None if self._policy is None else policies.terms_of(self._policy).cap
        return None if left is None else usd(left)

    @property
    def calls(self) -> int:
        """How many of its calls were admitted."""
        return 0 if self._frame is None else self._now().calls

    @property
    def refused(self) -> int:
        """How many of its calls were refused."""
        return 0 if self._frame is None else self._now().refused

    def _now(self) -> RunRecord:
        assert self._frame is not None
        return self._frame.ledger.run(self._frame.pk)

    def revoke(self) -> None:
        """End the run for good, in every process. Raises ``LedgerError`` if it was not entered."""
        self._ledger().revoke(self.id)

    def pause(self) -> None:
        """Stop the run for a while, in every process."""
        self._ledger().pause(self.id)

    def resume(self) -> None:
        """Let a paused run go on."""
        self._ledger().resume(self.id)

    def reconcile(self) -> list[Finding]:
        """
        Ask the vendors about this run's unknown outcomes and late prices; see ``keybrake reconcile``.

        Uses the credentials of ``[credentials]``, not those of the agent's clients. Call it after
        the block, and again later: a price may take a day.

        Returns:
            One finding for each: ``seq``, ``endpoint``, ``result`` (settled, voided, estimated,
            unknown or reserved), ``cost_micros``, and the evidence in ``words``.

        Raises:
            LedgerError: The run was not entered.
        """
        from keybrake.guard.reconcile import Reconciler

        asker = Reconciler(self._ledger())
        return [asker.reconcile(one) for one in asker.work(self.id)]

    def is_joined_in(self, frame: RunFrame) -> None:
        """Read and steer the run of *frame*, which another process handed on with its code."""
        self._made.settle()
        self.id, self.label = frame.uid, frame.label
        self._frame, self._entered = frame, True

    def was_entered_by(self, pid: int) -> bool:
        """Return whether it was that process which entered the block."""
        return self._pid == pid

    def _ledger(self) -> Ledger:
        if self._frame is None:
            msg = f"{self!r} has not been entered, so the ledger does not know it"
            raise LedgerError(msg)
        return self._frame.ledger

    def bind(self, function: F) -> F:
        """Return *function* so that it runs in this run, whichever thread or task calls it."""
        self._ledger()
        frame = self._frame
        return wrapping.around(function, lambda: wrapping.Here(frame))


class _Stay:
    """The stay of one decorated call: its run, opened and closed, around its own code only."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> Frame | None:
        self._run.__enter__()
        return self._step_out()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Frame | None:
        await self._run.__aenter__()
        return self._step_out()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._run.__aexit__(kind, error, traceback)

    def _step_out(self) -> Frame | None:
        # The wrapper puts the frame around each step of the function; between the steps of a
        # generator its consumer runs, and is not in this run.
        run = self._run
        assert run._frame is not None  # noqa: SLF001 -- same file
        caller.active.set(run._frame.outer)  # noqa: SLF001 -- same file
        return run._frame  # noqa: SLF001 -- same file
