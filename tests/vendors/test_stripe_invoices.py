"""Is an invoice counted once, from the moment it will be collected by itself?"""

import pytest
import stripe

import keybrake
from keybrake.testing import Fault


@pytest.fixture
def customer(fake):
    """Return the id of a customer."""
    return stripe.Customer.create(name="Ada").id


def test_an_invoice_is_one_event(fake, ledger_url, customer):
    """A draft counts nothing; finalizing it counts it, and paying it adds nothing."""
    with keybrake.run("agent", cap=15) as run:
        stripe.InvoiceItem.create(customer=customer, amount=1500, currency="usd")
        draft = stripe.Invoice.create(customer=customer, pending_invoice_items_behavior="include")
        assert str(run.spent) == "0.00"
        stripe.Invoice.finalize_invoice(draft.id)
        assert str(run.spent) == "15.00"
        stripe.Invoice.pay(draft.id)

    assert str(run.spent) == "15.00"
    assert fake.journal.total() == 1500


@pytest.mark.parametrize("end", ["void_invoice", "mark_uncollectible"])
def test_an_invoice_that_ends_unpaid_gives_back(fake, ledger_url, customer, end):
    """Nothing can be collected any more."""
    invoice = fake.add_invoice(900)
    stripe.Invoice.modify(invoice, metadata={"a": "b"})
    with keybrake.run("agent", cap=10) as run:
        stripe.InvoiceItem.create(customer=customer, amount=900, currency="usd")
        made = stripe.Invoice.create(
            customer=customer, pending_invoice_items_behavior="include", auto_advance=True
        )
        assert str(run.spent) == "9.00"
        stripe.Invoice.finalize_invoice(made.id)
        getattr(stripe.Invoice, end)(made.id)
        assert str(run.spent) == "0.00"
        getattr(stripe.Invoice, end)(invoice)

    assert str(run.spent) == "0.00"


def test_a_deleted_draft_gives_back(fake, ledger_url, customer):
    """A draft that is gone will not be collected."""
    with keybrake.run("agent", cap=10) as run:
        stripe.InvoiceItem.create(customer=customer, amount=900, currency="usd")
        made = stripe.Invoice.create(
            customer=customer, pending_invoice_items_behavior="include", auto_advance=True
        )
        assert str(run.spent) == "9.00"
        stripe.Invoice.delete(made.id)

    assert str(run.spent) == "0.00"


def test_lines_count_on_a_draft_that_advances(fake, ledger_url, customer):
    """What is put on an invoice that will be collected by itself counts when it is put there."""
    with keybrake.run("agent", cap=10) as run:
        made = stripe.Invoice.create(customer=customer, auto_advance=True)
        stripe.InvoiceItem.create(invoice=made.id, amount=600, currency="usd")
        assert str(run.spent) == "6.00"
        stripe.InvoiceItem.create(invoice=made.id, amount=-600, currency="usd")
        assert str(run.spent) == "6.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.InvoiceItem.create(invoice=made.id, amount=1001, currency="usd")
        with pytest.raises(keybrake.UnknownCost):
            stripe.InvoiceItem.create(invoice=made.id, amount=1, currency="eur")

    assert fake.journal.standing("charge") <= 600


def test_lines_by_price_are_looked_up(wire, ledger_url, rows):
    """A line that names a price counts what the price says, on a draft that advances only."""
    draft = {"object": "invoice", "status": "draft", "amount_due": 0, "currency": "usd"}
    with keybrake.run("agent", cap=100) as run:
        wire.answer(200, draft | {"id": "in_1", "auto_advance": True})
        wire.answer(
            200, {"id": "price_1", "object": "price", "unit_amount": 250, "currency": "usd"}
        )
        wire.answer(200, {"id": "in_1", "object": "invoice"})
        lines = [{"pricing": {"price": "price_1"}, "quantity": 2}]
        stripe.Invoice.add_lines("in_1", lines=lines)
        assert str(run.spent) == "5.00"
        wire.answer(200, draft | {"id": "in_2", "auto_advance": False})
        wire.answer(200, {"id": "in_2", "object": "invoice"})
        stripe.Invoice.add_lines("in_2", lines=lines)

    assert str(run.spent) == "5.00"
    assert [row["reserved"] for row in rows()] == [0, 0, 5_000_000, 0, 0]


def test_a_change_of_lines_is_seen_in_the_answer(wire, ledger_url):
    """What an update of lines makes of an invoice is reserved, and settled by the answer."""
    draft = {"id": "in_1", "object": "invoice", "status": "draft", "auto_advance": True}
    with keybrake.run("agent", cap=100) as run:
        for due, line in ((1000, 1000), (1400, 1400), (1400, 1400), (300, 300)):
            shown = {"data": [{"id": "il_1", "amount": line, "quantity": 1}], "has_more": False}
            wire.answer(200, draft | {"amount_due": due, "currency": "usd", "lines": shown})
        stripe.Invoice.update_lines("in_1", lines=[{"id": "il_1", "amount": 1400}])
        assert str(run.spent) == "14.00"
        stripe.Invoice.remove_lines("in_1", lines=[{"id": "il_1", "behavior": "delete"}])

    assert str(run.spent) == "3.00"


def test_paying_elsewhere_adds_nothing(fake, ledger_url, rows):
    """An invoice made elsewhere that is only marked as paid moves no money, and asks nothing first."""
    invoice = fake.add_invoice(900)
    with keybrake.run("agent", cap=0) as run:
        stripe.Invoice.pay(invoice, paid_out_of_band=True)

    assert (len(rows()), str(run.spent)) == (1, "0.00")


def test_a_flag_that_is_not_plainly_set_collects(fake, ledger_url):
    """Whatever else stands in the place of true, the invoice counts."""
    invoice = fake.add_invoice(900)
    with keybrake.run("agent", cap=0), pytest.raises(keybrake.CapExceeded):
        stripe.Invoice.pay(invoice, paid_out_of_band="1")


def test_what_was_paid_before_is_not_this_calls(wire, ledger_url, rows):
    """Of an invoice that is paid in part, what remains is reserved and counted."""
    part = {"id": "in_1", "object": "invoice", "amount_due": 1000, "currency": "usd"}
    wire.answer(200, part | {"status": "open", "amount_paid": 400, "amount_remaining": 600})
    wire.answer(200, part | {"status": "paid", "amount_paid": 1000, "amount_remaining": 0})
    with keybrake.run("agent", cap=6) as run:
        stripe.Invoice.pay("in_1")

    assert rows()[-1]["reserved"] == 6_000_000
    assert str(run.spent) == "6.00"


@pytest.mark.parametrize("kind", ["error_500_after", "timeout_after"])
def test_a_lost_payment_counts_until_it_is_read(fake, ledger_url, kind):
    """A payment whose answer is lost stays reserved."""
    invoice = fake.add_invoice(900)
    fake.inject(Fault(kind, method="POST", hang=0.1))
    with keybrake.run("agent", cap=10) as run, pytest.raises(stripe.StripeError):
        stripe.Invoice.pay(invoice)

    assert (str(run.spent), str(run.reserved)) == ("0.00", "9.00")


_OPEN = {"id": "in_1", "object": "invoice", "amount_due": 700, "currency": "usd"}


@pytest.mark.parametrize(
    ("draft", "given", "counted"),
    [
        (("charge_automatically", False), {}, 7),
        (("charge_automatically", True), {}, 7),
        (("send_invoice", True), {}, 7),
        (("send_invoice", False), {}, 0),
        (("send_invoice", False), {"auto_advance": True}, 7),
        (("send_invoice", True), {"auto_advance": False}, 0),
    ],
)
def test_finalize(wire, ledger_url, rows, draft, given, counted):
    """Finalizing counts, unless only the customer can have the invoice paid."""
    shown = _OPEN | {"collection_method": draft[0], "auto_advance": draft[1]}
    wire.answer(200, shown | {"status": "draft"})
    wire.answer(200, shown | given | {"status": "open"})
    with keybrake.run("agent", cap=100) as run:
        stripe.Invoice.finalize_invoice("in_1", **given)

    assert (rows()[-1]["reserved"], run.spent) == (counted * 1_000_000, counted)
    assert rows()[-1]["contingent"] == (None if counted else 7_000_000)


def test_sending_asks_the_customer(wire, ledger_url, rows):
    """An invoice that is sent counts nothing; what it asks for is on record."""
    for _ in range(2):  # it is looked up, then sent
        wire.answer(200, _OPEN | {"collection_method": "send_invoice", "status": "open"})
    with keybrake.run("agent", cap=0) as run:
        stripe.Invoice.send_invoice("in_1")

    assert (str(run.spent), rows()[-1]["contingent"]) == ("0.00", 7_000_000)


_LIST = {"object": "list", "has_more": False}


@pytest.mark.parametrize(
    ("params", "found", "reason"),
    [
        ({"customer": "cus_1"}, _LIST | {"has_more": True, "data": []}, "unknown_amount"),
        ({"customer": "cus_1"}, _LIST | {"data": [{"amount": "x", "currency": "usd"}]}, None),
        (
            {"customer": "cus_1"},
            _LIST | {"data": [{"amount": 1, "currency": "usd"}, {"amount": 1, "currency": "eur"}]},
            "unknown_amount",
        ),
        ({"customer": "../x"}, None, "path_not_canonical"),
        ({}, None, "unknown_amount"),
        ({"customer": "cus_1", "automatic_tax": {"enabled": True}}, None, "unknown_amount"),
        ({"customer": "cus_1", "default_tax_rates": ["txr_1"]}, None, "unknown_amount"),
        ({"customer": "cus_1", "from_invoice": {"action": "revision"}}, None, "unknown_amount"),
    ],
)
def test_a_draft_that_advances_and_cannot_be_added_up(wire, ledger_url, params, found, reason):
    """An invoice that would be collected by itself, at an amount nobody can say, is not made."""
    if found is not None:
        wire.answer(200, found)
    with keybrake.run("agent", cap=100), pytest.raises(keybrake.CallRefused) as caught:
        stripe.Invoice.create(auto_advance=True, **params)

    assert caught.value.reason == (reason or "unknown_amount")
    assert len(wire.seen) == (0 if found is None else 1)


def test_a_draft_that_advances_with_nothing_to_collect(wire, ledger_url, rows):
    """No items wait, or only those of another currency: nothing will be collected."""
    wire.answer(200, _LIST | {"data": [{"amount": 500, "currency": "eur"}]})
    wire.answer(200, {"id": "cus_1", "object": "customer", "balance": 0, "currency": None})
    draft = {"id": "in_1", "object": "invoice", "status": "draft", "auto_advance": True}
    wire.answer(200, draft | {"amount_due": 0, "currency": "usd"})
    with keybrake.run("agent", cap=0):
        stripe.Invoice.create(customer="cus_1", auto_advance=True, currency="usd")

    assert rows()[-1]["reserved"] == 0


def test_a_revision_counts_what_it_revises(wire, ledger_url, rows):
    """An invoice made from another one comes to as much."""
    wire.answer(200, _OPEN | {"id": "in_0", "total": 700, "status": "open"})
    wire.answer(200, _OPEN | {"status": "draft", "auto_advance": True})
    with keybrake.run("agent", cap=7) as run:
        former = {"action": "revision", "invoice": "in_0"}
        stripe.Invoice.create(customer="cus_1", auto_advance=True, from_invoice=former)

    assert str(run.spent) == "7.00"


def test_an_invoice_and_its_intent_are_one_event(wire, ledger_url):
    """An intent that names its invoice is that invoice's payment; it adds nothing, and takes nothing."""
    wire.answer(200, _OPEN | {"status": "draft"})
    wire.answer(200, _OPEN | {"status": "open"})
    intent = {"id": "pi_1", "object": "payment_intent", "currency": "usd", "invoice": "in_1"}
    wire.answer(200, intent | {"status": "requires_confirmation", "amount": 300})
    wire.answer(200, intent | {"status": "succeeded", "amount": 300, "amount_received": 300})
    with keybrake.run("agent", cap=7) as run:
        stripe.Invoice.finalize_invoice("in_1")
        stripe.PaymentIntent.confirm("pi_1")

    assert str(run.spent) == "7.00"


def test_an_accepted_quote_and_its_invoice_are_one_event(wire, ledger_url):
    """The invoice that a quote becomes is paid once."""
    quote = {"id": "qt_1", "object": "quote", "amount_total": 700, "currency": "usd"}
    wire.answer(200, quote | {"status": "open", "computed": {"upfront": {"amount_total": 500}}})
    wire.answer(200, quote | {"status": "accepted", "invoice": "in_1"})
    wire.answer(200, _OPEN | {"status": "open", "amount_remaining": 700, "amount_paid": 0})
    wire.answer(200, _OPEN | {"status": "paid", "amount_remaining": 0, "amount_paid": 700})
    with keybrake.run("agent", cap=7) as run:
        stripe.Quote.accept("qt_1")
        stripe.Invoice.pay("in_1")

    assert str(run.spent) == "7.00"


@pytest.mark.parametrize(
    ("more", "counted"),
    [
        ({}, "0.49"),
        ({"starting_balance": 0}, "0.49"),
        ({"starting_balance": -20}, "0.29"),
        ({"starting_balance": -49}, "0.00"),
        ({"pre_payment_credit_notes_amount": 49}, "0.00"),
    ],
)
def test_an_invoice_too_small_to_be_charged_is_owed(wire, ledger_url, more, counted):
    """Stripe adds it to the customer's balance, and the next invoice collects it."""
    small = {"id": "in_1", "object": "invoice", "amount_due": 0, "total": 49, "currency": "usd"}
    small |= {"amount_paid": 0, "collection_method": "charge_automatically", **more}
    wire.answer(200, small | {"status": "draft", "auto_advance": False})
    wire.answer(200, small | {"status": "paid"})
    with keybrake.run("agent", cap=1) as run:
        stripe.Invoice.finalize_invoice("in_1")

    assert str(run.spent) == counted
