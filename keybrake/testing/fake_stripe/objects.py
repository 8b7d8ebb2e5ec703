"""Build Stripe objects with all their fields."""

from typing import Any, Final

from keybrake.testing.fake_stripe.cards import Card
from keybrake.testing.fake_stripe.params import Params, as_sent, metadata
from keybrake.testing.fake_stripe.store import Object, Store, now

# Fields that the fake does not interpret: it returns them as the caller sent them.
INTENT_TEXTS: Final = (
    "description",
    "on_behalf_of",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
)
CHARGE_TEXTS: Final = tuple(name for name in INTENT_TEXTS if name != "setup_future_usage")
CUSTOMER_TEXTS: Final = ("address", "description", "email", "name", "phone", "shipping")
TRANSFER_TEXTS: Final = ("description", "source_transaction", "transfer_group")


def new(kind: str, object_id: str, params: Params, **fields: Any) -> Object:
    """Return an object with the fields that all objects share, and with *fields*."""
    return {
        "id": object_id,
        "object": kind,
        "created": now(),
        "livemode": False,
        "metadata": metadata(params),
        **fields,
    }


def blank(*names: str) -> Object:
    """Return fields whose value is None."""
    return dict.fromkeys(names)


def payment_intent(store: Store, params: Params, amount: int, currency: str) -> Object:
    """Return an unconfirmed payment intent."""
    intent_id = store.new_id("pi")
    return new(
        "payment_intent",
        intent_id,
        params,
        amount=amount,
        amount_capturable=0,
        amount_details={"tip": {}},
        amount_received=0,
        capture_method="automatic",
        client_secret=f"{intent_id}_secret_{store.new_id('', 25)[1:]}",
        confirmation_method=params.get("confirmation_method", "automatic"),
        currency=currency,
        customer=params.get("customer") or None,
        payment_method_options={},
        payment_method_types=params.get("payment_method_types") or ["card"],
        status="requires_payment_method",
        **blank("application", "application_fee_amount", "automatic_payment_methods"),
        **blank("canceled_at", "cancellation_reason", "last_payment_error", "latest_charge"),
        **blank("next_action", "payment_method", "payment_method_configuration_details"),
        **blank("processing", "review", "source"),
        **(blank(*INTENT_TEXTS) | as_sent(params, INTENT_TEXTS)),
    )


def charge(store: Store, params: Params, amount: int, currency: str, card: Card) -> Object:
    """Return a charge on *card*: failed if the card is declined, otherwise uncaptured."""
    charge_id = store.new_id("ch")
    refused = card.decline
    return new(
        "charge",
        charge_id,
        params,
        amount=amount,
        amount_captured=0,
        amount_refunded=0,
        billing_details={"address": None, "email": None, "name": None, "phone": None},
        calculated_statement_descriptor="FAKE",
        captured=False,
        currency=currency,
        customer=params.get("customer") or None,
        disputed=False,
        failure_code=refused.code if refused else None,
        failure_message=refused.message if refused else None,
        fraud_details={},
        outcome=_outcome(card),
        paid=refused is None,
        payment_method_details={"card": _card_details(card, amount), "type": "card"},
        receipt_url=f"https://receipts.example/{charge_id}",
        refunded=False,
        status="failed" if refused else "succeeded",
        **blank("application", "application_fee", "application_fee_amount"),
        **blank("balance_transaction", "failure_balance_transaction", "payment_intent"),
        **blank("payment_method", "receipt_number", "review", "source", "source_transfer"),
        **(blank(*CHARGE_TEXTS) | as_sent(params, CHARGE_TEXTS)),
    )


def _outcome(card: Card) -> Object:
    refused = card.decline
    return {
        "network_status": "declined_by_network" if refused else "approved_by_network",
        "reason": refused.decline_code if refused else None,
        "risk_level": "normal",
        "seller_message": refused.message if refused else "Payment complete.",
        "type": "issuer_declined" if refused else "authorized",
    }


def _card_details(card: Card, amount: int) -> Object:
    return {
        "amount_authorized": amount,
        "brand": card.brand,
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "funding": "credit",
        "last4": card.last4,
        "network": card.brand,
        "three_d_secure": None,
        "wallet": None,
    }


def refund(store: Store, params: Params, paid: Object, amount: int, status: str) -> Object:
    """Return a refund of *amount* for the charge *paid*."""
    return new(
        "refund",
        store.new_id("re"),
        params,
        amount=amount,
        charge=paid["id"],
        currency=paid["currency"],
        destination_details={"card": {"type": "refund"}, "type": "card"},
        payment_intent=paid["payment_intent"],
        reason=params.get("reason") or None,
        status=status,
        **blank("balance_transaction", "receipt_number"),
        **blank("source_transfer_reversal", "transfer_reversal"),
    )


def transfer(store: Store, params: Params, amount: int, currency: str) -> Object:
    """Return a transfer to the account in *params*."""
    transfer_id = store.new_id("tr")
    url = f"/v1/transfers/{transfer_id}/reversals"
    return new(
        "transfer",
        transfer_id,
        params,
        amount=amount,
        amount_reversed=0,
        balance_transaction=None,
        currency=currency,
        destination=params["destination"],
        destination_payment=store.new_id("py"),
        reversals={"object": "list", "data": [], "has_more": False, "url": url},
        reversed=False,
        source_type=params.get("source_type", "card"),
        **(blank(*TRANSFER_TEXTS) | as_sent(params, TRANSFER_TEXTS)),
    )


def payout(store: Store, params: Params, amount: int, currency: str) -> Object:
    """Return a pending payout, which can still be canceled."""
    return new(
        "payout",
        store.new_id("po"),
        params,
        amount=amount,
        arrival_date=now() + 2 * 86_400,
        automatic=False,
        currency=currency,
        description=params.get("description") or None,
        destination=params.get("destination") or store.new_id("ba"),
        method=params.get("method", "standard"),
        reconciliation_status="not_applicable",
        source_type=params.get("source_type", "card"),
        statement_descriptor=params.get("statement_descriptor") or None,
        status="pending",
        type="bank_account",
        **blank("application_fee", "application_fee_amount", "balance_transaction"),
        **blank("failure_balance_transaction", "failure_code", "failure_message"),
        **blank("original_payout", "reversed_by", "trace_id"),
    )


def customer(store: Store, params: Params) -> Object:
    """Return a customer."""
    return new(
        "customer",
        store.new_id("cus", 14),
        params,
        balance=0,
        delinquent=False,
        invoice_prefix=store.new_id("", 7)[1:].upper(),
        invoice_settings=blank(
            "custom_fields", "default_payment_method", "footer", "rendering_options"
        ),
        next_invoice_sequence=1,
        preferred_locales=[],
        tax_exempt="none",
        **blank("currency", "default_source", "discount", "test_clock"),
        **(blank(*CUSTOMER_TEXTS) | as_sent(params, CUSTOMER_TEXTS)),
    )


def file(store: Store, params: Params) -> Object:
    """Return the file object of an upload."""
    file_id = store.new_id("file")
    upload = params["file"]
    return {
        "id": file_id,
        "object": "file",
        "created": now(),
        "expires_at": None,
        "filename": upload["filename"],
        "links": {"object": "list", "data": [], "has_more": False, "url": "/v1/file_links"},
        "purpose": params["purpose"],
        "size": upload["size"],
        "title": params.get("title") or None,
        "type": upload["filename"].rpartition(".")[2],
        "url": f"https://files.example/{file_id}",
    }


def balance_transaction(store: Store, thing: Object, amount: int, kind: str) -> Object:
    """Return the balance transaction of *thing*; the fee of a charge is 2.9 % and 30."""
    fee = (amount * 29 + 999) // 1000 + 30 if kind == "charge" else 0
    return {
        "id": store.new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": now(),
        "created": now(),
        "currency": thing["currency"],
        "description": thing.get("description"),
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [],
        "net": amount - fee,
        "reporting_category": kind,
        "source": thing["id"],
        "status": "available",
        "type": kind,
    }
