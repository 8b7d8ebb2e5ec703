"""Who plays in the demo: three agents on the real Stripe SDK, each with its job and its bug."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

import stripe

import keybrake
from keybrake.cli.demo_acts.stage import Stage
from keybrake.errors import CapExceeded, KeybrakeError, RunRevoked

_INVOICE_CENTS = 2999
_MEANT_TO_TRY = 150
_GOODWILL_CENTS = 250
_ORDERS_CENTS = (1200, 850, 2400, 1999, 640)
# Fast enough to watch, slow enough for another process to start and strike.
_PACE_S = 0.15
_PATIENCE_S = 30.0
_ORDERS_AFTER = 2


def collect_invoice(stage: Stage, run: keybrake.Run, cap: int) -> list[str]:
    """
    Charge one invoice, again and again: the payment's notice never arrives here.

    Returns the ids of the payments it made. Raises ``KeybrakeError`` if nothing stopped it.
    """
    paid: list[str] = []
    for attempt in range(1, _MEANT_TO_TRY + 1):
        what = f"charge $29.99, attempt {attempt}"
        try:
            payment = stripe.PaymentIntent.create(
                amount=_INVOICE_CENTS,
                currency="usd",
                payment_method="pm_card_visa",
                confirm=True,
            )
        except CapExceeded as refusal:
            stage.refused(run.label, what, f"only ${refusal.remaining} of ${cap} is left")
            return paid
        paid.append(payment.id)
        stage.sent(run.label, what, run.spent, cap)
    msg = "the runaway agent was not stopped at its cap"
    raise KeybrakeError(msg)


def refund(stage: Stage, run: keybrake.Run, cap: int, payments: Sequence[str]) -> None:
    """Refund one customer, again and again, until somebody else ends the run."""
    end = time.monotonic() + _PATIENCE_S
    number = 0
    while time.monotonic() < end:
        number += 1
        what = f"refund $2.50, number {number}"
        payment = payments[number % len(payments)]
        try:
            stripe.Refund.create(payment_intent=payment, amount=_GOODWILL_CENTS)
        except RunRevoked:
            stage.refused(run.label, what, "the run was revoked")
            return
        stage.sent(run.label, what, run.spent, cap)
        time.sleep(_PACE_S)
    msg = "the refunding agent was not stopped when its run was revoked"
    raise KeybrakeError(msg)


def take_orders(stage: Stage, run: keybrake.Run, cap: int, stopped: threading.Event) -> None:
    """Do an honest job while the other agent is stopped, and for two orders after that."""
    after = 0
    for number in itertools.count():
        cents = _ORDERS_CENTS[number % len(_ORDERS_CENTS)]
        was_stopped = stopped.is_set()
        stripe.PaymentIntent.create(
            amount=cents, currency="usd", payment_method="pm_card_visa", confirm=True
        )
        what = f"charge ${cents / 100:.2f} for an order"
        stage.sent(run.label, what, run.spent, cap)
        after += was_stopped
        if after == _ORDERS_AFTER:
            return
        time.sleep(2 * _PACE_S)
