"""Read the most that a Stripe object is worth, with one reader per kind of object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from keybrake.vendors.stripe.money import currency_code, minor_amount
from keybrake.vendors.stripe.readers import READERS, Body, is_charged_again, total_of
from keybrake.vendors.stripe.steps import dig, id_of
from keybrake.vendors.stripe.table import Path


class Worth(NamedTuple):
    """
    The most that a Stripe object is worth.

    Attributes:
        object_id: Id that names the position.
        state: State of the position.
        minor: Amount in *currency*; None: it cannot be read.
        contingent: Amount that it may reach if a person acts.
        partial: The object is only a part of the position, such as one payment of an invoice.
        kept: The object shows no amount, so the reservation stays counted.
    """

    object_id: str
    state: str
    minor: int | None
    currency: str | None
    contingent: int | None = None
    partial: bool = False
    kept: bool = False


def worth(body: Body) -> Worth | None:
    """Return the worth of an object; None: objects of this kind have none."""
    kind, object_id = body.get("object"), body.get("id")
    if not isinstance(kind, str) or not isinstance(object_id, str):
        return None
    if kind in _PLAIN:
        return _plain(body, object_id, _PLAIN[kind])
    reader = READERS.get(kind)
    if reader is None:
        return None
    state, amount = reader(body)
    currency = currency_code(body.get("currency"))
    held = Worth(object_id, state, _minor(amount), currency)
    if state == "needs_human":
        return held._replace(contingent=_minor(total_of(body)))
    return _LINKED[kind](body, held) if kind in _LINKED else held


def _of_its_invoice(body: Body, held: Worth) -> Worth:
    """Count an accepted quote as the position of the invoice that it became."""
    invoice = id_of(_named(body.get("invoice")))
    # The invoice of a trial is for nothing, and would give back what the trial's end is to charge.
    alone = invoice is None or is_charged_again(body)
    return held if alone else held._replace(object_id=str(invoice))


def _part_of(body: Body, held: Worth) -> Worth:
    """Count a charge of an intent as the intent, and a payment of an invoice as a part of it."""
    invoice = id_of(_named(body.get("invoice")))
    if invoice is not None:
        return held._replace(object_id=invoice, partial=True)
    intent = id_of(_named(body.get("payment_intent")))
    return held if intent is None else held._replace(object_id=intent)


def _named(value: object) -> object:
    """Return the id of an object that may have been expanded in place."""
    return value.get("id") if isinstance(value, Mapping) else value


def _minor(amount: object) -> int | None:
    # Answers show amounts as ints. Only v2 sends text, which _plain() converts.
    return minor_amount(amount) if type(amount) is int else None


_LINKED: Mapping[str, Callable[[Body, Worth], Worth]] = {
    "payment_intent": _part_of,
    "charge": _part_of,
    "quote": _of_its_invoice,
}


class _Plain(NamedTuple):
    """How to read an object with one amount, which counts until a status releases it."""

    settled: frozenset[str] | None
    released: frozenset[str]
    amount: Path = ("amount",)
    currency: Path = ("currency",)


def _object(settled: str | None, released: str = "", amount: str = "amount") -> _Plain:
    """Return how to read an object; *settled* None: it is settled in every status."""
    finals = None if settled is None else frozenset(settled.split())
    return _Plain(finals, frozenset(released.split()), tuple(amount.split(".")))


def _v2(settled: str, released: str) -> _Plain:
    return _object(settled, released, "amount.value")._replace(currency=("amount", "currency"))


_MOVED = _object("posted succeeded", "failed canceled returned")
_PLAIN: Mapping[str, _Plain] = {
    "refund": _object("succeeded", "failed canceled"),
    "payout": _object("paid in_transit", "failed canceled"),
    "topup": _object("succeeded", "failed canceled reversed"),
    "transfer": _object(None),
    "transfer_reversal": _object(None),
    "fee_refund": _object(None),
    # Voiding a credit note does not take back the refund it made.
    "credit_note": _object(None, amount="total"),
    "dispute": _object("lost", "won warning_closed"),
    "climate.order": _object("confirmed delivered", "canceled", "amount_total"),
    "treasury.outbound_payment": _MOVED,
    "treasury.outbound_transfer": _MOVED,
    "treasury.inbound_transfer": _MOVED,
    "treasury.credit_reversal": _MOVED,
    "treasury.debit_reversal": _MOVED,
    "billing.credit_grant": _object(None, amount="amount.monetary.value")._replace(
        currency=("amount", "monetary", "currency")
    ),
    "v2.money_management.outbound_payment": _v2("posted", "failed canceled returned"),
    "v2.money_management.payout_intent": _v2("posted", "failed canceled returned"),
    "v2.money_management.inbound_transfer": _v2("succeeded", "failed canceled"),
}


def _plain(body: Body, object_id: str, kind: _Plain) -> Worth:
    status, currency = body.get("status"), currency_code(dig(body, kind.currency))
    if isinstance(status, str) and status in kind.released:
        return Worth(object_id, "released", 0, currency)
    amount = dig(body, kind.amount)
    if type(amount) is str and len(kind.amount) > 1:
        amount = minor_amount(amount)  # v2 sends 64-bit integers as text
    if type(amount) is int and body.get("original_payout") is not None:
        amount = abs(amount)  # the reversal of a payout has a negative amount, and counts too
    done = kind.settled is None or (isinstance(status, str) and status in kind.settled)
    return Worth(object_id, "settled" if done else "in_flight", _minor(amount), currency)
