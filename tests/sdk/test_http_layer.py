"""Is a request on an SDK's own HTTP client refused inside a run, and left alone elsewhere."""

import asyncio
import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
import resend
import stripe
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient

import keybrake
from keybrake import EndpointNotAllowed
from keybrake.testing import FakeStripe

FORM = {"Authorization": "Bearer sk_test_1", "Content-Type": "application/x-www-form-urlencoded"}


def charge(fake, name="request", **more):
    """Ask Stripe's default HTTP client for a charge."""
    http = stripe.new_default_http_client()
    body = "amount=100&currency=usd&source=tok_visa"
    return getattr(http, name)("post", f"{fake.url}/v1/charges", FORM, body, **more)


@pytest.mark.parametrize("name", ["request", "request_with_retries", "request_stream"])
def test_stripes_client_is_refused_in_a_run(fake, ledger_url, rows, name):
    """Nothing is sent, the refusal is Stripe's own error too, and its row says past_the_guard."""
    run = keybrake.run("agent", cap=10)
    with run, pytest.raises(EndpointNotAllowed, match="past the guard") as refusal:
        charge(fake, name)

    assert isinstance(refusal.value, stripe.PermissionError)
    assert refusal.value.reason == "past_the_guard"
    assert (run.refused, fake.journal.entries) == (1, ())
    assert [(row["state"], row["reason"], row["path"]) for row in rows()] == [
        ("refused", "past_the_guard", "/v1/charges")
    ]


def test_stripes_async_client_is_refused_in_a_run(fake, ledger_url):
    """The client of the async calls is refused as the plain one is."""

    async def go():
        http = stripe.HTTPXClient()
        try:
            await http.request_async("post", f"{fake.url}/v1/charges", FORM, "amount=100")
        finally:
            await http.close_async()

    with keybrake.run("agent", cap=10), pytest.raises(EndpointNotAllowed, match="past the guard"):
        asyncio.run(go())
    assert fake.journal.entries == ()


def test_twilios_client_is_refused_in_a_run(fake_twilio, ledger_url):
    """The refusal is Twilio's own error too."""
    http = TwilioHttpClient()
    with keybrake.run("agent", cap=10), pytest.raises(TwilioRestException) as refusal:
        http.request("POST", f"{fake_twilio.url}/2010-04-01/Accounts/AC1/Messages.json")

    assert isinstance(refusal.value, EndpointNotAllowed)
    assert fake_twilio.journal.entries == ()


def test_resends_request_is_refused_in_a_run(fake_resend, ledger_url):
    """Request.make_request and the HTTP client below it are refused."""
    asked = resend.Request(path="/emails", params={}, verb="post")
    with keybrake.run("agent", cap=10):
        with pytest.raises(EndpointNotAllowed) as refusal:
            asked.make_request(f"{fake_resend.url}/emails")
        with pytest.raises(EndpointNotAllowed):
            resend.default_http_client.request("post", f"{fake_resend.url}/emails", {}, {})

    assert isinstance(refusal.value, resend.exceptions.ResendError)
    assert fake_resend.journal.entries == ()


def test_elsewhere_in_the_process_of_a_run(fake, ledger_url):
    """Where a run is open and this call stands in none, it is refused as every call is."""
    with keybrake.run("agent", cap=10), keybrake.unguarded("a test"):
        assert charge(fake)[1] == 200
    run = keybrake.run("agent", cap=10)
    with run:
        keybrake.guard.caller.active.set(None)
        with pytest.raises(keybrake.NoActiveRun):
            charge(fake)


def test_without_a_run_it_is_left_alone(fake, ledger_url, rows):
    """After install(), with no run open, the SDK's HTTP client does as it does alone."""
    keybrake.install()

    assert charge(fake)[1] == 200
    assert charge(fake, "request_with_retries")[1] == 200


def test_report_mode_refuses_it_too(fake, ledger_url):
    """The guard cannot count such a request, so report mode does not let it go out."""
    with keybrake.run("agent", cap=10, mode="report"), pytest.raises(EndpointNotAllowed):
        charge(fake)


def test_unguarded_requests_are_written_down_once(fake, ledger_url, rows):
    """A direct request inside unguarded() has one row, through how many layers of the SDK it goes."""
    with keybrake.unguarded("a probe"):
        assert charge(fake)[1] == 200
        assert charge(fake, "request_with_retries")[1] == 200
        stripe.PaymentIntent.create(amount=100, currency="usd")
    assert [(row["endpoint"], row["state"], row["reason"]) for row in rows()] == [
        ("stripe.past_the_guard", "unguarded", "a probe"),
        ("stripe.past_the_guard", "unguarded", "a probe"),
        ("stripe.payment_intents.create", "unguarded", "a probe"),
    ]


def test_the_loop_goes_on_while_a_request_is_refused(fake, ledger_url, rows):
    """Where another process holds the ledger's lock, the refusal of one task does not stop the others."""
    ticks = []

    async def tick():
        while not ticks or ticks[-1] != "refused":
            ticks.append("tick")
            await asyncio.sleep(0.01)

    async def ask():
        http = stripe.HTTPXClient()
        with pytest.raises(EndpointNotAllowed):
            await http.request_with_retries_async("post", f"{fake.url}/v1/charges", FORM, "a=1")
        await http.close_async()
        ticks.append("refused")

    async def go():
        with open(ledger_url.removeprefix("sqlite:///") + ".lock", "r+") as lock:  # noqa: ASYNC230, PTH123
            fcntl.flock(lock, fcntl.LOCK_EX)
            asking = asyncio.gather(tick(), ask())
            await asyncio.sleep(0.4)
            waited = len(ticks)
            fcntl.flock(lock, fcntl.LOCK_UN)
            await asking
        return waited

    with keybrake.run("agent", cap=10):
        assert asyncio.run(go()) > 5
    assert [row["reason"] for row in rows()] == ["past_the_guard"]


def in_thread(send):
    """Send in a thread of its own."""
    told = []
    thread = threading.Thread(target=lambda: told.append(send()))
    thread.start()
    thread.join()
    return told[0]


def in_pool(send):
    """Send in a pool of threads."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(send).result()


def in_thread_pool(send):
    """Send in a pool of multiprocessing's."""
    with ThreadPool(1) as pool:
        return pool.apply(send)


def in_executor(send):
    """Send in the executor of an event loop."""

    async def go():
        return await asyncio.get_running_loop().run_in_executor(None, send)

    return asyncio.run(go())


@pytest.mark.parametrize("elsewhere", [in_thread, in_pool, in_thread_pool, in_executor])
def test_a_client_that_sends_in_another_thread(wire, ledger_url, rows, monkeypatch, elsewhere):
    """A client of the user's own may send in a thread: the call is admitted there, and not redirected."""

    class Elsewhere(stripe.RequestsClient):
        def request(self, *rest, **named):
            send = super().request
            return elsewhere(lambda: send(*rest, **named))

    monkeypatch.setattr(stripe, "default_http_client", Elsewhere())
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 100, "currency": "usd"}
    with keybrake.run("agent", cap=2), FakeStripe() as other:
        wire.answer(200, {**intent, "status": "requires_payment_method"})
        stripe.PaymentIntent.create(amount=100, currency="usd")
        wire.answer(307, {}, {"Location": f"{other.url}/v1/payment_intents"})
        with pytest.raises(keybrake.CallStopped):
            stripe.PaymentIntent.create(amount=100, currency="usd")
        assert other.journal.entries == ()
    stripe.default_http_client.close()
    assert [row["state"] for row in rows()] == ["settled", "unknown"]


def test_a_thread_that_a_call_has_left_behind(fake, ledger_url, monkeypatch):
    """A thread that a client started in a call may send for that call, and for none after it."""
    over, told = threading.Event(), []

    class Leaves(stripe.RequestsClient):
        def request(self, *rest, **named):
            def later():
                over.wait(10)
                try:
                    told.append(charge(fake))
                except EndpointNotAllowed as refusal:
                    told.append(refusal.reason)

            self.thread = threading.Thread(target=later)
            self.thread.start()
            return super().request(*rest, **named)

    monkeypatch.setattr(stripe, "default_http_client", Leaves())
    with keybrake.run("agent", cap=5):
        stripe.PaymentIntent.create(amount=100, currency="usd")
        over.set()
        stripe.default_http_client.thread.join()
    stripe.default_http_client.close()
    assert told == ["past_the_guard"]


def test_one_vendors_call_admits_no_request_of_another(fake, fake_resend, ledger_url, monkeypatch):
    """Inside a guarded call of Stripe's a direct request on Resend's HTTP client is refused."""
    asked = resend.Request(path="/emails", params={}, verb="post")

    class Tells(stripe.RequestsClient):
        def request(self, *rest, **named):
            with pytest.raises(EndpointNotAllowed, match="past the guard"):
                asked.make_request(f"{fake_resend.url}/emails")
            return super().request(*rest, **named)

    monkeypatch.setattr(stripe, "default_http_client", Tells())
    with keybrake.run("agent", cap=5) as run:
        stripe.PaymentIntent.create(amount=100, currency="usd")
    stripe.default_http_client.close()
    assert (run.calls, run.refused, fake_resend.journal.entries) == (1, 1, ())
