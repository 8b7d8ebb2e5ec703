"""Do the SDKs' async calls work under trio, inside a run and outside of every run."""

import fcntl

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
            with open(ledger_url.removeprefix("sqlite:///") + ".lock", "r+") as lock:  # noqa: ASYNC230, PTH123
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
            with open(ledger_url.removeprefix("sqlite:///") + ".lock", "r+") as lock:  # noqa: ASYNC230, PTH123
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
