"""Serve the endpoints for checkout sessions; the fake has no customer to complete them."""

from keybrake.testing.fake_stripe import prices
from keybrake.testing.fake_stripe.errors import StripeFailure
from keybrake.testing.fake_stripe.objects import blank, new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, choice
from keybrake.testing.fake_stripe.store import Store


def create(store: Store, params: Params) -> Outcome:
    """Create a session, with the URL at which a customer would pay."""
    mode = choice(params, "mode", ("payment", "setup", "subscription"), "payment")
    lines = prices.lines_of(store, params, "line_items")
    session_id = store.new_id("cs_test", 58)
    paid = mode != "setup"
    session = new(
        "checkout.session",
        session_id,
        params,
        amount_subtotal=prices.total(lines) if paid else None,
        amount_total=prices.total(lines) if paid else None,
        currency=prices.currency_of(lines, params) if paid else None,
        customer=params.get("customer") or None,
        mode=mode,
        payment_status="unpaid",
        status="open",
        url=f"https://checkout.example/{session_id}",
        **blank("payment_intent", "subscription", "payment_link"),
    )
    return Outcome(store.add(session))


def expire(store: Store, params: Params, session_id: str) -> Outcome:
    """Expire an open session."""
    del params
    session = store.find("checkout.session", session_id)
    if session["status"] != "open":
        raise StripeFailure(message="Only an open session can be expired.", began=True)
    session["status"] = "expired"
    return Outcome(session)
