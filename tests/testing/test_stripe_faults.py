"""Everything that can go wrong on purpose, as the real SDK sees it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from keybrake.testing import FakeStripe, Fault, Journal

ASK = {"amount": 100, "currency": "usd"}


@pytest.mark.parametrize(
    ("kind", "error", "http_status"),
    [
        ("error_500_before", stripe.APIError, 500),
        ("reset_before", stripe.APIConnectionError, None),
        ("rate_limit", stripe.RateLimitError, 429),
        ("conflict", stripe.APIError, 409),
    ],
)
def test_a_fault_before_the_vendor_moves_nothing(fake, kind, error, http_status):
    """The client sees an error, and the journal that nothing happened."""
    fake.inject(Fault(kind))
    with pytest.raises(error):
        stripe.PaymentIntent.create(**ASK)
    entry = fake.journal.entries[-1]

    assert (entry.moved, entry.fault, entry.http_status) == (False, kind, http_status)
    assert stripe.PaymentIntent.list().data == []
    assert stripe.PaymentIntent.create(**ASK).amount == 100


@pytest.mark.parametrize(
    ("kind", "error", "http_status"),
    [
        ("error_500_after", stripe.APIError, 500),
        ("reset_after", stripe.APIConnectionError, None),
        ("truncate", stripe.APIConnectionError, 200),
        ("garbage", stripe.APIError, 200),
        ("timeout_after", stripe.APIConnectionError, None),
    ],
)
def test_a_fault_after_the_vendor_has_moved_the_money(fake, kind, error, http_status):
    """The client sees an error although it was charged."""
    fake.inject(Fault(kind, hang=0.1))
    with pytest.raises(error):
        stripe.PaymentIntent.create(**ASK)
    entry = fake.journal.entries[-1]

    assert (entry.moved, entry.fault, entry.http_status) == (True, kind, http_status)
    assert stripe.PaymentIntent.retrieve(entry.object_id).amount == 100


# The SDK hands httpx its body in a way httpx would rather not see any more.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_truncated_answer_promises_more_than_comes(fake):
    """The SDK's httpx client sees the connection end too early."""
    fake.inject(Fault("truncate"))
    client = stripe.HTTPXClient(allow_sync_methods=True)
    headers = {"Authorization": "Bearer sk_test_fake"}
    with pytest.raises(stripe.APIConnectionError):
        client.request("post", f"{fake.url}/v1/customers", headers, "name=Ada")
    client.close()

    assert fake.journal.entries[-1].http_status == 200


def test_a_timeout_ends_when_the_server_stops(fake):
    """Nobody has to wait for the whole hang once the fake is gone."""
    fake.inject(Fault("timeout_after", hang=60))
    with ThreadPoolExecutor() as pool:
        call = pool.submit(stripe.PaymentIntent.create, **ASK)
        while not fake.journal.entries:
            time.sleep(0.01)
        fake.stop()
        error = call.exception(timeout=5)

    assert isinstance(error, stripe.APIConnectionError)
    assert fake.journal.total() == 100


def test_a_slow_answer_still_arrives(fake):
    """Slow only costs time."""
    fake.inject(Fault("slow", delay=0.2))
    started = time.monotonic()
    stripe.PaymentIntent.create(**ASK)

    assert time.monotonic() - started >= 0.2


# The SDK hands httpx its body in a way httpx would rather not see any more.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_redirect_points_elsewhere(fake):
    """A 307 is answered and nothing happens here."""
    with FakeStripe() as elsewhere:
        fake.inject(Fault("redirect", location=f"{elsewhere.url}/v1/payment_intents"))
        client = stripe.HTTPXClient(allow_sync_methods=True)
        headers = {"Authorization": "Bearer sk_test_fake"}
        body, status, answered = client.request(
            "post", f"{fake.url}/v1/payment_intents", headers, "amount=1&currency=usd"
        )
        client.close()

    assert (status, body) == (307, b"")
    assert answered["Location"].startswith(elsewhere.url)
    assert fake.journal.moved() == elsewhere.journal.moved() == []


def test_a_fault_strikes_only_what_it_is_meant_for(fake):
    """Method, path and predicate choose the requests; a fault is used up by the first."""
    fake.inject(Fault("error_500_before", path="/v1/refunds"))
    fake.inject(Fault("error_500_before", method="GET", path="/v1/balance"))
    fake.inject(Fault("error_500_before", when=lambda request: b"amount=666" in request.body))

    stripe.PaymentIntent.create(**ASK)
    with pytest.raises(stripe.APIError):
        stripe.Refund.create(charge="ch_any")
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Refund.create(charge="ch_any")
    with pytest.raises(stripe.APIError):
        stripe.Balance.retrieve()
    with pytest.raises(stripe.APIError):
        stripe.PaymentIntent.create(amount=666, currency="usd")
    assert stripe.Balance.retrieve().object == "balance"


def test_a_fault_strikes_as_often_as_it_is_told(fake):
    """Times counts; None is for ever, until the faults are cleared."""
    fake.inject(Fault("rate_limit"), times=2)
    outcomes = [attempt() for _ in range(3)]
    fake.inject(Fault("rate_limit"), times=None)
    outcomes += [attempt() for _ in range(3)]
    fake.clear_faults()

    assert [*outcomes, attempt()] == ["429", "429", "ok", "429", "429", "429", "ok"]


def test_chance_is_repeatable(monkeypatch):
    """The same seed strikes the same requests, some of them and not others."""
    monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    runs = []
    for _ in range(2):
        with FakeStripe() as fake:
            monkeypatch.setattr(stripe, "api_base", fake.url)
            fake.inject(Fault("rate_limit", probability=0.5, seed=3), times=None)
            runs.append([attempt() for _ in range(12)])

    assert runs[0] == runs[1]
    assert set(runs[0]) == {"ok", "429"}


def test_chaos_breaks_a_share_of_all_posts(fake):
    """Under chaos some calls fail in every way, reads do not, and the journal stays right."""
    fake.chaos(rate=0.5, seed=7, hang=0.01)
    outcomes = [attempt() for _ in range(60)]
    fake.chaos(rate=0)
    intents = list(stripe.PaymentIntent.list(limit=100).auto_paging_iter())

    assert 10 < outcomes.count("ok") < 50
    assert len({entry.fault for entry in fake.journal.entries}) > 5
    assert {entry.object_id for entry in fake.journal.moved()} == {item.id for item in intents}


def test_faults_can_be_given_from_the_start(tmp_path, monkeypatch):
    """A fake can be born broken, and its journal file survives it."""
    monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    path = tmp_path / "journal.jsonl"
    with FakeStripe(journal_path=path, faults=[Fault("error_500_after")]) as fake:
        monkeypatch.setattr(stripe, "api_base", fake.url)
        outcomes = [attempt(), attempt()]

    assert outcomes == ["500", "ok"]
    assert Journal.read(path).entries == fake.journal.entries
    assert Journal.read(path).total("charge") == 200


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"kind": "gremlins"}, "unknown fault"), ({"kind": "redirect"}, "location")],
)
def test_an_impossible_fault_is_refused(facts, message):
    """A fault that could never be acted out is an error where it is made."""
    with pytest.raises(ValueError, match=message):
        Fault(**facts)


def attempt() -> str:
    """Create an intent and say how it went."""
    try:
        stripe.PaymentIntent.create(**ASK)
    except stripe.StripeError as error:
        return str(error.http_status)
    return "ok"
