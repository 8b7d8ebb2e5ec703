"""Is a call that is cancelled or closed at any step of its way settled, void or unknown, and never lost?"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import stripe

import keybrake
from tests.faults import _oracle
from tests.faults._acts import Scene
from tests.faults._stage import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

# More than a call has places where it waits.
_MOST_STEPS = 80


def pay(client: stripe.HTTPXClient) -> Coroutine[Any, Any, Any]:
    """Charge through the real SDK, over an HTTP client of its own: one that is struck may not recover."""
    bases: Any = {"api": stripe.api_base}
    vendor = stripe.StripeClient("sk_test_x", http_client=client, base_addresses=bases)
    asked: Any = {"amount": 100, "currency": "usd", "payment_method": "pm_card_visa"}
    return vendor.v1.payment_intents.create_async(params={**asked, "confirm": True})


class Watched(Coroutine[Any, Any, Any]):
    """A call's coroutine that strikes when it waits for the *step*-th time."""

    def __init__(self, client: stripe.HTTPXClient, step: int) -> None:
        self._call, self._step = pay(client), step
        self.blow: Callable[[], object] = self.close
        self.was_struck = False

    def send(self, value: Any) -> Any:
        """Go on to the next wait."""
        waiting = self._call.send(value)
        self._step -= 1
        if self._step < 0 and not self.was_struck:
            self.was_struck = True
            self.blow()
            if self.blow == self.close:
                raise StopIteration
        return waiting

    def throw(self, *error: Any) -> Any:
        """Raise where it waits."""
        return self._call.throw(*error)

    def close(self) -> None:
        """Throw it away where it waits."""
        # Some of the HTTP client's own code waits on its way out, which Python does not allow.
        with contextlib.suppress(stripe.APIConnectionError, RuntimeError):
            self._call.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


async def cancel(call: Watched) -> None:
    """The task that makes the call is cancelled."""
    task = asyncio.ensure_future(call)
    call.blow = task.cancel
    await task


async def give_up(call: Watched) -> None:
    """Whoever waits for the call has waited long enough."""
    too_long = asyncio.timeout(None)
    async with too_long:
        call.blow = lambda: too_long.reschedule(0)
        await call


async def fail_beside(call: Watched) -> None:
    """Another task of the same group fails."""
    failed = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        group.create_task(_failing(call, failed))
        call.blow = failed.set
        await call
        failed.set()


async def _failing(call: Watched, failed: asyncio.Event) -> None:
    await failed.wait()
    if call.was_struck:
        raise ConnectionError


async def throw_away(call: Watched) -> None:
    """The coroutine is closed in the middle, as by the garbage collector."""
    await call


async def close_generator(call: Watched) -> None:
    """An async generator that makes the call is left in the middle, and then closed."""

    async def payments() -> AsyncIterator[Any]:
        yield await call

    generator: Any = payments()
    task = asyncio.ensure_future(anext(generator))
    call.blow = task.cancel
    try:
        await task
    finally:
        await generator.aclose()


# What the HTTP client leaves half closed then, Python complains of later.
_COMPLAINTS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
WAYS = [
    cancel,
    give_up,
    fail_beside,
    pytest.param(throw_away, marks=_COMPLAINTS),
    close_generator,
]


async def at_every_step(way: Callable[[Watched], Awaitable[None]], *, together: bool) -> int:
    """Make a call for each step of its way and strike there; return how many were struck."""
    beside = stripe.HTTPXClient()
    for step in range(_MOST_STEPS):
        client = stripe.HTTPXClient()
        others = [asyncio.ensure_future(pay(beside))] if together else []
        call = Watched(client, step)
        with contextlib.suppress(asyncio.CancelledError, TimeoutError, ExceptionGroup):
            await way(call)
        await asyncio.gather(*others)
        await client.close_async()
        if not call.was_struck:
            break
    await beside.close_async()
    return step


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_call_struck_at_any_step_is_accounted_for(fake, ledger_url, way, together):
    """Whatever moved has a row that counts; no call stays reserved in a process that lives."""
    scene = Scene(ledger_url, fake.url, None)
    with keybrake.run("struck", cap=None) as run:
        steps = asyncio.run(at_every_step(way, together=together))
        wait_for(lambda: not run.reserved or "reserved" not in states(scene), 20)

    assert 3 < steps < _MOST_STEPS
    found = states(scene)
    # One for each step that was struck, and one that was not; those beside them were left alone.
    assert found["settled"] >= 1 + together * (steps + 1)
    assert found["unknown"] >= 1
    assert set(found) <= {"settled", "unknown", "voided"}
    assert _oracle.violations(scene, fake.journal.entries) == []


def states(scene: Scene) -> Counter[str]:
    """Count the calls by their states."""
    with _oracle.opened(scene) as ledger:
        return Counter(state for _, _, state, _, _ in _oracle.rows_of(ledger))


@pytest.mark.parametrize("patience_ms", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_call_that_is_not_waited_for_is_accounted_for(fake, ledger_url, patience_ms):
    """wait_for() gives a call up after so many milliseconds, wherever it is by then."""
    fake.latency = 0.005
    scene = Scene(ledger_url, fake.url, None)

    async def main() -> None:
        client = stripe.HTTPXClient()
        for _ in range(5):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pay(client), patience_ms / 1000)
        await pay(client)
        await client.close_async()

    with keybrake.run("impatient", cap=None) as run:
        asyncio.run(main())
        wait_for(lambda: not run.reserved or "reserved" not in states(scene), 20)

    assert set(states(scene)) <= {"settled", "unknown", "voided"}
    assert states(scene)["settled"] >= 1
    assert _oracle.violations(scene, fake.journal.entries) == []
