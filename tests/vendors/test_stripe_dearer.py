"""Is whatever makes an invoice dearer, which is collected by itself, counted or refused before?"""

import pytest
import stripe

import keybrake

CAP = 2000


@pytest.fixture
def customer(fake):
    """Return the id of a customer."""
    return stripe.Customer.create(name="Ada").id


def _advancing(customer, amount=1000, **options):
    """Return a draft over one item that will be collected by itself, as Stripe shows it."""
    made = stripe.Invoice.create(customer=customer, auto_advance=True, **options)
    stripe.InvoiceItem.create(invoice=made.id, amount=amount, currency="usd", customer=customer)
    return stripe.Invoice.retrieve(made.id)


def _item(invoice, nr=0):
    return invoice.lines.data[nr].parent.invoice_item_details.invoice_item


def _line(invoice, nr=0):
    return invoice.lines.data[nr].id


def _client(fake):
    return stripe.StripeClient("sk_test_x", base_addresses={"api": fake.url})


def _shipping(cents):
    fixed = {"amount": cents, "currency": "usd"}
    return {"shipping_rate_data": {"display_name": "by van", "fixed_amount": fixed}}


def _rate(percentage):
    return stripe.TaxRate.create(display_name="VAT", inclusive=False, percentage=percentage).id


RAISES = {
    "an item's amount": lambda inv, more: stripe.InvoiceItem.modify(_item(inv), amount=1000 + more),
    "an item's quantity": lambda inv, more: stripe.InvoiceItem.modify(
        _item(inv), quantity=1 + more // 1000
    ),
    "an item's unit amount": lambda inv, more: stripe.InvoiceItem.modify(
        _item(inv), unit_amount_decimal=str(1000 + more)
    ),
    "a line": lambda inv, more: stripe.InvoiceLineItem.modify(
        inv.id, _line(inv), amount=1000 + more
    ),
    "several lines": lambda inv, more: stripe.Invoice.update_lines(
        inv.id, lines=[{"id": _line(inv), "amount": 1000 + more}]
    ),
    "a line's quantity": lambda inv, more: stripe.Invoice.update_lines(
        inv.id, lines=[{"id": _line(inv), "quantity": 1 + more // 1000}]
    ),
    "a new line": lambda inv, more: stripe.Invoice.add_lines(inv.id, lines=[{"amount": more}]),
    "a new item": lambda inv, more: stripe.InvoiceItem.create(
        invoice=inv.id, amount=more, currency="usd"
    ),
    "shipping": lambda inv, more: stripe.Invoice.modify(inv.id, shipping_cost=_shipping(more)),
}


def _overruns(rows):
    return [row["endpoint"] for row in rows() if row["reason"] == "overrun"]


@pytest.mark.parametrize("how", RAISES)
def test_what_goes_beyond_the_cap_is_refused(fake, ledger_url, customer, rows, how):
    """A draft of $10 cannot be made one of $510 under a cap of $20: no request goes out for it."""
    with keybrake.run("agent", cap=20) as run:
        invoice = _advancing(customer)
        before = len(fake.journal.entries)
        with pytest.raises(keybrake.CapExceeded):
            RAISES[how](invoice, 50_000)
        sent = [entry for entry in fake.journal.entries[before:] if entry.method == "POST"]

    fake.advance()
    assert (sent, str(run.spent), _overruns(rows)) == ([], "10.00", [])
    assert fake.charged() == 1000


@pytest.mark.parametrize("how", RAISES)
def test_what_fits_is_counted_before_it_is_sent(fake, ledger_url, customer, rows, how):
    """A draft that grows by $10 has that reserved by the call, and is collected at what counts."""
    with keybrake.run("agent", cap=20) as run:
        invoice = _advancing(customer)
        RAISES[how](invoice, 1000)
        assert (rows()[-1]["reserved"], str(run.spent)) == (10_000_000, "20.00")

    fake.advance()
    assert (fake.charged(), _overruns(rows)) == (2000, [])


@pytest.mark.parametrize("how", RAISES)
def test_a_draft_of_somebody_elses_counts_whole(fake, ledger_url, customer, how):
    """A draft that was made elsewhere and advances is committed by the call that makes it dearer."""
    with keybrake.unguarded("made elsewhere"):
        invoice = _advancing(customer)
    with keybrake.run("agent", cap=20) as run:
        RAISES[how](invoice, 1000)

    assert str(run.spent) == "20.00"


@pytest.mark.parametrize("how", RAISES)
def test_a_draft_that_does_not_advance_waits(fake, ledger_url, customer, how):
    """Nothing collects it by itself: it counts with the call that finalizes it, and only once."""
    with keybrake.run("agent", cap=20) as run:
        made = stripe.Invoice.create(customer=customer)
        stripe.InvoiceItem.create(invoice=made.id, amount=1000, currency="usd")
        RAISES[how](stripe.Invoice.retrieve(made.id), 1000)
        assert str(run.spent) == "0.00"
        stripe.Invoice.finalize_invoice(made.id)
        stripe.Invoice.pay(made.id)

    assert (str(run.spent), fake.charged()) == ("20.00", 2000)


def _refused(call, *names):
    """Expect that a call is refused because nothing tells its price, and says what to do."""
    with pytest.raises(keybrake.UnknownCost) as caught:
        call()
    for name in names:
        assert name in str(caught.value)
    return caught.value


def test_taxes_on_a_draft_that_advances_are_refused(fake, ledger_url, customer):
    """What a tax adds cannot be told; the refusal says how to have Stripe tell it."""
    with keybrake.run("agent", cap=20) as run:
        invoice, rate = _advancing(customer), _rate(50)
        _refused(
            lambda: stripe.Invoice.modify(invoice.id, default_tax_rates=[rate]),
            "default_tax_rates", rate, "auto_advance=False",
        )  # fmt: skip
        stripe.Invoice.modify(invoice.id, auto_advance=False)
        stripe.Invoice.modify(invoice.id, default_tax_rates=[rate])
        stripe.Invoice.modify(invoice.id, auto_advance=True)
        assert str(run.spent) == "15.00"
        _refused(lambda: stripe.InvoiceItem.create(invoice=invoice.id, amount=1, currency="usd"))

    fake.advance()
    assert fake.charged() == 1500


def test_a_discount_that_goes_counts(fake, ledger_url, customer, rows):
    """A draft of $1000 with $990 off counts $10; without the discount it would be beyond the cap."""
    coupon = stripe.Coupon.create(amount_off=99_000, currency="usd")
    with keybrake.run("agent", cap=20) as run:
        made = stripe.Invoice.create(customer=customer, discounts=[{"coupon": coupon.id}])
        stripe.InvoiceItem.create(invoice=made.id, amount=100_000, currency="usd")
        stripe.Invoice.modify(made.id, auto_advance=True)
        assert str(run.spent) == "10.00"
        for discounts in ("", [{"coupon": coupon.id}]):
            with pytest.raises(keybrake.CapExceeded):
                stripe.Invoice.modify(made.id, discounts=discounts)

    fake.advance()
    assert (fake.charged(), _overruns(rows)) == (1000, [])


def test_a_customers_discount_does_not_go_while_a_draft_advances(fake, ledger_url):
    """A discount is not taken off a customer whose draft is collected by itself."""
    coupon = stripe.Coupon.create(amount_off=99_000, currency="usd")
    customer = stripe.Customer.create(coupon=coupon.id).id
    with keybrake.run("agent", cap=20):
        stripe.InvoiceItem.create(customer=customer, amount=100_000, currency="usd")
        made = stripe.Invoice.create(customer=customer, pending_invoice_items_behavior="include")
        stripe.Invoice.modify(made.id, auto_advance=True)
        _refused(lambda: stripe.Customer.delete_discount(customer), made.id, "auto_advance=False")
        stripe.Invoice.modify(made.id, auto_advance=False)
        stripe.Customer.delete_discount(customer)
        with pytest.raises(keybrake.CapExceeded):
            stripe.Invoice.modify(made.id, auto_advance=True)

    fake.advance()
    assert fake.charged() == 0


@pytest.mark.parametrize("trial", [True, False])
def test_a_discount_is_not_taken_off_a_trial(fake, ledger_url, trial):
    """The first period of a trial is charged by itself; a later period is outside of every run."""
    price, coupon = fake.add_price(500), stripe.Coupon.create(amount_off=100, currency="usd").id
    customer = stripe.Customer.create(coupon=coupon).id
    options = {"trial_period_days": 7} if trial else {}
    with keybrake.run("agent", cap=20):
        made = stripe.Subscription.create(customer=customer, items=[{"price": price}], **options)
        stripe.Subscription.delete_discount(made.id)  # it has none of its own
        if trial:
            _refused(lambda: stripe.Customer.delete_discount(customer), made.id, "trial")
        else:
            stripe.Customer.delete_discount(customer)


@pytest.mark.parametrize(
    "owe",
    [
        lambda customer: stripe.Customer.modify(customer, balance=50_000),
        lambda customer: stripe.Customer.create_balance_transaction(
            customer, amount=50_000, currency="usd"
        ),
        lambda _: stripe.Customer.create(balance=50_000),
    ],
)
def test_what_a_customer_owes_counts(fake, ledger_url, customer, owe):
    """A balance above zero is collected with the next invoice, without a further call."""
    with keybrake.run("agent", cap=20) as run:
        _advancing(customer)
        with pytest.raises(keybrake.CapExceeded):
            owe(customer)

    fake.advance()
    assert (str(run.spent), fake.charged()) == ("10.00", 1000)


def test_a_new_draft_counts_what_the_customer_owes(fake, ledger_url, customer, rows):
    """What a customer owes from before comes onto a draft, and is reserved with it."""
    with keybrake.unguarded("owed from before"):
        stripe.Customer.modify(customer, balance=700)
    with keybrake.run("agent", cap=20) as run:
        stripe.InvoiceItem.create(customer=customer, amount=1000, currency="usd")
        stripe.Invoice.create(
            customer=customer, auto_advance=True, pending_invoice_items_behavior="include"
        )
        assert (rows()[-1]["reserved"], str(run.spent)) == (17_000_000, "17.00")

    fake.advance()
    assert (fake.charged(), _overruns(rows)) == (1700, [])


def test_credit_that_two_drafts_share_counts_for_neither(fake, ledger_url, customer):
    """The customer's credit pays one of two drafts: each counts as if the other used it up."""
    with keybrake.unguarded("credit from before"):
        stripe.Customer.modify(customer, balance=-1000)
    with keybrake.run("agent", cap=20) as run:
        for _ in range(2):
            _advancing(customer)
        assert str(run.spent) == "20.00"

    fake.advance()
    assert fake.charged() == 1000


def test_a_credit_that_goes_makes_the_draft_dearer(fake, ledger_url, customer, rows):
    """An item below zero that is deleted, removed or made smaller counts like a new item."""
    with keybrake.unguarded("made elsewhere"):
        invoice = _advancing(customer, 90_000)
        stripe.InvoiceItem.create(invoice=invoice.id, amount=-89_000, currency="usd")
        invoice = stripe.Invoice.retrieve(invoice.id)
    with keybrake.run("agent", cap=20) as run:
        stripe.Invoice.modify(invoice.id, auto_advance=True)
        assert str(run.spent) == "10.00"
        for call in (
            lambda: stripe.InvoiceItem.delete(_item(invoice, 1)),
            lambda: stripe.InvoiceItem.modify(_item(invoice, 1), amount=-100),
            lambda: stripe.Invoice.remove_lines(
                invoice.id, lines=[{"id": _line(invoice, 1), "behavior": "delete"}]
            ),
        ):
            with pytest.raises(keybrake.CapExceeded):
                call()
        _refused(
            lambda: stripe.Invoice.remove_lines(
                invoice.id, lines=[{"id": _line(invoice), "behavior": "unassign"}]
            ),
            "behavior", "unassign",
        )  # fmt: skip

    fake.advance()
    assert (fake.charged(), _overruns(rows)) == (1000, [])


@pytest.fixture
def subscriber(fake, customer):
    """Return the id of a customer who has a subscription."""
    with keybrake.unguarded("from before"):
        stripe.Subscription.create(customer=customer, items=[{"price": fake.add_price(0)}])
    return customer


def test_an_item_beside_a_subscription_counts(fake, ledger_url, subscriber, rows):
    """The next invoice of the subscription collects what waits, without a further call."""
    with keybrake.run("agent", cap=20) as run:
        item = stripe.InvoiceItem.create(customer=subscriber, amount=1000, currency="usd")
        assert (rows()[-1]["reserved"], str(run.spent)) == (10_000_000, "10.00")
        with pytest.raises(keybrake.CapExceeded):
            stripe.InvoiceItem.create(customer=subscriber, amount=1001, currency="usd")
        with pytest.raises(keybrake.CapExceeded):
            stripe.InvoiceItem.modify(item.id, amount=2001)
        stripe.InvoiceItem.modify(item.id, amount=1500)
        assert str(run.spent) == "15.00"

    fake.advance()
    assert (fake.charged(), _overruns(rows)) == (1500, [])


def test_an_item_beside_a_subscription_is_given_back(fake, ledger_url, subscriber):
    """An item that is deleted before it is on any invoice counts nothing any more."""
    with keybrake.run("agent", cap=20) as run:
        item = stripe.InvoiceItem.create(customer=subscriber, amount=1000, currency="usd")
        stripe.InvoiceItem.delete(item.id)

    fake.advance()
    assert (str(run.spent), fake.charged()) == ("0.00", 0)


def test_an_item_and_its_invoice_are_one_event(fake, ledger_url, subscriber):
    """What counted beside a subscription is not counted again on an invoice."""
    with keybrake.run("agent", cap=20) as run:
        stripe.InvoiceItem.create(customer=subscriber, amount=1500, currency="usd")
        made = stripe.Invoice.create(customer=subscriber, pending_invoice_items_behavior="include")
        stripe.Invoice.finalize_invoice(made.id)
        stripe.Invoice.pay(made.id)
        assert str(run.spent) == "15.00"

    assert fake.charged() == 1500


def test_an_item_and_a_draft_that_advances_are_one_event(fake, ledger_url, subscriber):
    """The same where the draft advances by itself from the beginning, and grows."""
    with keybrake.run("agent", cap=20) as run:
        stripe.InvoiceItem.create(customer=subscriber, amount=1500, currency="usd")
        made = stripe.Invoice.create(
            customer=subscriber, auto_advance=True, pending_invoice_items_behavior="include"
        )
        assert str(run.spent) == "15.00"
        stripe.InvoiceItem.create(invoice=made.id, amount=500, currency="usd")
        assert str(run.spent) == "20.00"

    fake.advance()
    assert fake.charged() == 2000


def test_what_waits_counts_with_a_subscription_that_begins(fake, ledger_url, customer, rows):
    """Its first invoice takes along the items that wait; so they count with it, or it is refused."""
    price = fake.add_price(500)
    with keybrake.run("agent", cap=20) as run:
        stripe.InvoiceItem.create(customer=customer, amount=1000, currency="usd")
        assert str(run.spent) == "0.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.Subscription.create(customer=customer, items=[{"price": price, "quantity": 3}])
        stripe.Subscription.create(customer=customer, items=[{"price": price, "quantity": 2}])
        assert str(run.spent) == "20.00"

    assert (fake.charged(), _overruns(rows)) == (2000, [])


def test_a_subscription_that_is_charged_from_now_on_counts(fake, ledger_url, customer):
    """A trial that was to be sent, and is to be charged by itself now, counts its next invoice."""
    price = fake.add_price(50_000)
    with keybrake.run("agent", cap=20) as run:
        made = stripe.Subscription.create(
            customer=customer,
            items=[{"price": price}],
            trial_period_days=7,
            collection_method="send_invoice",
            days_until_due=5,
        )
        assert str(run.spent) == "0.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.Subscription.modify(made.id, collection_method="charge_automatically")

    fake.advance()
    assert fake.charged() == 0


def test_words_and_metadata_stay_free(fake, ledger_url, customer):
    """A change that touches no amount is free, asks nothing, and is sent."""
    with keybrake.run("agent", cap=10):
        invoice = _advancing(customer)
        before = len(fake.journal.entries)
        stripe.Invoice.modify(invoice.id, metadata={"a": "b"}, description="c")
        stripe.InvoiceItem.modify(_item(invoice), metadata={"a": "b"}, description="d")
        stripe.Customer.modify(customer, email="a@example.com", metadata={"a": "b"})

    assert [entry.method for entry in fake.journal.entries[before:]] == ["POST"] * 3


def _listed(*rows):
    return {"object": "list", "has_more": False, "data": list(rows)}


_AUTOMATIC = {"automatic_tax": {"enabled": True}}
_DRAFT = {"id": "in_1", "object": "invoice", "status": "draft", "auto_advance": True}
_TRIAL = {"id": "sub_1", "object": "subscription", "status": "trialing"}
_GRANT = {"id": "credgr_1", "object": "billing.credit_grant", "customer": "cus_1"}
_TAX_ID = {"id": "txi_1", "object": "tax_id"}


@pytest.mark.parametrize(
    ("first", "call"),
    [
        ((), lambda: stripe.Customer.modify("cus_1", address={"country": "DE"})),
        ((), lambda: stripe.Customer.modify("cus_1", tax_exempt="none")),
        ((), lambda: stripe.Customer.delete_tax_id("cus_1", "txi_1")),
        ((_TAX_ID | {"owner": {"customer": "cus_1"}},), lambda: stripe.TaxId.delete("txi_1")),
    ],
)
@pytest.mark.parametrize(
    "due",
    [
        ((), (), None),
        ((_DRAFT,), (_TRIAL,), None),
        ((_DRAFT | _AUTOMATIC,), None, "in_1"),
        ((_DRAFT | _AUTOMATIC | {"auto_advance": False},), (_TRIAL | _AUTOMATIC,), "sub_1"),
        ((_DRAFT | _AUTOMATIC | {"customer": "cus_2"},), (), None),
    ],
)
def test_other_taxes(wire, ledger_url, first, call, due):
    """Taxes change where Stripe works out none of what it will collect; else the call is refused."""
    drafts, trials, names = due
    lists = [_listed(*rows) for rows in (drafts, trials) if rows is not None]
    for answer in (*first, *lists):
        wire.answer(200, answer)
    if names is None:
        wire.answer(200, {"id": "cus_1", "object": "customer"})
    with keybrake.run("agent", cap=0):
        if names is None:
            call()
        else:
            _refused(call, names)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stripe.billing.CreditGrant.expire("credgr_1"),
        lambda: stripe.billing.CreditGrant.void_grant("credgr_1"),
        lambda: stripe.billing.CreditGrant.modify("credgr_1", expires_at=5),
    ],
)
def test_credit_that_goes(wire, ledger_url, call):
    """Credit is not taken from a customer whose draft is collected by itself."""
    wire.answer(200, _GRANT)
    wire.answer(200, _listed(_DRAFT))
    with keybrake.run("agent", cap=0):
        _refused(call, "in_1")


def test_an_accounts_own_tax_id_goes(wire, ledger_url):
    """A tax id that belongs to no customer taxes nobody."""
    wire.answer(200, _TAX_ID | {"customer": None, "owner": {"type": "self"}})
    wire.answer(200, _TAX_ID | {"deleted": True})
    with keybrake.run("agent", cap=0):
        stripe.TaxId.delete("txi_1")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: stripe.Price.modify("price_1", currency_options={"eur": {}}), "currency_options"),
        (lambda: stripe.Price.modify("price_1", tax_behavior="exclusive"), "tax_behavior"),
        (lambda: stripe.Product.modify("prod_1", tax_code="txcd_1"), "tax_code"),
        (lambda: stripe.Coupon.modify("c", currency_options={"eur": {}}), "currency_options"),
        (lambda: stripe.ShippingRate.modify("shr_1", tax_behavior="exclusive"), "tax_behavior"),
        (lambda: stripe.Subscription.pause("sub_1", bill_for={"x": 1}), "bill_for"),
        (
            lambda: stripe.SubscriptionSchedule.modify(
                "sub_sched_1", default_settings={"automatic_tax": {"enabled": True}}
            ),
            "default_settings.automatic_tax",
        ),
    ],
)
def test_what_others_are_priced_by_stays(wire, ledger_url, call, field):
    """A price, a product or a rate that objects use is not made dearer; nothing is asked or sent."""
    with keybrake.run("agent", cap=100):
        _refused(call, field)

    assert wire.seen == []


def test_what_else_changes_of_them_is_free(wire, ledger_url):
    """Names and metadata of prices and products cost nothing, and ask nothing."""
    calls = (
        lambda: stripe.Price.modify("price_1", nickname="x", active=False),
        lambda: stripe.Product.modify("prod_1", name="x"),
        lambda: stripe.Coupon.modify("c", name="x"),
        lambda: stripe.ShippingRate.modify("shr_1", active=False),
        lambda: stripe.Subscription.pause("sub_1"),
        lambda: stripe.SubscriptionSchedule.modify("sub_sched_1", end_behavior="cancel"),
        lambda: stripe.SubscriptionSchedule.cancel("sub_sched_1", invoice_now=False),
        lambda: stripe.SubscriptionItem.delete("si_1"),
        lambda: stripe.billing.CreditGrant.modify("credgr_1", metadata={"a": "b"}),
    )
    with keybrake.run("agent", cap=0):
        for call in calls:
            wire.answer(200, {"id": "x_1", "object": "thing"})
            call()

    assert len(wire.seen) == len(calls)


def test_a_new_source_collects_what_is_past_due(wire, ledger_url, rows):
    """Stripe collects an invoice past due once the customer has a new source: that counts."""
    due = {"object": "invoice", "amount_remaining": 700, "currency": "usd"}
    row = {"id": "sub_1", "customer": "cus_1", "status": "past_due", "latest_invoice": due}
    wire.answer(200, _listed(row, row | {"id": "sub_2", "status": "active"}))
    wire.answer(200, {"id": "cus_1", "object": "customer"})
    with keybrake.run("agent", cap=7) as run:
        stripe.Customer.modify("cus_1", source="tok_visa")
        assert (rows()[-1]["reserved"], str(run.spent)) == (7_000_000, "7.00")
        wire.answer(200, _listed(row | {"latest_invoice": "in_1"}))
        _refused(lambda: stripe.Customer.modify("cus_1", source="tok_visa"), "sub_1")


def test_several_questions_of_one_change_add_up(wire, ledger_url, rows):
    """A customer who gets another balance, source and address is asked about all three."""
    due = {"object": "invoice", "amount_remaining": 700, "currency": "usd"}
    wire.answer(200, {"id": "cus_1", "object": "customer", "balance": 0, "currency": "usd"})
    wire.answer(200, _listed({"id": "sub_1", "status": "past_due", "latest_invoice": due}))
    wire.answer(200, _listed())
    wire.answer(200, _listed())
    wire.answer(200, {"id": "cus_1", "object": "customer"})
    with keybrake.run("agent", cap=12):
        stripe.Customer.modify("cus_1", balance=500, source="tok_visa", address={"country": "DE"})

    assert rows()[-1]["reserved"] == 12_000_000


@pytest.mark.parametrize("found", [{}, {"has_more": True}, {"data": 5}])
def test_what_cannot_be_looked_up_is_not_taken_for_nothing(wire, ledger_url, found):
    """A list that is not there, or not whole, refuses the call that is priced by it."""
    calls = (
        lambda: stripe.InvoiceItem.create(customer="cus_1", amount=5, currency="usd"),
        lambda: stripe.Customer.modify("cus_1", address={"country": "DE"}),
        lambda: stripe.Customer.modify("cus_1", source="tok_visa"),
        lambda: stripe.Customer.delete_discount("cus_1"),
        lambda: stripe.InvoiceItem.modify("ii_1", amount=5),
        lambda: stripe.Invoice.add_lines("in_1", lines=[{"amount": 5}]),
        lambda: stripe.CreditNote.void_credit_note("cn_1"),
        lambda: stripe.Subscription.delete_discount("sub_1"),
    )
    with keybrake.run("agent", cap=1000):
        for call in calls:
            wire.answer(200, _listed() | {"data": []} | found if found else {})
            _refused(call)


def test_a_quote_that_begins_a_subscription_takes_nothing_along(wire, ledger_url):
    """Items that wait would be collected with its subscription, and the answer does not show them."""
    item = {"id": "ii_1", "object": "invoiceitem", "amount": 500, "currency": "usd"}
    quote = {"id": "qt_1", "object": "quote", "status": "open", "customer": "cus_1"}
    quote |= {"currency": "usd", "amount_total": 100, "computed": {"recurring": {"x": 1}}}
    with keybrake.run("agent", cap=1000):
        wire.answer(200, _listed())
        wire.answer(200, item)
        stripe.InvoiceItem.create(customer="cus_1", amount=500, currency="usd")
        wire.answer(200, quote)
        wire.answer(200, _listed(item))
        _refused(lambda: stripe.Quote.accept("qt_1"), "pending invoice items")
        wire.answer(200, quote)
        wire.answer(200, _listed())
        wire.answer(200, quote | {"status": "accepted"})
        stripe.Quote.accept("qt_1")


@pytest.mark.parametrize(
    "found",
    [
        {"id": "sub_1", "object": "subscription", "discount": None, "discounts": ["di_1"]},
        {"id": "sub_1", "object": "subscription", "discount": {"id": "di_1"}},
    ],
)
def test_a_subscriptions_own_discount_goes(wire, ledger_url, found):
    """A discount of its own is taken off a subscription unless it is on trial."""
    wire.answer(200, found | {"customer": "cus_1"})
    wire.answer(200, _listed(_DRAFT | {"total_discount_amounts": []}))
    wire.answer(200, _listed(_TRIAL))
    with keybrake.run("agent", cap=0):
        _refused(lambda: stripe.Subscription.delete_discount("sub_1"), "sub_1", "trial")


_OPEN = {"id": "in_1", "object": "invoice", "status": "open", "currency": "usd"}
_PLAIN = {
    **_DRAFT,
    "currency": "usd",
    "amount_due": 1000,
    "total": 1000,
    "total_discount_amounts": None,
    "lines": _listed({"id": "il_1", "amount": 1000, "quantity": 2, "discounts": []}),
}


@pytest.mark.parametrize(
    ("change", "draft", "named"),
    [
        ({"lines": [{"id": "il_1", "tax_rates": ["txr_1"]}]}, {}, "tax_rates"),
        ({"lines": [{"id": "il_1", "tax_amounts": [{"x": 1}]}]}, {}, "tax_amounts"),
        ({"lines": [{"id": "il_1", "quantity": "many"}]}, {}, "many"),
        ({"lines": [{"id": "il_1", "amount": "much"}]}, {}, "much"),
        ({"lines": [{"id": "il_1", "pricing": {"price": "../x"}}]}, {}, "price"),
        ({"lines": [{"amount": 5}]}, {}, "id"),
        ({"lines": [{"id": "il_1", "amount": 5000}]}, {"lines": _listed({"id": "il_1"})}, "il_1"),
        (
            {"lines": [{"id": "il_1", "discounts": ""}]},
            {"lines": _listed({"id": "il_1", "amount": 1, "discounts": ["di_1"]})},
            "discount_amounts",
        ),
        ({"lines": [{"id": "il_1", "amount": 5000}]}, _AUTOMATIC, "automatic_tax"),
        ({"lines": [{"id": "il_1", "amount": 5000}]}, {"total_taxes": [{"amount": 5}]}, "taxed"),
        ({"lines": [{"id": "il_1", "amount": 5000}]}, {"currency": None}, "amount"),
        ({"shipping_cost": {"shipping_rate": "shr_1"}}, {}, "shr_1"),
        ({"automatic_tax": {"enabled": True}}, {}, "automatic_tax"),
        ({"issuer": {"type": "self"}}, _AUTOMATIC, "issuer"),
        ({"something_new": "x"}, {}, "something_new"),
    ],
)
def test_a_change_that_nothing_tells_the_price_of(wire, ledger_url, change, draft, named):
    """On a draft that advances such a change is refused by its name; on one that waits it goes out."""
    work = stripe.Invoice.update_lines if "lines" in change else stripe.Invoice.modify
    for advances in (True, False):
        with keybrake.run("agent", cap=1000) as run:
            wire.answer(200, {**_PLAIN, **draft, "auto_advance": advances})
            if advances or named == "id":
                _refused(lambda: work("in_1", **change), named)
                continue
            wire.answer(200, {**_PLAIN, **draft, "auto_advance": False, "currency": "usd"})
            work("in_1", **change)
        assert str(run.spent) == "0.00"


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"default_tax_rates": "", "automatic_tax": {"enabled": False}}, "0.00"),
        ({"shipping_cost": "", "discounts": ""}, "0.00"),
        ({"on_behalf_of": "acct_1"}, "0.00"),
        ({"automatically_finalizes_at": 5}, "10.00"),
        ({"auto_advance": True, "collection_method": "charge_automatically"}, "10.00"),
    ],
)
def test_a_setting_that_raises_nothing(wire, ledger_url, change, counted):
    """A draft of somebody else's is not counted by a change that leaves its amount alone."""
    wire.answer(200, _PLAIN)
    wire.answer(200, _PLAIN)
    with keybrake.run("agent", cap=1000) as run:
        stripe.Invoice.modify("in_1", **change)

    assert str(run.spent) == counted


@pytest.mark.parametrize("status", ["paid", "void"])
def test_an_invoice_that_is_over_stays_as_it_was_counted(wire, ledger_url, status):
    """Whatever an invoice shows that is paid or void, a change of it counts nothing."""
    for _ in range(2):
        wire.answer(200, _OPEN | {"status": status, "amount_due": 900, "amount_paid": 900})
    with keybrake.run("agent", cap=0):
        stripe.Invoice.modify("in_1", auto_advance=True)


def test_what_an_item_that_waits_may_become(wire, ledger_url, rows):
    """Beside a subscription a dearer item counts whole, a cheaper one nothing, a credit its loss."""
    item = {"id": "ii_1", "object": "invoiceitem", "customer": "cus_1", "currency": "usd"}
    item |= {"invoice": None, "quantity": 2}
    subscribed = _listed({"id": "sub_1", "customer": "cus_1", "status": "active"})
    cases = (
        ({"amount": 400}, {"quantity": 5}, 10_000_000),
        ({"amount": 400}, {"quantity": 1}, 0),
        ({"amount": -400}, {"quantity": 1}, 2_000_000),
        ({"amount": 400, "subscription": "sub_1"}, {"unit_amount_decimal": "300"}, 6_000_000),
        ({"amount": 400, "discounts": []}, {"discountable": False}, 0),
    )
    with keybrake.run("agent", cap=100):
        for shown, change, reserved in cases:
            wire.answer(200, item | shown | {"id": f"ii_{reserved}"})
            wire.answer(200, subscribed)
            wire.answer(200, item | shown)
            stripe.InvoiceItem.modify(f"ii_{reserved}", **change)
            assert rows()[-1]["reserved"] == reserved
        for shown, change in (
            ({"amount": None}, {"quantity": 5}),
            ({"amount": 400}, {"tax_rates": ["txr_1"]}),
        ):
            wire.answer(200, item | shown)
            wire.answer(200, subscribed)
            _refused(lambda change=change: stripe.InvoiceItem.modify("ii_1", **change))
        wire.answer(200, item | {"amount": 400})
        wire.answer(200, {"object": "list"})
        _refused(lambda: stripe.InvoiceItem.modify("ii_1", amount=5))


def test_an_item_that_waits_for_nobody_changes_as_it_likes(wire, ledger_url, rows):
    """Without a subscription an item waits for a call that is priced: even taxes are free here."""
    item = {"id": "ii_1", "object": "invoiceitem", "customer": "cus_1", "currency": "usd"}
    with keybrake.run("agent", cap=0):
        for change in ({"amount": 50_000}, {"tax_rates": ["txr_1"]}, {"discounts": ""}):
            wire.answer(200, item | {"amount": 100, "invoice": None})
            wire.answer(200, _listed())
            wire.answer(200, item)
            stripe.InvoiceItem.modify("ii_1", **change)
        wire.answer(200, _listed())
        wire.answer(200, item | {"amount": -100})
        stripe.InvoiceItem.create(customer="cus_1", amount=-100, currency="usd")

    assert rows()[-1]["reserved"] == 0


def test_an_item_by_its_price_beside_a_subscription(wire, ledger_url, rows):
    """A new item that names a price counts what the price says."""
    wire.answer(200, _listed({"id": "sub_1", "status": "active"}))
    wire.answer(200, {"id": "price_1", "object": "price", "unit_amount": 250, "currency": "usd"})
    wire.answer(200, {"id": "ii_1", "object": "invoiceitem"})
    with keybrake.run("agent", cap=100):
        stripe.InvoiceItem.create(customer="cus_1", pricing={"price": "price_1"}, quantity=2)

    assert rows()[-1]["reserved"] == 5_000_000


@pytest.mark.parametrize(
    ("invoice", "reserved"),
    [
        (_OPEN | {"amount_due": 700}, 12_000_000),
        (_OPEN | {"status": "paid", "amount_due": 700}, 0),
        (_OPEN | {"amount_due": None}, None),
    ],
)
def test_a_credit_note_that_goes(wire, ledger_url, rows, invoice, reserved):
    """The invoice of a note that is voided comes to more again, if it is still collected."""
    note = {"id": "cn_1", "object": "credit_note", "invoice": "in_1", "total": 500}
    for answer in (note, invoice, note):
        wire.answer(200, answer)
    with keybrake.run("agent", cap=100):
        if reserved is None:
            _refused(lambda: stripe.CreditNote.void_credit_note("cn_1"))
            return
        stripe.CreditNote.void_credit_note("cn_1")

    assert rows()[-1]["reserved"] == reserved


def test_a_line_of_no_invoice(wire, ledger_url):
    """A line that is changed by its own path alone may have other words, and no other amount."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": wire.url})
    wire.answer(200, {"id": "il_1", "object": "line_item"})
    with keybrake.run("agent", cap=0):
        client.raw_request("post", "/v1/line_items/il_1", description="x")
        _refused(lambda: client.raw_request("post", "/v1/line_items/il_1", amount=5), "amount")


@pytest.mark.parametrize(
    "call",
    [
        lambda: stripe.InvoiceItem.create(invoice="../x", amount=5, currency="usd"),
        lambda: stripe.InvoiceItem.create(customer="../x", amount=5, currency="usd"),
    ],
)
def test_an_id_that_leads_elsewhere_is_not_looked_up(wire, ledger_url, call):
    """What is no id never becomes a path of a look-up."""
    with keybrake.run("agent", cap=10), pytest.raises(keybrake.CallRefused) as caught:
        call()

    assert (caught.value.reason, wire.seen) == ("path_not_canonical", [])


def test_a_new_draft_of_a_customer_who_owes(wire, ledger_url, rows):
    """A draft without items, and one that revises another, come to what is owed on top."""
    owes = {"id": "cus_1", "object": "customer", "balance": 300, "currency": "usd"}
    with keybrake.run("agent", cap=100):
        wire.answer(200, owes)
        wire.answer(200, _PLAIN | {"id": "in_2", "amount_due": 300, "total": 0})
        stripe.Invoice.create(
            customer="cus_1", auto_advance=True, pending_invoice_items_behavior="exclude"
        )
        assert rows()[-1]["reserved"] == 3_000_000
        wire.answer(200, _OPEN | {"id": "in_0", "total": 700, "customer": "cus_1"})
        wire.answer(200, owes)
        wire.answer(200, _PLAIN | {"id": "in_3", "amount_due": 1000, "total": 700})
        former = {"action": "revision", "invoice": "in_0"}
        stripe.Invoice.create(customer="cus_1", auto_advance=True, from_invoice=former)
        assert rows()[-1]["reserved"] == 10_000_000
        for customer in ({}, owes | {"balance": "5"}):
            wire.answer(200, _listed({"amount": 5, "currency": "usd"}))
            wire.answer(200, customer)
            _refused(lambda: stripe.Invoice.create(customer="cus_1", auto_advance=True), "balance")
        wire.answer(200, _listed({"amount": 5, "currency": "usd", "tax_rates": ["txr_1"]}))
        _refused(lambda: stripe.Invoice.create(customer="cus_1", auto_advance=True), "tax_rates")


def _draft_below_zero(customer, **options):
    made = stripe.Invoice.create(customer=customer, **options)
    stripe.InvoiceItem.create(invoice=made.id, amount=-5000, currency="usd")
    return made.id


_MAILED = {"collection_method": "send_invoice", "days_until_due": 30}
_PRICED_MONTHLY = {"unit_amount": 100, "currency": "usd", "product": "prod_1"}


def _subscribe(customer, **options):
    items = [{"price_data": {**_PRICED_MONTHLY, "recurring": {"interval": "month"}}}]
    return stripe.Subscription.create(customer=customer, items=items, **options)


def _wait_and_subscribe(customer, **options):
    stripe.InvoiceItem.create(customer=customer, amount=-5000, currency="usd")
    _subscribe(customer, **options)


def _beside(customer, amount):
    with keybrake.unguarded("made elsewhere"):
        _subscribe(customer)
    return stripe.InvoiceItem.create(customer=customer, amount=amount, currency="usd").id


CREDITS = {
    "finalize": (50, lambda c: stripe.Invoice.finalize_invoice(_draft_below_zero(c, **_MAILED))),
    "send": (50, lambda c: stripe.Invoice.send_invoice(_draft_below_zero(c, **_MAILED))),
    "pay": (50, lambda c: stripe.Invoice.pay(_draft_below_zero(c))),
    "paid elsewhere": (
        50, lambda c: stripe.Invoice.pay(_draft_below_zero(c), paid_out_of_band=True)
    ),
    "a subscription": (51, _wait_and_subscribe),
    "a trial": (51, lambda c: _wait_and_subscribe(c, trial_period_days=7)),
    "beside a subscription": (50, lambda c: _beside(c, -5000)),
    "changed beside a subscription": (
        50, lambda c: stripe.InvoiceItem.modify(_beside(c, 100), amount=-5000)
    ),
}  # fmt: skip


def _credit(fake, customer):
    while fake.advance():
        pass
    with keybrake.unguarded("looked at"):
        return -stripe.Customer.retrieve(customer).balance


@pytest.mark.parametrize("how", CREDITS)
def test_credit_by_a_total_below_zero_is_refused_beyond_the_cap(fake, ledger_url, customer, how):
    """No call gives a customer $50 by an invoice below zero under a cap of $20."""
    with keybrake.run("agent", cap=20), pytest.raises(keybrake.CapExceeded):
        CREDITS[how][1](customer)

    assert _credit(fake, customer) <= 0


@pytest.mark.parametrize("how", CREDITS)
def test_credit_by_a_total_below_zero_counts(fake, ledger_url, customer, rows, how):
    """The call that gives a customer $50 by an invoice below zero reserves and counts it."""
    dollars, gives = CREDITS[how]
    with keybrake.run("agent", cap=100) as run:
        gives(customer)

    assert (run.spent, _overruns(rows)) == (dollars, [])
    assert _credit(fake, customer) <= 5000


def test_a_draft_made_elsewhere_gives_no_credit_unseen(fake, ledger_url, customer):
    """A draft of somebody else's, made negative by a guarded call, counts when it is paid elsewhere."""
    with keybrake.unguarded("made elsewhere"):
        made = stripe.Invoice.create(customer=customer).id
    with keybrake.run("agent", cap=20):
        stripe.InvoiceItem.create(invoice=made, amount=-5000, currency="usd")
        with pytest.raises(keybrake.CapExceeded):
            stripe.Invoice.pay(made, paid_out_of_band=True)

    assert _credit(fake, customer) == 0


@pytest.mark.parametrize("finalized", [False, True])
def test_a_draft_above_zero_is_paid_elsewhere_or_sent_for_nothing(
    fake, ledger_url, customer, rows, finalized
):
    """An invoice that gives no credit counts nothing when the customer pays it in another way."""
    with keybrake.run("agent", cap=0) as run:
        for method in ("pay", "send_invoice"):
            made = stripe.Invoice.create(customer=customer, **_MAILED).id
            stripe.InvoiceItem.create(invoice=made, amount=5000, currency="usd")
            if finalized:
                stripe.Invoice.finalize_invoice(made)
            options = {"paid_out_of_band": True} if method == "pay" else {}
            getattr(stripe.Invoice, method)(made, **options)

    assert (str(run.spent), rows()[-1]["contingent"], fake.charged()) == ("0.00", 50_000_000, 0)


def test_a_smaller_credit_counts_what_is_left_of_it(fake, ledger_url, customer):
    """An item below zero that changes goes on to count the larger of what it was and what it is."""
    with keybrake.run("agent", cap=60) as run:
        item = _beside(customer, -5000)
        for amount, counted in ((-5000, "50.00"), (-4000, "50.00"), (-6000, "60.00")):
            stripe.InvoiceItem.modify(item, amount=amount)
            assert str(run.spent) == counted


def test_a_counted_item_that_became_a_credit_is_not_deleted_unseen(
    fake, ledger_url, subscriber, rows
):
    """An item is looked up before it is deleted, also where the ledger counts it."""
    with keybrake.run("agent", cap=20):
        item = stripe.InvoiceItem.create(customer=subscriber, amount=1, currency="usd").id
        with keybrake.unguarded("changed elsewhere"):
            stripe.InvoiceItem.modify(item, amount=-50_000)
        made = stripe.Invoice.create(customer=subscriber, pending_invoice_items_behavior="include")
        stripe.InvoiceItem.create(invoice=made.id, amount=50_100, currency="usd")
        stripe.Invoice.modify(made.id, auto_advance=True)
        with pytest.raises(keybrake.CapExceeded):
            stripe.InvoiceItem.delete(item)

    fake.advance()
    assert (fake.charged(), _overruns(rows)) == (100, [])


@pytest.mark.parametrize("advances", [False, True])
def test_a_counted_item_is_deleted_from_its_invoice(fake, ledger_url, subscriber, advances):
    """An item counts until it is deleted; on an invoice that counts, it is a part of that."""
    with keybrake.run("agent", cap=20) as run:
        item = stripe.InvoiceItem.create(customer=subscriber, amount=1000, currency="usd").id
        made = stripe.Invoice.create(customer=subscriber, pending_invoice_items_behavior="include")
        if advances:
            stripe.Invoice.modify(made.id, auto_advance=True)
        assert str(run.spent) == "10.00"
        stripe.InvoiceItem.delete(item)
        stripe.Invoice.retrieve(made.id)

    fake.advance()
    assert fake.charged() == 0
    assert str(run.spent) == ("10.00" if advances else "0.00")


TAXED = {"id": "sub_1", "object": "subscription", "status": "active", "customer": "cus_1"}


@pytest.mark.parametrize(
    "taxes", [{"default_tax_rates": [{"id": "txr_1"}]}, {"automatic_tax": {"enabled": True}}]
)
@pytest.mark.parametrize("named", [{}, {"subscription": "sub_1"}])
def test_an_item_beside_a_taxed_subscription(wire, ledger_url, taxes, named):
    """The subscription adds its taxes when it collects the item, and nothing tells how much."""
    wire.answer(200, _listed(TAXED | taxes))
    item = {"id": "ii_1", "object": "invoiceitem", "amount": 500, "currency": "usd"}
    wire.answer(200, item | {"customer": "cus_1"} | named)
    wire.answer(200, _listed(TAXED | taxes))
    with keybrake.run("agent", cap=1000):
        _refused(
            lambda: stripe.InvoiceItem.create(
                customer="cus_1", amount=500, currency="usd", **named
            ),
            "sub_1",
            next(iter(taxes)),
            "auto_advance=False",
        )
        _refused(lambda: stripe.InvoiceItem.modify("ii_1", amount=900), next(iter(taxes)))

    assert len(wire.seen) == 3


def test_an_item_beside_a_subscription_that_is_over(wire, ledger_url):
    """A subscription that has ended adds nothing; one that the item names counts the item."""
    ended = TAXED | {"status": "canceled", "default_tax_rates": [{"id": "txr_1"}]}
    with keybrake.run("agent", cap=10) as run:
        for named, counted in (({}, "0.00"), ({"subscription": "sub_2"}, "5.00")):
            wire.answer(200, _listed(ended))
            wire.answer(200, {"id": "ii_1", "object": "invoiceitem", "amount": 500})
            stripe.InvoiceItem.create(customer="cus_1", amount=500, currency="usd", **named)
            assert str(run.spent) == counted


def test_an_invoice_of_a_subscription_that_advances(wire, ledger_url):
    """The subscription's taxes come on top of the items; Stripe tells the sum once the draft exists."""
    with keybrake.run("agent", cap=1000):
        _refused(
            lambda: stripe.Invoice.create(
                customer="cus_1", subscription="sub_1", auto_advance=True
            ),
            "subscription='sub_1'",
            "auto_advance=False",
        )

    assert wire.seen == []
