"""Invoices, subscriptions and the rest that is billed, driven by the real SDK."""

import pytest
import stripe

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def customer():
    """Return the id of a customer."""
    return stripe.Customer.create(name="Ada").id


def draft(customer, amount=1500, **options):
    """Return a draft over one item."""
    stripe.InvoiceItem.create(customer=customer, amount=amount, currency="usd")
    return stripe.Invoice.create(
        customer=customer, pending_invoice_items_behavior="include", **options
    )


def test_an_invoice_from_item_to_payment(fake, customer):
    """Items that wait come onto the draft; paying it is one charge, as large as it."""
    stripe.InvoiceItem.create(customer=stripe.Customer.create().id, amount=5, currency="usd")
    invoice = draft(customer)
    opened = stripe.Invoice.finalize_invoice(invoice.id)
    paid = stripe.Invoice.pay(invoice.id)

    assert (invoice.status, invoice.amount_due, opened.status) == ("draft", 1500, "open")
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 1500, 0)
    assert stripe.Charge.retrieve(paid.charge).invoice == invoice.id
    assert fake.journal.total("charge") == 1500
    assert stripe.InvoiceItem.list(customer=customer, pending=True).data == []


def test_what_an_invoice_refuses(fake, customer):
    """A paid invoice cannot be paid, voided, given up or deleted; a declined card leaves it open."""
    invoice = draft(customer)
    with pytest.raises(stripe.CardError):
        stripe.Invoice.pay(invoice.id, payment_method="pm_card_chargeDeclined")
    assert stripe.Invoice.retrieve(invoice.id).status == "open"
    stripe.Invoice.pay(invoice.id)

    for call in (
        lambda: stripe.Invoice.pay(invoice.id),
        lambda: stripe.Invoice.void_invoice(invoice.id),
        lambda: stripe.Invoice.mark_uncollectible(invoice.id),
        lambda: stripe.Invoice.delete(invoice.id),
        lambda: stripe.InvoiceItem.create(invoice=invoice.id, amount=1, currency="usd"),
        stripe.Invoice.create,
        lambda: stripe.InvoiceItem.create(amount=1, currency="usd"),
        lambda: stripe.InvoiceItem.create(customer=customer, currency="usd"),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            call()
    assert fake.journal.total() == 1500


def test_a_draft_that_advances_commits_what_comes_onto_it(fake, customer):
    """It will be collected without a further call, so each item on it counts."""
    invoice = stripe.Invoice.create(customer=customer, auto_advance=True)
    stripe.InvoiceItem.create(invoice=invoice.id, amount=700, currency="usd")
    assert fake.journal.standing("charge") == 700
    assert stripe.Invoice.finalize_invoice(invoice.id).status == "open"
    other = draft(customer, 300)
    stripe.Invoice.modify(other.id, auto_advance=True)

    assert fake.journal.standing("charge") == 1000


def test_invoices_end_without_a_payment(fake, customer):
    """Voided, given up, deleted, paid elsewhere or only sent: nothing is collected."""
    for end in (stripe.Invoice.void_invoice, stripe.Invoice.mark_uncollectible):
        opened = fake.add_invoice(900)
        end(opened)
    assert stripe.Invoice.delete(draft(customer).id).deleted
    by_mail = draft(customer, collection_method="send_invoice", days_until_due=3)
    assert stripe.Invoice.finalize_invoice(by_mail.id).status == "open"
    opened = fake.add_invoice(900)
    assert stripe.Invoice.send_invoice(opened).status == "open"
    stripe.Invoice.void_invoice(opened)
    sent = draft(customer, collection_method="send_invoice", days_until_due=3)
    assert stripe.Invoice.send_invoice(sent.id).status == "open"
    elsewhere = stripe.Invoice.pay(sent.id, paid_out_of_band=True)

    assert (elsewhere.status, elsewhere.charge) == ("paid", None)
    assert fake.journal.standing("charge") == 0


def test_a_subscription_charges_its_first_period(fake, customer):
    """Prices times quantities, at once; a trial charges nothing, a sent invoice neither."""
    price = fake.add_price(2000)
    data = {"currency": "usd", "unit_amount": 50, "product": "prod_x"}
    items = [{"price": price, "quantity": 3}, {"price_data": data}]
    made = stripe.Subscription.create(customer=customer, items=items, expand=["latest_invoice"])
    trial = stripe.Subscription.create(customer=customer, items=items, trial_period_days=7)
    sent = stripe.Subscription.create(
        customer=customer, items=items, collection_method="send_invoice", days_until_due=5
    )

    assert (made.status, made.latest_invoice.amount_paid) == ("active", 6050)
    assert (trial.status, trial.latest_invoice, sent.status) == ("trialing", None, "active")
    assert fake.journal.total("charge") == 6050
    with pytest.raises(stripe.CardError):
        stripe.Subscription.create(
            customer=customer, items=items, default_payment_method="pm_card_chargeDeclined"
        )


def test_a_change_of_a_subscription_can_be_previewed(fake, customer):
    """The preview changes nothing and says what the change would be invoiced."""
    price, other = fake.add_price(2000), fake.add_price(100)
    made = stripe.Subscription.create(customer=customer, items=[{"price": price}])
    item = made.to_dict()["items"]["data"][0]["id"]
    asked = [{"id": item, "quantity": 4}, {"price": other}]
    details = {"items": asked, "proration_behavior": "always_invoice"}
    shown = stripe.Invoice.create_preview(subscription=made.id, subscription_details=details)
    whole = stripe.Invoice.create_preview(
        customer=customer, subscription_details={"items": asked[1:]}
    )
    assert fake.journal.total("charge") == 2000
    stripe.Subscription.modify(made.id, items=asked, proration_behavior="always_invoice")

    assert (shown.amount_due, whole.amount_due) == (6100, 100)
    assert fake.journal.total("charge") == 8100
    assert stripe.SubscriptionItem.retrieve(item).quantity == 4
    stripe.Subscription.cancel(made.id)
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Subscription.cancel(made.id)


def test_what_a_subscription_needs(fake, customer):
    """A customer, items, and prices in one currency."""
    euro, dollar = fake.add_price(1, "eur"), fake.add_price(1)
    for asked in (
        {"items": [{"price": euro}]},
        {"customer": customer, "items": []},
        {"customer": customer, "items": [{"quantity": 2}]},
        {"customer": customer, "items": ["x"]},
        {"customer": customer, "items": [{"price": euro}, {"price": dollar}]},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Subscription.create(**asked)


def test_what_changes_and_does_not_charge(fake, customer):
    """A description of a subscription, an item for another customer, nothing due: no charge."""
    made = stripe.Subscription.create(customer=customer, items=[{"price": fake.add_price(0)}])
    assert stripe.Subscription.modify(made.id, metadata={"a": "b"}).metadata["a"] == "b"
    other = stripe.Customer.create(name="Bob").id
    stripe.InvoiceItem.create(customer=other, amount=5, currency="usd")
    empty = stripe.Invoice.create(customer=customer, pending_invoice_items_behavior="include")

    assert stripe.Invoice.finalize_invoice(empty.id).status == "paid"
    assert fake.journal.total() == 0
    charge = stripe.Charge.create(amount=100, currency="usd", source="tok_visa")
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Refund.create(charge=charge.id, currency="eur")
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Price.create(currency="usd", product="prod_x")
    assert len(stripe.InvoiceItem.list(customer=other).data) == 1
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Invoice.pay(empty.id)


def test_a_checkout_session_waits_for_the_customer(fake):
    """Its total is known, nothing is charged, and an open one can be expired once."""
    price = stripe.Price.create(unit_amount=700, currency="usd", product="prod_x")
    made = stripe.checkout.Session.create(
        mode="payment", line_items=[{"price": price.id, "quantity": 2}]
    )
    setup = stripe.checkout.Session.create(mode="setup")
    expired = stripe.checkout.Session.expire(made.id)

    assert (price.type, made.amount_total, made.status) == ("one_time", 1400, "open")
    assert (setup.amount_total, expired.status) == (None, "expired")
    assert fake.journal.total() == 0
    with pytest.raises(stripe.InvalidRequestError):
        stripe.checkout.Session.expire(made.id)


def test_topups_and_reversals_bring_money_back(fake):
    """Each is an event of its own, and none takes more than is left."""
    topup = stripe.Topup.create(amount=800, currency="usd", description="till")
    assert stripe.Topup.cancel(topup.id).status == "canceled"
    sent = stripe.Transfer.create(amount=500, currency="usd", destination="acct_x")
    part = stripe.Transfer.create_reversal(sent.id, amount=200)
    rest = stripe.Transfer.create_reversal(sent.id)
    payout = stripe.Payout.create(amount=300, currency="usd")
    back = stripe.Payout.reverse(payout.id)

    assert (part.amount, rest.amount, back.original_payout) == (200, 300, payout.id)
    assert fake.journal.total("transfer_reversal") == 500
    assert (fake.journal.total("payout_reversal"), back.amount) == (300, -300)
    assert fake.journal.standing("topup") == 0
    for call in (
        lambda: stripe.Topup.cancel(topup.id),
        lambda: stripe.Transfer.create_reversal(sent.id),
        lambda: stripe.Payout.reverse(payout.id),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            call()


def test_a_dispute_is_lost_once(fake):
    """Closing a dispute gives its amount up for good."""
    dispute = fake.add_dispute(4000, "eur")
    closed = stripe.Dispute.close(dispute)

    assert (closed.status, closed.amount, closed.currency) == ("lost", 4000, "eur")
    assert fake.journal.total("dispute", currency="eur") == 4000
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Dispute.close(dispute)


def _draft_with(customer, **options):
    """Return a draft that advances, over one item of $10."""
    made = stripe.Invoice.create(customer=customer, auto_advance=True, **options)
    stripe.InvoiceItem.create(invoice=made.id, amount=1000, currency="usd")
    return stripe.Invoice.retrieve(made.id)


def test_the_lines_of_a_draft_change(fake, customer):
    """Lines are added, changed and removed; each time the draft comes to what they come to."""
    draft = _draft_with(customer)
    line = draft.lines.data[0]
    stripe.Invoice.add_lines(draft.id, lines=[{"amount": 500}, {"amount": -200}])
    assert stripe.Invoice.retrieve(draft.id).amount_due == 1300
    stripe.Invoice.update_lines(draft.id, lines=[{"id": line.id, "quantity": 3}])
    stripe.InvoiceLineItem.modify(draft.id, line.id, description="tea")
    lines = stripe.Invoice.list_lines(draft.id).data
    assert [row.amount for row in lines] == [3000, 500, -200]
    rows = [
        {"id": lines[1].id, "behavior": "delete"},
        {"id": lines[2].id, "behavior": "unassign"},
    ]
    assert stripe.Invoice.remove_lines(draft.id, lines=rows).amount_due == 3000
    waiting = stripe.InvoiceItem.list(customer=customer, pending=True).data
    assert [item.amount for item in waiting] == [-200]


def test_items_change_until_their_invoice_is_finalized(fake, customer):
    """An item changes and goes with its draft; on an invoice that is open it stays as it is."""
    draft = _draft_with(customer)
    item = draft.lines.data[0].parent.invoice_item_details.invoice_item
    assert stripe.InvoiceItem.modify(item, unit_amount_decimal="250", quantity=2).amount == 500
    assert stripe.InvoiceItem.modify(item, quantity=4).amount == 1000
    price = fake.add_price(70, recurring=False)
    assert stripe.InvoiceItem.modify(item, pricing={"price": price}, quantity=2).amount == 140
    other = stripe.InvoiceItem.create(invoice=draft.id, amount=60, currency="usd")
    assert stripe.InvoiceItem.delete(other.id).deleted
    assert stripe.Invoice.finalize_invoice(draft.id).amount_due == 140
    for call in (
        lambda: stripe.InvoiceItem.modify(item, amount=5),
        lambda: stripe.InvoiceItem.delete(item),
        lambda: stripe.Invoice.add_lines(draft.id, lines=[{"amount": 5}]),
        lambda: stripe.Invoice.modify(draft.id, discounts=""),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            call()


def test_settings_of_a_draft_change_what_it_comes_to(fake, customer):
    """Shipping and taxes come on top, discounts are taken off, and all of it may be undone."""
    draft = _draft_with(customer)
    fixed = {"amount": 300, "currency": "usd"}
    cost = {"shipping_rate_data": {"display_name": "van", "fixed_amount": fixed}}
    rate = stripe.TaxRate.create(display_name="VAT", inclusive=False, percentage=10).id
    coupon = stripe.Coupon.create(percent_off=50).id
    assert stripe.Invoice.modify(draft.id, shipping_cost=cost).total == 1300
    assert stripe.Invoice.modify(draft.id, default_tax_rates=[rate]).total == 1400
    shown = stripe.Invoice.modify(draft.id, discounts=[{"coupon": coupon}])
    assert (shown.total, shown.total_discount_amounts[0].amount) == (850, 500)
    stripe.Invoice.modify(draft.id, discounts="", default_tax_rates="")
    assert stripe.Invoice.modify(draft.id, shipping_cost="").total == 1000


def test_time_passes_and_drafts_are_collected(fake, customer):
    """A draft that advances is charged by itself, once, with the balance that is owed by then."""
    _draft_with(customer)
    stripe.Customer.create_balance_transaction(customer, amount=250, currency="usd")
    waits = stripe.Invoice.create(customer=customer)
    by_mail = _draft_with(customer, collection_method="send_invoice", days_until_due=3)
    collected = fake.advance()

    assert (len(collected), fake.charged(), fake.journal.total()) == (1, 1250, 2500)
    assert stripe.Customer.retrieve(customer).balance == 0
    assert stripe.Invoice.retrieve(waits.id).status == "draft"
    assert stripe.Invoice.retrieve(by_mail.id).status == "open"
    assert fake.advance() == []
    assert [entry.method for entry in fake.journal.entries].count("CLOCK") == 1


def test_credit_is_used_up_by_the_first_invoice(fake, customer):
    """A balance below zero pays what it can, and is gone then."""
    stripe.Customer.modify(customer, balance=-1200)
    for _ in range(2):
        draft = _draft_with(customer)
        stripe.Invoice.finalize_invoice(draft.id)

    assert [row.amount_due for row in stripe.Invoice.list(customer=customer).data] == [800, 0]


def test_a_customers_discount_goes(fake):
    """A customer's discount is taken off each draft, for as long as the customer has it."""
    coupon = stripe.Coupon.create(amount_off=900, currency="usd").id
    customer = stripe.Customer.create(coupon=coupon).id
    draft = _draft_with(customer)
    assert draft.amount_due == 100
    stripe.Customer.delete_discount(customer)
    assert stripe.Invoice.retrieve(draft.id).amount_due == 1000


def test_a_subscription_takes_along_what_waits(fake, customer):
    """Items that wait come onto its first invoice, onto a preview, and onto the next invoice."""
    price = fake.add_price(500)
    stripe.InvoiceItem.create(customer=customer, amount=100, currency="usd")
    made = stripe.Subscription.create(customer=customer, items=[{"price": price}])
    assert fake.charged() == 600
    stripe.InvoiceItem.create(customer=customer, amount=70, currency="usd")
    assert stripe.Invoice.create_preview(subscription=made.id).amount_due == 570
    fake.advance()
    assert fake.charged() == 670
    item = stripe.SubscriptionItem.create(
        subscription=made.id, price=price, proration_behavior="always_invoice"
    )
    stripe.SubscriptionItem.modify(item.id, quantity=2, proration_behavior="always_invoice")
    assert fake.charged() == 1670


def test_a_trial_is_charged_when_it_ends(fake, customer):
    """The first period of a trial is charged by itself."""
    price = fake.add_price(500)
    stripe.Subscription.create(customer=customer, items=[{"price": price}], trial_period_days=7)
    assert fake.charged() == 0
    fake.advance()
    assert fake.charged() == 500


def test_a_quote_begins_a_subscription_or_an_invoice(fake, customer):
    """A quote is accepted once it is open: monthly prices begin a subscription, others an invoice."""
    monthly = fake.add_price(300)
    once = stripe.Price.create(unit_amount=700, currency="usd", product="prod_1").id
    for price, cents in ((monthly, 300), (once, 700)):
        quote = stripe.Quote.create(customer=customer, line_items=[{"price": price}])
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Quote.accept(quote.id)
        stripe.Quote.finalize_quote(quote.id)
        accepted = stripe.Quote.accept(quote.id)
        assert (quote.amount_total, accepted.status) == (cents, "accepted")
        assert (accepted.subscription is None) is (price == once)
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Quote.cancel(quote.id)

    while fake.advance():
        pass
    assert fake.charged() == 1000


def test_what_a_quote_needs(fake, customer):
    """A quote needs lines, and a customer to be accepted; one that is canceled stays so."""
    with pytest.raises(stripe.InvalidRequestError, match="line_items"):
        stripe.Quote.create(customer=customer)
    lines = [{"price": fake.add_price(300)}]
    nobodys = stripe.Quote.create(line_items=lines).id
    stripe.Quote.finalize_quote(nobodys)
    with pytest.raises(stripe.InvalidRequestError, match="customer"):
        stripe.Quote.accept(nobodys)
    stripe.Quote.cancel(nobodys)
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Quote.finalize_quote(nobodys)
    assert stripe.Quote.list(status="canceled").data[0].id == nobodys
