"""What it costs to know what a call is and what it cost: pure work, beside one admission."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from keybrake.config.settings import Config, Money, parse
from keybrake.model.call import Attempt, Reply, Request
from keybrake.vendors import VENDORS
from tests.bench._ledger import Ours
from tests.bench._measure import TIMES_HEAD, Row, interleaved, lines_of, ratio
from tests.bench._report import Aim, Section, table

_PRICES = {"prices": {"twilio": {"sms_segment": {"+1": "0.0145"}}}}

# One ordinary call of each vendor, and its answer.
_CALLS: dict[str, tuple[Request, dict[str, Any]]] = {
    "stripe": (
        Request(
            "stripe",
            "POST",
            "https://api.stripe.com/v1/payment_intents",
            {"amount": 2999, "currency": "usd", "automatic_payment_methods": {"enabled": True}},
        ),
        {
            "id": "pi_1",
            "object": "payment_intent",
            "amount": 2999,
            "amount_capturable": 0,
            "amount_received": 2999,
            "currency": "usd",
            "status": "succeeded",
        },
    ),
    "twilio": (
        Request(
            "twilio",
            "POST",
            "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
            {"To": "+14155550100", "From": "+14155550101", "Body": "Your table is ready. " * 6},
            account="AC1",
        ),
        {"sid": "SM1", "status": "queued", "num_segments": "1", "price": None, "price_unit": None},
    ),
    "resend": (
        Request(
            "resend",
            "POST",
            "https://api.resend.com/emails",
            {"from": "a@example.com", "to": ["b@example.com"], "subject": "Hi", "text": "Hello"},
        ),
        {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"},
    ),
}


_TEXT = """\
What the guard does beside the ledger: find out what a call is and what it can cost, and read what
came back. No SDK, no network; in turns with one admission at the default durability."""


def measure(folder: Path, *, short: bool) -> Section:
    """Measure describe + outcome of one call of each vendor, beside one admission."""
    with closing(Ours(folder / "ledger.db", durability="power")) as ours:
        works = [_work_of(name) for name in _CALLS]
        rounds = 100 if short else 2000
        admits, *times = interleaved(rounds, ours.admit, *works, before=(ours.prepare,))
        ours.check()
    taken = dict(zip(_CALLS, times, strict=True))
    rows = [Row("admit, power", admits)]
    rows += [Row(f"describe + outcome, {name}", found, admits) for name, found in taken.items()]
    aims = [
        Aim(f"describe + outcome, {name}, to one admission", ratio(found, admits), most=0.1)
        for name, found in taken.items()
    ]
    return Section("Beside the ledger", (_TEXT, table(TIMES_HEAD, lines_of(rows))), aims)


def _work_of(name: str) -> Callable[[], object]:
    """Return what describes one call of a vendor and reads its answer."""
    vendor = VENDORS[name]
    money: Money = parse(_PRICES, source="bench", default=Config("sqlite:///x")).money
    request, body = _CALLS[name]
    reply = Reply(200, {}, json.dumps(body), (Attempt(200),))

    def work() -> object:
        call = vendor.describe(request, money)
        assert call.refusal is None
        return vendor.outcome(call, reply, money)

    return work
