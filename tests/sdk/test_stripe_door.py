"""Does every style of calling the Stripe SDK pass the one door, once?"""

import fcntl
import io
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import stripe

import keybrake

ASK = {"amount": 2999, "currency": "usd"}


def test_module_style(fake, ledger_url, rows):
    """A module-style call is one wire request, one row, and its amount is spent."""
    with keybrake.run("agent", cap=200) as run:
        intent = stripe.PaymentIntent.create(**ASK)

    (row,) = rows()
    assert (row["endpoint"], row["state"]) == ("stripe.payment_intents.create", "settled")
    assert (row["cost"], row["amount"], row["currency"]) == (29_990_000, 2999, "usd")
    assert (row["object_id"], row["http_status"]) == (intent.id, 200)
    assert (row["path"], row["method"]) == ("/v1/payment_intents", "POST")
    assert len(fake.journal.entries) == 1
    assert (str(run.spent), str(run.remaining)) == ("29.99", "170.01")


@pytest.mark.parametrize("style", ["client.v1", "client", "raw_request"])
# The SDK itself would rather see client.v1.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_client_styles(fake, ledger_url, rows, client_of, style):
    """Each style of StripeClient is one wire request and one row of the same endpoint."""
    client = client_of(fake)
    calls = {
        "client.v1": lambda: client.v1.payment_intents.create(params=dict(ASK)),
        "client": lambda: client.payment_intents.create(params=dict(ASK)),
        "raw_request": lambda: client.raw_request("post", "/v1/payment_intents", **ASK),
    }
    with keybrake.run("agent", cap=200) as run:
        calls[style]()

    assert [row["endpoint"] for row in rows()] == ["stripe.payment_intents.create"]
    assert len(fake.journal.entries) == 1
    assert str(run.spent) == "29.99"


def test_save_on_an_object(fake, ledger_url, rows):
    """What an object sends by itself passes the door too."""
    with keybrake.run("agent", cap=200) as run:
        intent = stripe.PaymentIntent.create(**ASK, payment_method="pm_card_visa")
        intent.confirm()
        intent.refresh()

    assert [row["endpoint"].rpartition(".")[2] for row in rows()] == [
        "create",
        "confirm",
        "retrieve",
    ]
    assert str(run.spent) == "29.99"
    assert len(fake.journal.entries) == 3


def test_v2_read(fake, ledger_url, rows, client_of):
    """A v2 read is free and has a row."""
    client = client_of(fake)
    with keybrake.run("agent", cap=0):
        client.v2.core.events.list({"object_id": "obj_1"})

    (row,) = rows()
    assert (row["endpoint"], row["state"], row["cost"]) == (
        "stripe.v2.core.events.list",
        "settled",
        0,
    )


def test_upload(fake, ledger_url, rows):
    """A file goes out whole and costs nothing; what was in it is not kept."""
    with keybrake.run("agent", cap=0):
        stripe.File.create(purpose="dispute_evidence", file=io.BytesIO(b"evidence"))

    (row,) = rows()
    assert (row["endpoint"], row["state"], row["cost"]) == ("stripe.files.create", "settled", 0)
    assert row["request"] is None


def test_stream(fake, ledger_url, rows, client_of):
    """A streamed answer arrives unread, and its read is free."""
    client = client_of(fake)
    with keybrake.run("agent", cap=0):
        streamed = client.v1.quotes.pdf("qt_1")
        assert streamed.io.read().startswith(b"%PDF")

    assert [(row["endpoint"], row["state"]) for row in rows()] == [("stripe.quotes.pdf", "settled")]


def test_a_row_per_page(fake, ledger_url, rows):
    """Autopaging is one free row per page."""
    for amount in range(100, 105):
        stripe.PaymentIntent.create(amount=amount, currency="usd")
    with keybrake.run("agent", cap=0):
        found = list(stripe.PaymentIntent.list(limit=2).auto_paging_iter())

    assert len(found) == 5
    assert [(row["endpoint"], row["cost"]) for row in rows()] == [
        ("stripe.payment_intents.list", 0)
    ] * 3


def test_own_http_client_is_used(fake, ledger_url, rows, client_of):
    """A user's own HTTP client makes the request, and the guard stands above it."""

    class Mine(stripe.RequestsClient):
        urls: list[str] = []  # noqa: RUF012 -- one test, one list

        def request(self, method, url, *args, **kwargs):
            self.urls.append(url)
            return super().request(method, url, *args, **kwargs)

    client = client_of(fake, http_client=Mine())
    with keybrake.run("agent", cap="29.99") as run:
        client.v1.payment_intents.create(ASK)
        with pytest.raises(keybrake.CapExceeded):
            client.v1.payment_intents.create(ASK)

    assert Mine.urls == [f"{fake.url}/v1/payment_intents"]
    assert str(run.spent) == "29.99"


def test_injected_key_is_the_calls_uid(fake, ledger_url, rows):
    """A call without an idempotency key gets its row's own id as one."""
    with keybrake.run("agent", cap=200):
        stripe.PaymentIntent.create(**ASK)
        stripe.PaymentIntent.create(**ASK)

    sent = [entry.idempotency_key for entry in fake.journal.entries]
    assert sent == [f"kb-{row['uid']}" for row in rows()]
    assert len(set(sent)) == 2


@pytest.mark.parametrize("own", ["order-7", "kb-something"])
def test_own_key_is_kept(fake, ledger_url, rows, own):
    """A caller's own idempotency key goes out as it is, and is written down."""
    with keybrake.run("agent", cap=200):
        stripe.PaymentIntent.create(**ASK, idempotency_key=own)

    assert [entry.idempotency_key for entry in fake.journal.entries] == [own]
    assert [row["idempotency_key"] for row in rows()] == [own]


@pytest.mark.parametrize("own", ["", None])
def test_an_empty_key_is_no_key(fake, ledger_url, rows, own):
    """An empty idempotency key is replaced by the call's own."""
    with keybrake.run("agent", cap=200):
        stripe.PaymentIntent.create(**ASK, idempotency_key=own)

    assert [entry.idempotency_key for entry in fake.journal.entries] == [f"kb-{rows()[0]['uid']}"]


@pytest.mark.parametrize(
    "how",
    [
        {"stripe_account": "acct_1"},
        {"stripe_context": "acct_1"},
        {"headers": {"Stripe-Account": "acct_1"}},
        {"headers": {"sTRIPE-cONTEXT": "acct_1"}},
    ],
)
def test_account_is_part_of_the_position(fake, ledger_url, rows, how):
    """The same id in another account is another economic event."""
    with keybrake.run("agent", cap=200):
        made = stripe.PaymentIntent.create(**ASK, **how)

    assert rows()[0]["position"] == f"stripe:acct_1:{made.id}"


def test_account_of_the_client(fake, ledger_url, rows, client_of):
    """The account a client was built for is part of the position, too."""
    client = client_of(fake, stripe_account="acct_2")
    with keybrake.run("agent", cap=200):
        made = client.v1.payment_intents.create(ASK)

    assert rows()[0]["position"] == f"stripe:acct_2:{made.id}"


def test_no_run_no_guard(fake, ledger_url):
    """In a process without a run calls are left alone, and no ledger is made."""
    keybrake.install()
    made = stripe.PaymentIntent.create(**ASK, headers={"Idempotency-Key": "mine"})

    assert made.amount == 2999
    assert fake.journal.entries[0].idempotency_key == "mine"


@pytest.mark.parametrize("in_a_run", [False, True])
def test_headers_as_pairs(fake, ledger_url, in_a_run):
    """Extra headers may come in every shape the SDK itself takes, in a run and outside."""
    keybrake.install()
    pairs = [("X-Mine", "1")]
    if in_a_run:
        with keybrake.run("agent", cap=200):
            made = stripe.PaymentIntent.create(**ASK, headers=pairs)
    else:
        made = stripe.PaymentIntent.create(**ASK, headers=pairs)

    assert made.amount == 2999


def test_own_parameters_stay_as_they_were(fake, ledger_url):
    """The caller's dictionaries are not changed."""
    params = {**ASK, "metadata": {"order": "7"}}
    options = {"idempotency_key": None, "headers": {"X-Mine": "1"}}
    with keybrake.run("agent", cap=200):
        stripe.PaymentIntent.create(**params, **options)

    assert params == {**ASK, "metadata": {"order": "7"}}
    assert options == {"idempotency_key": None, "headers": {"X-Mine": "1"}}


def test_what_was_decided_on_is_what_is_sent(fake, ledger_url, client_of):
    """Parameters that another thread changes while a call waits are not what goes out."""
    client = client_of(fake)
    params = {**ASK, "metadata": {"order": "7"}}
    lock = Path(ledger_url.removeprefix("sqlite:///") + ".lock")
    with keybrake.run("agent", cap=30) as run, ThreadPoolExecutor() as pool:
        with lock.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            call = pool.submit(client.v1.payment_intents.create, params)
            # It has been described, and waits for the ledger.
            assert not wait([call], timeout=0.3).done
            params["amount"] = 100_000
            params["metadata"]["order"] = "8"
        call.result(timeout=10)

    assert fake.journal.total() == 2999
    assert fake.journal.entries[0].params["metadata"] == {"order": "7"}
    assert str(run.spent) == "29.99"
