"""An agent that takes its calls one step at a time: the third walker, beside thread and task."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context, copy_context
from typing import Any

from keybrake.errors import KeybrakeError
from keybrake.guard import call as guard_call
from keybrake.guard import caller
from keybrake.guard.caller import RunFrame, ToolFrame
from keybrake.guard.steps import SendStep
from keybrake.guard.task_batching import LedgerStep
from keybrake.ledger import Busy
from keybrake.policy.policy import Terms
from tests.model._flight import Flight, VirtualDoor
from tests.model._vendor import OPEN
from tests.model._world import Killed, Process, World

CREATE = "/v1/payment_intents"
# In a thousand: what happens at a step that asks the ledger.
TRAPS = {"killed before": 6, "killed after": 6, "disk full": 6}


class Agent:
    """
    One thread or task of a process, with a few calls to make.

    Attributes:
        root: The run that everything it does is counted in.
        left: Calls still to be begun.
    """

    def __init__(
        self, world: World, process: Process, run: int, tool: tuple[str, Terms] | None, left: int
    ) -> None:
        self.process = process
        self.left = left
        self._world = world
        ledger = process.ledger
        record = ledger.run(run)
        frame: Any = RunFrame(ledger, run, record.uid, record.label, ledger.chain(run), None)
        self.root = frame.scopes[-1]
        if tool is not None:
            frame = ToolFrame(*tool, outer=frame)
        self._context: Context = copy_context()
        self._context.run(caller.active.set, frame)
        self._way: Any = None
        self._door: VirtualDoor | None = None
        self._step: LedgerStep | SendStep | None = None
        self._flight: Flight | None = None
        self._again: tuple[Any, ...] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is anything left for it to do."""
        return self.process.is_alive and (self._way is not None or self.left > 0)

    def tick(self) -> None:
        """Take one step."""
        if self._way is None:
            self._begin()
        elif isinstance(self._step, LedgerStep):
            self._ask(self._step)
        else:
            assert self._flight is not None
            self._on_the_wire(self._flight)

    # The walker

    def _begin(self) -> None:
        self.left -= 1
        self._door = self._choose()
        self._way = guard_call.guarded(self._door)
        self._world.ways.append(self._way)
        self._go(next)

    def _ask(self, step: LedgerStep) -> None:
        dice = self._world.dice
        self._world.trap = dice.choices(
            [None, *TRAPS], [1000 - sum(TRAPS.values()), *TRAPS.values()]
        )[0]
        # As a task does: at once, or again later; a thread waits, and at last gives up.
        wait = self._world.is_locked and dice.random() < 0.2
        try:
            result = self._context.run(lambda: step.take(wait=wait))
        except Busy:
            if dice.random() < 0.05:
                self._throw(asyncio.CancelledError())
            return
        except Killed:
            self.die()
            return
        except Exception as error:  # noqa: BLE001 -- the way decides what it means
            self._throw(error)
            return
        finally:
            self._world.trap = None
        if dice.random() < 0.01:
            self._cancelled(step, result)
            return
        self._send(result)

    def _cancelled(self, step: LedgerStep, result: Any) -> None:
        """Be cancelled while the ledger did its work: what can be taken back is."""
        if step.can_undo:
            with contextlib.suppress(KeybrakeError):  # then it stays reserved
                self._context.run(step.undo, result)
        self._throw(asyncio.CancelledError())

    def _on_the_wire(self, flight: Flight) -> None:
        if self._world.dice.random() < 0.02:
            flight.give_up()
            self._throw(asyncio.CancelledError())
            return
        flight.advance()
        if not flight.is_over:
            return
        look_up = self._door is not None and flight is not self._door.flight
        if flight.error is None and look_up:
            flight.decode()
        if flight.error is not None:
            self._throw(flight.error)
        else:
            self._send(flight.result)

    def _send(self, result: Any) -> None:
        self._go(lambda way: way.send(result))

    def _throw(self, error: BaseException) -> None:
        self._go(lambda way: way.throw(error))

    def _go(self, on: Any) -> None:
        try:
            self._step = self._context.run(on, self._way)
        except StopIteration as end:
            self._over(end.value[1])
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- it is how that agent ended
            self._over(type(error).__name__)
        else:
            if isinstance(self._step, SendStep):
                self._flight = self._context.run(self._step.send)

    def _over(self, how: Any) -> None:
        assert self._door is not None
        request = self._door.request
        self._world.tell(self.process.name, request.method, request.url[22:], "->", how)
        self._way = self._step = self._flight = None

    def die(self) -> None:
        """Take the whole process down."""
        self._world.tell(self.process.name, "is killed")
        self.process.die()

    def drop(self) -> None:
        """Leave what was under way where it stands, because the process is dead."""
        if self._flight is not None and not self._flight.is_over:
            self._flight.give_up()
        self._way = self._flight = None
        self.left = 0

    # What it wants

    def _choose(self) -> VirtualDoor:
        dice, world = self._world.dice, self._world
        made = [i for i in world.vendor.intents.values() if self._is_ours(i)]
        what = dice.choices(["new", "act", "read", "refund"], [5, 5, 2, 1])[0] if made else "new"
        if what == "new":
            return self._create()
        intent = dice.choice(made)
        path = f"{CREATE}/{intent['id']}"
        if what == "read":
            return VirtualDoor(world, "GET", path, {}, None)
        cents = dice.randint(1, 6) * 100
        if what == "refund":
            params = {"payment_intent": intent["id"], "amount": cents}
            return VirtualDoor(world, "POST", "/v1/refunds", params, None)
        if intent["status"] == "requires_capture":
            verb = dice.choice(["capture", "capture", "cancel"])
            params = {"amount_to_capture": min(cents, intent["amount"])}
            return VirtualDoor(
                world, "POST", f"{path}/{verb}", params if verb == "capture" else {}, None
            )
        if intent["status"] in OPEN and dice.random() < 0.3:
            return VirtualDoor(world, "POST", path, {"amount": cents}, None)
        return VirtualDoor(
            world, "POST", f"{path}/{dice.choice(['confirm', 'confirm', 'cancel'])}", {}, None
        )

    def _is_ours(self, intent: Any) -> bool:
        call = self._world.eyes.call_of(intent["key"])
        return call is not None and self._world.eyes.root_of(call["run"]) == self.root

    def _create(self) -> VirtualDoor:
        """Make an intent; now and then under a key of the agent's own, once more at times."""
        dice = self._world.dice
        if self._again is not None and dice.random() < 0.5:
            return VirtualDoor(self._world, "POST", CREATE, *self._again)
        params: dict[str, Any] = {"amount": dice.randint(1, 6) * 100, "currency": "usd"}
        if dice.random() < 0.6:
            params["confirm"] = True
        if dice.random() < 0.25:
            params["capture_method"] = "manual"
        key = f"own-{self._world.token_hex(2)}" if dice.random() < 0.3 else None
        self._again = None if key is None else (params, key)
        return VirtualDoor(self._world, "POST", CREATE, params, key)
