"""Do random calls beside each other, priced by what others change, ever move more than the cap?"""

import random
import threading
from collections import Counter
from typing import Any

import pytest
import stripe

import keybrake
from keybrake.testing import FakeStripe, Fault

CAP = 60
_THREADS, _CALLS = 3, 8


def _intents() -> list[str]:
    """Make intents of ten dollars outside of every run: held, charged, and still open."""
    card = {"amount": 1000, "currency": "usd", "payment_method": "pm_card_visa"}
    kinds = [{"confirm": True, "capture_method": "manual"}, {"confirm": True}, {}]
    return [stripe.PaymentIntent.create(**card, **kind).id for kind in kinds * 2]


def _one(dice: random.Random, intent: str) -> Any:  # noqa: PLR0911 -- one of seven calls
    """Make one call at random, of those that move an intent or change what it comes to."""
    cents = dice.choice([300, 1000, 2500])
    match dice.randrange(7):
        case 0:
            return stripe.Refund.create(payment_intent=intent)
        case 1:
            return stripe.Refund.create(payment_intent=intent, amount=cents)
        case 2:
            return stripe.PaymentIntent.capture(intent)
        case 3:
            final = dice.random() < 0.5
            return stripe.PaymentIntent.capture(
                intent, amount_to_capture=min(cents, 1000), final_capture=final
            )
        case 4:
            return stripe.PaymentIntent.increment_authorization(intent, amount=cents)
        case 5:
            return stripe.PaymentIntent.modify(intent, amount=cents)
        case _:
            return stripe.PaymentIntent.confirm(intent)


def _work(seed: int, intents: list[str], said: Counter[str]) -> None:
    dice = random.Random(seed)
    for _ in range(_CALLS):
        try:
            _one(dice, dice.choice(intents))
            said["made"] += 1
        except keybrake.CallRefused as no:
            said[no.reason] += 1
        except stripe.StripeError:
            said["declined or lost"] += 1


def _moved(intents: list[str]) -> int:
    """Return how many cents were ever taken and given back."""
    taken = sum(stripe.PaymentIntent.retrieve(one).amount_received for one in intents)
    refunds = [refund for one in intents for refund in stripe.Refund.list(payment_intent=one).data]
    return taken + sum(refund.amount for refund in refunds if refund.status == "succeeded")


def _live(fake: FakeStripe, seed: int) -> Counter[str]:
    """Let three threads call at random under one cap; return what they were told."""
    intents, said = _intents(), Counter[str]()
    before = _moved(intents)
    for kind in ("slow", "error_500_after", "reset_before"):
        fake.inject(Fault(kind, method=None, probability=0.15, seed=seed, delay=0.02), times=4)
    with keybrake.run("chaos", cap=CAP) as run:
        threads = [
            threading.Thread(target=_work, args=(100 * seed + number, intents, said))
            for number in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    fake.clear_faults()

    assert _moved(intents) - before <= 100 * CAP
    assert run.spent + run.reserved <= CAP
    return said


@pytest.mark.parametrize("seed", range(8))
def test_random_calls_move_no_more_than_the_cap(fake, ledger_url, rows, seed):
    """Refunds, captures, raises and confirmations at once: moved is at most the cap, no row overran."""
    said = _live(fake, seed)

    assert sum(said.values()) == _THREADS * _CALLS
    assert not any(row["reason"] == "overrun" for row in rows())
