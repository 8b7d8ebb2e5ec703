"""Do the SDKs' async calls work under trio, inside a run and outside, and where no known library runs them."""

import asyncio
import contextlib
import fcntl
import threading

import pytest
import resend
import stripe
import trio

import keybrake

ASK = {"amount": 100, "currency": "usd"}


@pytest.fixture
def under_trio(fake, monkeypatch):
    """Have Stripe's SDK use the HTTP client that works under trio."""
    client = stripe.HTTPXClient(allow_sync_methods=True)
    monkeypatch.setattr(stripe, "default_http_client", client)
    yield fake
    client.close()


def play(go):
    """Run an async function under trio, close the SDK's connections, and return its result."""

    async def whole():
        try:
            return await go()
        finally:
            with trio.CancelScope(shield=True):
                await stripe.default_http_client.close_async()

    return trio.run(whole)


async def charge():
    """Make a charge of $1, and return its amount."""
    return (await stripe.PaymentIntent.create_async(**ASK)).amount


def test_outside_of_a_run_nothing_changes(under_trio, ledger_url):
    """After install() a call in a process with no run goes out as it does without keybrake."""
    keybrake.install()

    assert play(charge) == 100


def test_a_run_holds_its_cap(under_trio, ledger_url):
    """Many tasks of a nursery together stop at the cap, and each refusal is the SDK's own error too."""
    told = []

    async def task():
        try:
            told.append(await charge())
        except stripe.PermissionError as refusal:
            told.append(type(refusal).__name__)

    async def go():
        async with keybrake.run("agent", cap=3) as run, trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(task)
        return run

    run = play(go)

    assert sorted(map(str, told)) == ["100"] * 3 + ["CapExceeded"] * 5
    assert (run.spent, run.reserved, run.state) == (3, 0, "closed")
    assert len(under_trio.journal.moved()) == 3


def test_a_look_up_under_trio(under_trio, ledger_url):
    """A refund without an amount asks the vendor first, in the same task."""

    async def go():
        with keybrake.run("agent", cap=5) as run:
            paid = await stripe.Charge.create_async(**ASK, source="tok_visa")
            with keybrake.run("refunds", cap=1) as refunds:
                await stripe.Refund.create_async(charge=paid.id)
        return run.spent, refunds.spent

    assert play(go) == (2, 1)


def test_a_cancelled_call_stays_counted(under_trio, ledger_url, rows):
    """A call that is cancelled on the wire is unknown: its reservation counts."""
    under_trio.latency = 5

    async def go():
        with keybrake.run("agent", cap=5) as run:
            with trio.move_on_after(0.3) as scope:
                await charge()
        return scope.cancelled_caught, run.reserved

    assert play(go) == (True, 1)
    assert [row["state"] for row in rows()] == ["unknown"]


def test_a_call_cancelled_while_the_ledger_is_busy_is_settled(under_trio, ledger_url, rows):
    """A call that is cancelled on the wire is written down as unknown, also if the lock has to be waited for."""
    under_trio.latency = 5

    async def take(lock):
        with trio.fail_after(10):
            while [row["state"] for row in rows()] != ["reserved"]:  # noqa: ASYNC110 -- the ledger sends no event
                await trio.sleep(0.02)
        fcntl.flock(lock, fcntl.LOCK_EX)

    async def go():
        with keybrake.run("agent", cap=5) as run:
            with open(lock_of(ledger_url), "r+") as lock:  # noqa: ASYNC230, PTH123
                async with trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    nursery.start_soon(charge)
                    await take(lock)
                    scope.cancel()
                fcntl.flock(lock, fcntl.LOCK_UN)
            with trio.fail_after(10):
                while [row["state"] for row in rows()] == ["reserved"]:  # noqa: ASYNC110 -- as above
                    await trio.sleep(0.02)
        return run.reserved

    assert play(go) == 1
    assert [row["state"] for row in rows()] == ["unknown"]


def test_a_loop_of_asyncio_in_a_task_of_trio(fake, ledger_url, monkeypatch):
    """A task of trio that runs an asyncio loop to its end makes calls in that loop as in any other."""

    async def inner():
        monkeypatch.setattr(stripe, "default_http_client", stripe.AIOHTTPClient())
        with keybrake.run("agent", cap=3) as run, held_for(0.3, ledger_url):
            told = await asyncio.gather(*(charge() for _ in range(4)), return_exceptions=True)
            paid = await stripe.PaymentIntent.list_async(limit=1)
            await stripe.default_http_client.close_async()
        return sorted(type(one).__name__ for one in told), len(paid.data), run.spent

    async def go():
        return asyncio.run(inner())

    assert trio.run(go) == (["CapExceeded", "int", "int", "int"], 1, 3)


class Driven(stripe.HTTPClient):
    """An HTTP client of a user's own whose async calls need no event loop."""

    name = "driven"

    def __init__(self):
        super().__init__()
        self._plain = stripe.RequestsClient()

    async def request_async(self, *rest):
        return self._plain.request(*rest)

    async def close_async(self):
        self._plain.close()


def drive(coroutine):
    """Run a coroutine that has no event loop to wait for."""
    with contextlib.closing(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
    pytest.fail("the coroutine waits for something")


def test_a_coroutine_that_no_known_library_runs(fake, ledger_url, monkeypatch):
    """Outside of a run nothing changes; inside one each call is counted, and waits for the ledger where it is."""
    client = Driven()
    monkeypatch.setattr(stripe, "default_http_client", client)
    keybrake.install()
    assert drive(charge()) == 100

    with keybrake.run("agent", cap=2) as run:
        with held_for(0.3, ledger_url):
            assert drive(charge()) == 100
        paid = drive(stripe.Charge.create_async(**ASK, source="tok_visa"))
        with pytest.raises(keybrake.CapExceeded):
            drive(charge())
    with keybrake.run("refunds", cap=1) as refunds:
        assert drive(stripe.Refund.create_async(charge=paid.id)).amount == 100
    drive(client.close_async())
    assert (run.spent, refunds.spent) == (2, 1)


@contextlib.contextmanager
def held_for(seconds, url):
    """Hold the lock of a ledger, as another process would, for the first *seconds* of a block."""
    with open(lock_of(url), "r+") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        timer = threading.Timer(seconds, fcntl.flock, (lock, fcntl.LOCK_UN))
        timer.start()
        yield
        timer.join()


def lock_of(url):
    """Return the lock file of a ledger."""
    return url.removeprefix("sqlite:///") + ".lock"


def test_other_tasks_go_on_while_one_waits_for_the_ledger(under_trio, ledger_url):
    """Where another process holds the lock, a task waits in a thread and the others go on."""
    steps = []

    async def tick():
        while "charged" not in steps:
            steps.append("tick")
            await trio.sleep(0.01)

    async def pay():
        await charge()
        steps.append("charged")

    async def go():
        with keybrake.run("agent", cap=5):  # noqa: SIM117 -- the lock file comes with the run
            with open(lock_of(ledger_url), "r+") as lock:  # noqa: ASYNC230, PTH123
                fcntl.flock(lock, fcntl.LOCK_EX)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tick)
                    nursery.start_soon(pay)
                    await trio.sleep(0.5)
                    waited = len(steps)
                    fcntl.flock(lock, fcntl.LOCK_UN)
        return waited

    assert play(go) > 5
    assert steps[-1] == "charged" or "charged" in steps


def test_one_cancelled_while_it_waits_is_not_sent(under_trio, ledger_url, rows):
    """A task that is cancelled while it waits for the lock leaves nothing reserved."""

    async def go():
        with keybrake.run("agent", cap=5) as run:
            with open(lock_of(ledger_url), "r+") as lock:  # noqa: ASYNC230, PTH123
                fcntl.flock(lock, fcntl.LOCK_EX)
                with trio.move_on_after(0.3) as scope:
                    await charge()
                fcntl.flock(lock, fcntl.LOCK_UN)
            with trio.fail_after(10):
                while run.reserved or not run.calls:  # noqa: ASYNC110 -- the ledger sends no event
                    await trio.sleep(0.02)
        return scope.cancelled_caught, run.spent

    assert play(go) == (True, 0)
    assert [row["state"] for row in rows()] == ["voided"]
    assert under_trio.journal.entries == ()


def test_resend_under_trio(fake_resend, ledger_url):
    """Resend's async client works under trio as well."""
    keybrake.configure(prices={"resend": {"per_recipient": "1"}})
    mail = {"from": "a@example.com", "to": "b@example.com", "subject": "s", "text": "t"}

    async def go():
        with keybrake.run("agent", cap=1) as run:
            await resend.Emails.send_async(mail)
            with pytest.raises(keybrake.CapExceeded):
                await resend.Emails.send_async(mail)
        return run.spent

    assert trio.run(go) == 1


def test_the_tools_and_blocks_of_keybrake(under_trio, ledger_url):
    """A tool, bind() and unguarded() do under trio as they do under asyncio."""

    @keybrake.tool(cap=1)
    async def pay():
        return await charge()

    async def go():
        with keybrake.run("agent", cap=5) as run:
            assert await pay() == 100
            with pytest.raises(keybrake.CapExceeded):
                await pay()
            bound = run.bind(charge)
            with keybrake.unguarded("a test"):
                assert await charge() == 100
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bound_is_refused, bound)

    async def bound_is_refused(bound):
        with pytest.raises(keybrake.RunClosed):
            await bound()

    play(go)
