"""How a worker makes one call of the plan: the real SDK, in one of several shapes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stripe

import keybrake
from tests.races.torture.plan import Call
from tests.races.torture.record import Record
from tests.races.torture.stage import own_client

_ATTEMPTS_OF_AN_AGENT = 2
# A forked child that is still there then hangs: it has two calls to make.
_CHILD_PATIENCE_S = 25


class Caller:
    """
    Makes calls, and writes down what came of them.

    Args:
        keys: The vault key of each run.
        record: Where to write.
        folder: Where forked children write.
    """

    def __init__(self, keys: dict[str, str], record: Record, folder: Path) -> None:
        self._keys = keys
        self._record = record
        self._folder = folder
        self._forks = itertools.count(1)

    def make(self, call: Call) -> None:
        """Make *call* in this thread, in its shape."""
        with keybrake.run(key=self._keys[call.run]):
            match call.shape:
                case "plain":
                    self._charge(call)
                case "tool":
                    keybrake.tool(name=f"tool of {call.run}")(self._charge)(call)
                case "child":
                    with keybrake.run(f"child {call.name}", cap=call.cents):
                        self._charge(call)
                case "leftover":
                    with keybrake.run(f"left {call.name}", cap=None):
                        charge = keybrake.bind(self._charge)
                    charge(call)
                case "revoked":
                    with keybrake.run(f"revoked {call.name}", cap=None) as run:
                        run.revoke()
                        self._charge(call)
                case "again":
                    for _ in range(_ATTEMPTS_OF_AN_AGENT):
                        if self._charge(call):
                            break
                case "fork":
                    self._charge(call)
                    self._fork(call)

    async def make_async(self, call: Call) -> None:
        """Make *call* in this task, in its shape."""
        async with keybrake.run(key=self._keys[call.run]):
            match call.shape:
                case "plain":
                    await self._charge_async(call)
                case "tool":
                    await keybrake.tool(name=f"tool of {call.run}")(self._charge_async)(call)
                case "child":
                    async with keybrake.run(f"child {call.name}", cap=call.cents):
                        await self._charge_async(call)
                case "cancelled":
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._charge_async(call), call.patience_s)
                case "again":
                    for _ in range(_ATTEMPTS_OF_AN_AGENT):
                        if await self._charge_async(call):
                            break

    def _charge(self, call: Call) -> bool:
        """Charge once; return whether the agent would leave it at that."""
        with self._seen(call) as seen:
            seen(stripe.PaymentIntent.create(**_params(call)))
        return bool(seen.answer)

    async def _charge_async(self, call: Call) -> bool:
        with self._seen(call) as seen:
            seen(await stripe.PaymentIntent.create_async(**_params(call)))
        return bool(seen.answer)

    @contextlib.contextmanager
    def _seen(self, call: Call) -> Iterator[_Seen]:
        """Write down that a call begins, and how it ends for whoever made it."""
        # Another process's record, if this one is forked in the middle of it.
        record, seen = self._record, _Seen()
        record.write("begun", call=call.name, cents=call.cents, run=call.run)
        try:
            yield seen
        except keybrake.CallRefused as refusal:
            seen.answer = "refused"
            record.write("refused", cents=call.cents, reason=refusal.reason, why=str(refusal))
        except stripe.StripeError as error:
            record.write("failed", cents=call.cents, error=type(error).__name__)
        except asyncio.CancelledError:
            record.write("cancelled", cents=call.cents)
            raise
        else:
            record.write("answered", cents=call.cents, object_id=seen.answer)

    def _fork(self, call: Call) -> None:
        """Fork while other threads are busy, in the middle of a run; wait for the child."""
        name = f"{self._record.name}-fork{next(self._forks)}"
        pid = os.fork()
        if pid == 0:
            self._be_forked(name, call)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # Minus nine: the driver struck it together with this process, but it died first.
        if status not in (0, -signal.SIGKILL):
            self._record.write("crashed", why=f"a forked child of {name} ended with {status}")

    def _be_forked(self, name: str, call: Call) -> None:
        status = 1
        try:
            self._record = Record(self._folder, name)
            self._record.tell_if_stuck(_CHILD_PATIENCE_S)
            signal.alarm(_CHILD_PATIENCE_S + 5)
            # Sockets are the parent's; a program that forks makes clients of its own.
            stripe.default_http_client = own_client()
            for more in call.more:
                self._charge(more)
            status = 0
        finally:
            os._exit(status)


class _Seen:
    """What the call answered, if it did."""

    def __init__(self) -> None:
        self.answer: str | None = None

    def __call__(self, answer: Any) -> None:
        self.answer = answer.id


def _params(call: Call) -> dict[str, Any]:
    card = "pm_card_chargeDeclined" if call.fault == "declined" else "pm_card_visa"
    said = {"call": call.name, "run": call.run, "fault": call.fault, "strikes": call.strikes}
    params: dict[str, Any] = {
        "amount": call.cents,
        "currency": "usd",
        "confirm": True,
        "payment_method": card,
        "metadata": {name: str(value) for name, value in said.items()},
    }
    if call.shape == "again":
        params["idempotency_key"] = f"own-{call.name}"
    return params
