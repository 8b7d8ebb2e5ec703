"""Does the stub that judges the money move it as Stripe documents it?"""

import pytest

from tests.model.money import vendor  # noqa: F401 -- makes the routes known
from tests.model.money.desk import Call
from tests.model.money.judge import carry_out, moved
from tests.model.money.subscriptions import pass_an_hour
from tests.model.money.world import World


class Stripe:
    """A world, and calls in it without SDK and guard."""

    def __init__(self) -> None:
        self.world = World()
        self._ids: dict[str, str] = {}

    def __call__(self, method: str, *ids: str, **params: object) -> dict:
        """Make a call that is answered, and return its answer."""
        status, body = carry_out(self.world, Call(method, ids, params), {})
        assert status == 200, body
        return body

    def refuses(self, method: str, *ids: str, **params: object) -> bool:
        """Return whether a call is declined, and nothing was moved by it."""
        before = list(self.world.moves)
        status, _ = carry_out(self.world, Call(method, ids, params), {})
        return status >= 400 and before == self.world.moves

    def moved(self, kind: str | None = None) -> int:
        """Return how much was moved until now."""
        return sum(move.cents for move in self.world.moves if kind in (None, move.kind))

    def invoice(self, cents: int, **params: object) -> tuple[str, str]:
        """Make a draft of one item, and return its id and that of the item."""
        customer = self("customers.create")["id"]
        made = self("invoices.create", customer=customer, **params)["id"]
        return made, self("invoice_items.create", invoice=made, amount=cents)["id"]


@pytest.fixture
def at_stripe():
    """Return a world in which nothing exists."""
    return Stripe()


def test_a_draft_moves_nothing_unless_it_advances(at_stripe):
    """An hour later an automatic draft was collected, and one that is not automatic was not."""
    at_stripe.invoice(1000, auto_advance=True)
    at_stripe.invoice(2000)
    assert at_stripe.moved() == 0

    pass_an_hour(at_stripe.world)

    assert at_stripe.moved() == 1000


def test_a_draft_is_added_up_when_it_is_collected(at_stripe):
    """An item that was changed, a tax, shipping and what the customer owes are all collected."""
    invoice, item = at_stripe.invoice(1000, auto_advance=True)
    tax = at_stripe("tax_rates.create", percentage=20)["id"]
    rate = {"fixed_amount": {"amount": 300, "currency": "usd"}}
    at_stripe("invoice_items.update", item, amount=5000)
    at_stripe("invoices.update", invoice, default_tax_rates=[tax])
    at_stripe("invoices.update", invoice, shipping_cost={"shipping_rate_data": rate})
    customer = at_stripe("invoices.retrieve", invoice)["customer"]
    at_stripe("customers.balance_transactions.create", customer, amount=70, currency="usd")

    assert at_stripe("invoices.retrieve", invoice)["amount_due"] == 6370
    pass_an_hour(at_stripe.world)

    assert at_stripe.moved() == 6370
    assert at_stripe("customers.retrieve", customer)["balance"] == 0


def test_a_finalized_invoice_cannot_be_changed(at_stripe):
    """What was finalized is what is paid, whatever is tried in between, and it is paid once."""
    invoice, item = at_stripe.invoice(1000)
    at_stripe("invoices.finalize_invoice", invoice)

    assert at_stripe.moved() == 0
    assert at_stripe.refuses("invoice_items.update", item, amount=5000)
    assert at_stripe.refuses("invoice_items.create", invoice=invoice, amount=5000)
    at_stripe("invoices.pay", invoice)
    assert at_stripe.refuses("invoices.pay", invoice)
    assert at_stripe.moved() == 1000


def test_finalizing_an_automatic_invoice_collects_it(at_stripe):
    """With ``auto_advance`` the payment follows at once; void or out of band, it never does."""
    automatic, _ = at_stripe.invoice(1000)
    at_stripe("invoices.finalize_invoice", automatic, auto_advance=True)
    assert at_stripe.moved() == 1000

    void, _ = at_stripe.invoice(2000)
    at_stripe("invoices.finalize_invoice", void)
    at_stripe("invoices.void_invoice", void)
    elsewhere, _ = at_stripe.invoice(3000, auto_advance=True)
    at_stripe("invoices.pay", elsewhere, paid_out_of_band=True)
    pass_an_hour(at_stripe.world)
    assert at_stripe.moved() == 1000


def test_a_discount_that_is_deleted_makes_a_draft_dearer(at_stripe):
    """A draft has its customer's discount until that is gone, or the draft has none of its own."""
    coupon = at_stripe("coupons.create", amount_off=900)["id"]
    customer = at_stripe("customers.create", coupon=coupon)["id"]
    invoice = at_stripe("invoices.create", customer=customer)["id"]
    at_stripe("invoice_items.create", invoice=invoice, amount=1000)

    assert at_stripe("invoices.retrieve", invoice)["amount_due"] == 100
    at_stripe("customers.delete_discount", customer)
    assert at_stripe("invoices.retrieve", invoice)["amount_due"] == 1000


def test_a_credit_is_used_once(at_stripe):
    """A balance below zero pays for the first invoice that is finalized, and not for the next."""
    customer = at_stripe("customers.create", balance=-1000)["id"]
    for _ in range(2):
        invoice = at_stripe("invoices.create", customer=customer, auto_advance=True)["id"]
        at_stripe("invoice_items.create", invoice=invoice, amount=1000)
        assert at_stripe("invoices.retrieve", invoice)["amount_due"] == 0
    pass_an_hour(at_stripe.world)

    assert at_stripe.moved("credit") == 1000
    assert at_stripe.moved("charge") == 1000


def test_an_invoice_below_zero_is_a_credit(at_stripe):
    """What an invoice lacks to zero is credited to the customer, which gives it away."""
    invoice, _ = at_stripe.invoice(-700)
    at_stripe("invoices.finalize_invoice", invoice)

    assert at_stripe.moved("credit") == 700
    customer = at_stripe("invoices.retrieve", invoice)["customer"]
    assert at_stripe("customers.retrieve", customer)["balance"] == -700


def test_items_that_wait_go_with_the_next_invoice_of_a_subscription(at_stripe):
    """They are charged with the first period; later ones wait for the next, without its price."""
    customer = at_stripe("customers.create")["id"]
    price = at_stripe("prices.create", unit_amount=1000, recurring={"interval": "month"})["id"]
    at_stripe("invoice_items.create", customer=customer, amount=500)
    items = [{"price": price, "quantity": 2}]
    shown = at_stripe(
        "invoices.create_preview", customer=customer, subscription_details={"items": items}
    )
    at_stripe("subscriptions.create", customer=customer, items=items)
    assert at_stripe.moved() == shown["amount_due"] == 2500

    at_stripe("invoice_items.create", customer=customer, amount=70)
    pass_an_hour(at_stripe.world)
    assert at_stripe.moved() == 2570


def test_a_change_of_a_subscription_is_charged_at_once_or_waits(at_stripe):
    """``always_invoice`` charges the difference at once, the default with the next invoice."""
    customer = at_stripe("customers.create")["id"]
    price = at_stripe("prices.create", unit_amount=1000, recurring={"interval": "month"})["id"]
    made = at_stripe("subscriptions.create", customer=customer, items=[{"price": price}])
    item = made["items"]["data"][0]["id"]
    now = {"proration_behavior": "always_invoice"}
    details = {"items": [{"id": item, "quantity": 3}], **now}
    shown = at_stripe(
        "invoices.create_preview", subscription=made["id"], subscription_details=details
    )
    at_stripe("subscription_items.update", item, quantity=3, **now)
    assert at_stripe.moved() - 1000 == shown["amount_due"] == 2000

    at_stripe("subscription_items.update", item, quantity=4)
    assert at_stripe.moved() == 3000
    pass_an_hour(at_stripe.world)
    assert at_stripe.moved() == 4000


def test_an_accepted_quote_becomes_an_automatic_invoice(at_stripe):
    """A draft can be changed, a finalized quote only accepted; its invoice is collected later."""
    customer = at_stripe("customers.create")["id"]
    price = at_stripe("prices.create", unit_amount=1000)["id"]
    quote = at_stripe("quotes.create", customer=customer, line_items=[{"price": price}])["id"]
    assert at_stripe.refuses("quotes.accept", quote)
    at_stripe("quotes.update", quote, line_items=[{"price": price, "quantity": 4}])
    at_stripe("quotes.finalize_quote", quote)
    assert at_stripe.refuses("quotes.update", quote, line_items=[{"price": price}])
    at_stripe("quotes.accept", quote)

    assert at_stripe.moved() == 0
    pass_an_hour(at_stripe.world)
    assert at_stripe.moved() == 4000


def test_a_refund_gives_back_what_was_captured(at_stripe):
    """Without an amount it is all that is left; of an intent that is only held, nothing moves."""
    held = {"amount": 1000, "currency": "usd", "confirm": True, "capture_method": "manual"}
    first = at_stripe("payment_intents.create", **held)["id"]
    at_stripe("payment_intents.capture", first, amount_to_capture=800)
    assert at_stripe("refunds.create", payment_intent=first)["amount"] == 800
    assert at_stripe.refuses("refunds.create", payment_intent=first)
    assert (at_stripe.moved("charge"), at_stripe.moved("refund")) == (800, 800)

    second = at_stripe("payment_intents.create", **held)["id"]
    at_stripe("refunds.create", payment_intent=second)
    assert at_stripe.refuses("payment_intents.capture", second)
    assert at_stripe.moved() == 1600


def test_customers_confirm_what_is_open(at_stripe):
    """An intent that waits is paid out of sight within the hour; one that is canceled is not."""
    open_one = at_stripe("payment_intents.create", amount=1000)["id"]
    canceled = at_stripe("payment_intents.create", amount=5000)["id"]
    at_stripe("payment_intents.update", open_one, amount=2000)
    at_stripe("payment_intents.cancel", canceled)
    pass_an_hour(at_stripe.world)

    assert at_stripe.moved() == 2000


def test_a_paid_invoice_gives_back_by_credit_note(at_stripe):
    """Its parts add up to what is given back, which is at most what was paid."""
    invoice, _ = at_stripe.invoice(1000)
    at_stripe("invoices.pay", invoice)
    given = {"invoice": invoice, "amount": 600, "refund_amount": 500, "credit_amount": 100}
    assert at_stripe.refuses("credit_notes.create", invoice=invoice, amount=600)
    at_stripe("credit_notes.create", **given)

    assert at_stripe.refuses("credit_notes.create", **given)
    assert (at_stripe.moved("refund"), at_stripe.moved("credit")) == (500, 100)


def test_only_the_part_that_a_run_adds_is_its_own(at_stripe):
    """A draft that would be collected anyway counts for a run by as much as the run made it dearer."""
    invoice, _ = at_stripe.invoice(1000, auto_advance=True)
    untouched, since = at_stripe.world.copy(), len(at_stripe.world.moves)
    pass_an_hour(untouched)
    at_stripe("invoice_items.create", invoice=invoice, amount=400)
    at_stripe("payouts.create", amount=50, currency="usd")
    pass_an_hour(at_stripe.world)

    assert sorted(moved(at_stripe.world, since, untouched).values()) == [50, 400]
