"""Does the price of an invoice still hold when the call goes out, whatever is changed beside it?"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
import stripe

import keybrake
from keybrake.testing import FakeStripe, Fault

Work = Callable[[stripe.Invoice], Any]


@pytest.fixture
def invoice(fake) -> stripe.Invoice:
    """Return a draft over $10 that nothing collects by itself, made outside of every run."""
    with keybrake.unguarded("made elsewhere"):
        customer = stripe.Customer.create(name="Ada").id
        made = stripe.Invoice.create(customer=customer)
        stripe.InvoiceItem.create(invoice=made.id, amount=1000, currency="usd")
        return stripe.Invoice.retrieve(made.id)


def _item(made: stripe.Invoice) -> str:
    return str(made.lines.data[0].parent.invoice_item_details.invoice_item)


COLLECTS: dict[str, tuple[str, Work]] = {
    "pay": ("/v1/invoices/{}/pay", lambda made: stripe.Invoice.pay(made.id)),
    "finalize": ("/v1/invoices/{}/finalize", lambda made: stripe.Invoice.finalize_invoice(made.id)),
    "advance": ("/v1/invoices/{}", lambda made: stripe.Invoice.modify(made.id, auto_advance=True)),
}
RAISES: dict[str, tuple[str, Work]] = {
    "a new item": (
        "/v1/invoiceitems",
        lambda made: stripe.InvoiceItem.create(invoice=made.id, amount=50_000, currency="usd"),
    ),
    "an item": (
        "/v1/invoiceitems/",
        lambda made: stripe.InvoiceItem.modify(_item(made), amount=50_000),
    ),
    "lines": (
        "/v1/invoices/{}/add_lines",
        lambda made: stripe.Invoice.add_lines(made.id, lines=[{"amount": 50_000}]),
    ),
    "a balance": (
        "/v1/customers/",
        lambda made: stripe.Customer.create_balance_transaction(
            made.customer, amount=900, currency="usd"
        ),
    ),
}


def _told(work: Callable[[Any], Any], made: Any, said: list[str]) -> None:
    try:
        work(made)
    except keybrake.CallRefused as refusal:
        said.append(refusal.reason)


def _wait_for(fake: FakeStripe, path: str, before: int) -> None:
    """Wait until the vendor has done a write, whose answer is slow."""
    deadline = time.monotonic() + 30
    while not any(
        e.path.startswith(path) and e.method == "POST" for e in fake.journal.entries[before:]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("collects", "raises"), list(product(COLLECTS, RAISES)))
@pytest.mark.parametrize("collected_first", [True, False])
def test_an_invoice_does_not_grow_while_it_is_priced(
    fake, ledger_url, invoice, collects, raises, collected_first
):
    """While one of two calls on an invoice is under way, the other one is refused, with a reason."""
    calls = (COLLECTS[collects], RAISES[raises])
    (path, slow), (_, quick) = calls if collected_first else reversed(calls)
    before, path = len(fake.journal.entries), path.format(invoice.id)
    said: list[str] = []
    fake.inject(Fault("slow", method="POST", path=path, delay=1.5))
    with keybrake.run("agent", cap=2000) as run:  # so that the cap is no reason
        thread = threading.Thread(target=_told, args=(slow, invoice, said))
        thread.start()
        _wait_for(fake, path, before)
        _told(quick, invoice, said)
        thread.join()

    fake.advance()
    assert said == ["object_in_use" if collected_first else "price_may_change"]
    assert fake.charged() <= run.spent * 100


def test_gathered_calls_collect_no_more_than_the_cap(fake, ledger_url, rows, invoice):
    """The calls of several tasks on one invoice never collect more than the cap together."""

    async def both() -> list[Any]:
        with keybrake.run("agent", cap=20):
            return await asyncio.gather(
                stripe.Invoice.pay_async(invoice.id),
                stripe.InvoiceItem.create_async(invoice=invoice.id, amount=50_000, currency="usd"),
                return_exceptions=True,
            )

    asyncio.run(both())
    assert fake.charged() <= 2000
    assert not [row for row in rows() if row["reason"] == "overrun"]


def test_items_of_one_draft_are_added_at_once(fake, ledger_url, invoice):
    """Items that change no price that was read are in nobody's way, so all of them go out."""
    with keybrake.run("agent", cap=0), ThreadPoolExecutor(8) as pool:
        work = keybrake.bind(
            lambda: stripe.InvoiceItem.create(invoice=invoice.id, amount=100, currency="usd")
        )
        alone = keybrake.bind(
            lambda: stripe.InvoiceItem.create(customer=invoice.customer, amount=100, currency="usd")
        )
        done = [pool.submit(one) for one in (work, alone) * 8]
        assert all(one.result().id for one in done)

    assert stripe.Invoice.retrieve(invoice.id).amount_due == 1800


def test_open_invoices_of_one_customer_are_paid_at_once(fake, ledger_url):
    """An invoice that is open is final: what is paid beside it changes nothing about it."""
    with keybrake.unguarded("made elsewhere"):
        customer = stripe.Customer.create().id
        opened = []
        for _ in range(8):
            made = stripe.Invoice.create(customer=customer)
            stripe.InvoiceItem.create(invoice=made.id, amount=100, currency="usd")
            opened.append(stripe.Invoice.finalize_invoice(made.id).id)
    with keybrake.run("agent", cap=8) as run, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(keybrake.bind(stripe.Invoice.pay), opened))

    assert (str(run.spent), fake.charged()) == ("8.00", 800)


def _wait_for_look(fake: FakeStripe, path: str, before: int) -> None:
    """Wait until a call has asked for an object, while the answer is slow."""
    deadline = time.monotonic() + 30
    while not any(e.path.startswith(path) for e in fake.journal.entries[before:]):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _quote(customer: str, price: str) -> str:
    lines = [{"price": price}]
    return stripe.Quote.finalize_quote(
        stripe.Quote.create(customer=customer, line_items=lines).id
    ).id


def test_an_item_counts_beside_a_quote_that_begins_a_subscription(fake, ledger_url, rows):
    """A quote that is accepted while an item asks for subscriptions makes the item ask again."""
    with keybrake.unguarded("made elsewhere"):
        customer = stripe.Customer.create().id
        quote = _quote(customer, fake.add_price(100))
    before, said = len(fake.journal.entries), list[str]()
    fake.inject(Fault("slow", method="GET", path="/v1/subscriptions", delay=1.5))

    def item(_: Any) -> Any:
        return stripe.InvoiceItem.create(customer=customer, amount=50_000, currency="usd")

    with keybrake.run("agent", cap=10) as run:
        thread = threading.Thread(target=keybrake.bind(_told), args=(item, None, said))
        thread.start()
        _wait_for_look(fake, "/v1/subscriptions", before)
        _told(lambda _: stripe.Quote.accept(quote), None, said)
        thread.join()

    while fake.advance():
        pass
    assert said == ["cap_exceeded"]
    assert (str(run.spent), fake.charged()) == ("1.00", 100)


USES_CREDIT: dict[str, Callable[[str, str, str, str], Any]] = {
    "send": lambda _customer, _price, mailed, _quote: stripe.Invoice.send_invoice(mailed),
    "paid elsewhere": lambda _customer, _price, mailed, _quote: stripe.Invoice.pay(
        mailed, paid_out_of_band=True
    ),
    "subscription": lambda customer, price, _mailed, _quote: stripe.Subscription.create(
        customer=customer, items=[{"price": price}]
    ),
    "quote": lambda _customer, _price, _mailed, quote: stripe.Quote.accept(quote),
}


@pytest.mark.parametrize("how", USES_CREDIT)
@pytest.mark.parametrize("pays", ["pay", "finalize_invoice"])
def test_credit_is_not_used_up_beside_a_price_that_counts_on_it(
    fake, ledger_url, rows, invoice, pays, how
):
    """An invoice that credit paid when it was looked up is looked up again once the credit is gone."""
    customer = invoice.customer
    with keybrake.unguarded("made elsewhere"):
        price = fake.add_price(1000)
        quote = _quote(customer, price)
        stripe.Customer.create_balance_transaction(customer, amount=-1000, currency="usd")
    cap = 10 if how in ("subscription", "quote") else 0
    path, said = f"/v1/invoices/{invoice.id}", list[str]()
    with keybrake.run("agent", cap=cap):
        mailed = stripe.Invoice.create(customer=customer, collection_method="send_invoice").id
        stripe.InvoiceItem.create(invoice=mailed, amount=1000, currency="usd")
        before = len(fake.journal.entries)
        fake.inject(Fault("slow", method="GET", path=path, delay=1.5))
        pay = keybrake.bind(lambda made: getattr(stripe.Invoice, pays)(made.id))
        thread = threading.Thread(target=_told, args=(pay, invoice, said))
        thread.start()
        _wait_for_look(fake, path, before)
        _told(lambda _: USES_CREDIT[how](customer, price, mailed, quote), None, said)
        thread.join()

    assert said == ["cap_exceeded"]
    while fake.advance():
        pass
    assert fake.charged() <= cap * 100
    assert not [row["endpoint"] for row in rows() if row["reason"] == "overrun"]


# What a careless agent does to its invoices: as the seed says, by four threads at once.


def _acts(dice: random.Random, customer: str) -> list[Work]:
    cents = dice.choice((100, 400, 900, 50_000))
    fixed = {"amount": cents, "currency": "usd"}
    shipping = {"shipping_rate_data": {"display_name": "van", "fixed_amount": fixed}}
    return [
        lambda made: stripe.InvoiceItem.create(invoice=made.id, amount=cents, currency="usd"),
        lambda _: stripe.InvoiceItem.create(customer=customer, amount=cents, currency="usd"),
        lambda made: stripe.InvoiceItem.modify(_item(made), amount=cents),
        lambda made: stripe.InvoiceItem.modify(_item(made), quantity=cents // 100),
        lambda made: stripe.InvoiceItem.delete(_item(made)),
        lambda made: stripe.Invoice.update_lines(
            made.id, lines=[{"id": made.lines.data[0].id, "amount": cents}]
        ),
        lambda made: stripe.Invoice.add_lines(made.id, lines=[{"amount": cents}]),
        lambda made: stripe.Invoice.modify(made.id, auto_advance=True),
        lambda made: stripe.Invoice.modify(made.id, auto_advance=False),
        lambda made: stripe.Invoice.modify(made.id, shipping_cost=shipping),
        lambda made: stripe.Invoice.modify(made.id, discounts=""),
        lambda _: stripe.Customer.modify(customer, balance=dice.choice((-300, 0, cents))),
        lambda _: stripe.Customer.create_balance_transaction(
            customer, amount=dice.choice((-300, cents)), currency="usd"
        ),
        lambda _: stripe.Customer.delete_discount(customer),
        lambda made: stripe.Invoice.finalize_invoice(made.id),
        lambda made: stripe.Invoice.pay(made.id),
        lambda _: stripe.Invoice.create(
            customer=customer, auto_advance=True, pending_invoice_items_behavior="include"
        ),
        lambda made: stripe.Invoice.void_invoice(made.id),
    ]


def _careless(seed: int, customer: str, price: str) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        try:
            if dice.random() < 0.1:
                stripe.Subscription.create(customer=customer, items=[{"price": price}])
                continue
            invoices = stripe.Invoice.list(customer=customer).data
            made = stripe.Invoice.retrieve(dice.choice(invoices).id)
            dice.choice(_acts(dice, customer))(made)
        except (keybrake.CallRefused, stripe.StripeError, IndexError):
            continue


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_done_at_once_stays_within_the_cap(fake, ledger_url, rows, seed):
    """What Stripe has collected in the end, by calls or by itself, is within the cap of the run."""
    with keybrake.unguarded("made elsewhere"):
        coupon = stripe.Coupon.create(amount_off=300, currency="usd").id
        customer = stripe.Customer.create(coupon=coupon).id
        price = fake.add_price(200)
        for amount in (500, 1200):
            made = stripe.Invoice.create(customer=customer)
            stripe.InvoiceItem.create(invoice=made.id, amount=amount, currency="usd")
    with keybrake.run("agent", cap=30) as run, ThreadPoolExecutor(4) as pool:
        work = keybrake.bind(lambda nr: _careless(1000 * seed + nr, customer, price))
        assert list(pool.map(work, range(4))) == [None] * 4

    while fake.advance():
        pass
    assert fake.charged() <= 3000
    assert fake.charged() <= (run.spent + run.reserved) * 100
    assert not [row["endpoint"] for row in rows() if row["reason"] == "overrun"]
