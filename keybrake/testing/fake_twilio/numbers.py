"""Serve the endpoints that buy, look up and verify phone numbers."""

from typing import Any

from keybrake.testing.fake_twilio.errors import TwilioFailure
from keybrake.testing.fake_twilio.outcome import Ask, Outcome
from keybrake.testing.fake_twilio.store import Priced, now, now_iso
from keybrake.testing.journal import Move

_CODE = "123456"
"""The code that is right for every verification."""


def buy(ask: Ask) -> Outcome:
    """Sell a number, and charge its first month."""
    number = ask.text("PhoneNumber")
    if not number and ask.text("AreaCode"):
        number = f"+1{ask.text('AreaCode')}5550100"
    if not number:
        raise TwilioFailure(message="Either 'PhoneNumber' or 'AreaCode' is required.", code=21452)
    sid = ask.store.new_sid("PN")
    bought = ask.store.add(
        {
            "sid": sid,
            "account_sid": ask.account,
            "date_created": now(),
            "friendly_name": ask.text("FriendlyName", number),
            "phone_number": number,
            "status": "in-use",
            "type": "tollfree" if number.startswith("+18") else "local",
            "uri": f"/2010-04-01/Accounts/{ask.account}/IncomingPhoneNumbers/{sid}.json",
        }
    )
    cost = ask.store.rates["number_month"]
    return Outcome(bought, Move("number", sid, cost, "usd", "in-use", True, cost), status=201)  # noqa: FBT003 -- Move.moved


def retrieve(ask: Ask, sid: str) -> Outcome:
    """Return a number that was bought."""
    return Outcome(ask.store.find("PN", sid, ask.path))


def release(ask: Ask, sid: str) -> Outcome:
    """Release a number, without a refund."""
    ask.store.find("PN", sid, ask.path)
    del ask.store.objects[sid]
    return Outcome(None, status=204)


def look_up(ask: Ask, number: str) -> Outcome:
    """Look up a number; each field beyond validation has a price, although this is a GET."""
    asked = [field for name in ("Fields", "Type", "AddOns") for field in ask.texts(name)]
    paid = [part for field in asked for part in field.split(",") if part not in ("", "validation")]
    body: dict[str, Any] = {
        "phone_number": number,
        "country_code": "US" if number.startswith("+1") else None,
        "valid": True,
        "url": f"https://lookups.twilio.com/v2/PhoneNumbers/{number}",
        **{field: {"error_code": None} for field in paid},
    }
    cost = len(paid) * ask.store.rates["lookup_field"]
    sid = ask.store.new_sid("LK")
    return Outcome(body, Move("lookup", sid, cost, "usd", "", bool(paid), cost) if paid else None)


def verify(ask: Ask, service: str) -> Outcome:
    """Send a code; a repeated request for the same destination joins its pending verification."""
    to, channel = ask.needed("To", 60200), ask.needed("Channel", 60200)
    verification = _pending(ask, service, to) or ask.store.add(
        {
            "sid": ask.store.new_sid("VE"),
            "service_sid": service,
            "account_sid": ask.account,
            "to": to,
            "status": "pending",
            "valid": False,
            "date_created": now_iso(),
            "send_code_attempts": [],
        }
    )
    attempt = {
        "sid": ask.store.new_sid("VL"),
        "account_sid": ask.account,
        "service_sid": service,
        "verification_sid": verification["sid"],
        "channel": channel,
        "conversion_status": "unconverted",
        "date_created": now_iso(),
        "price": {"value": None, "currency": "usd"},
    }
    cost = ask.store.rates["verify_code"]
    move = ask.store.add_priced(attempt, "verification", cost, _set_price)
    sent = {"attempt_sid": attempt["sid"], "channel": channel, "time": now_iso()}
    verification["send_code_attempts"].append(sent)
    verification["channel"] = channel
    return Outcome(verification, move, status=201)


def _pending(ask: Ask, service: str, to: str) -> dict[str, Any] | None:
    for verification in ask.store.every("VE"):
        mine = verification["service_sid"] == service and verification["to"] == to
        if mine and verification["status"] == "pending":
            return verification
    return None


def _set_price(priced: Priced) -> None:
    priced.body["price"] = {"value": f"{priced.cost / 1_000_000:.5f}", "currency": "usd"}


def check(ask: Ask, service: str) -> Outcome:
    """Check a code; charge for the verification if the code is right."""
    sid = ask.text("VerificationSid")
    found = ask.store.find("VE", sid, ask.path) if sid else _pending(ask, service, ask.text("To"))
    if found is None or found["status"] != "pending":
        raise TwilioFailure(
            message=f"The requested resource {ask.path} was not found", code=20404, status=404
        )
    if ask.text("Code") != _CODE:
        return Outcome(found, status=201)
    found.update(status="approved", valid=True)
    for attempt in found["send_code_attempts"]:
        ask.store.objects[attempt["attempt_sid"]]["conversion_status"] = "converted"
    cost = ask.store.rates["verify_success"]
    move = Move("verification", found["sid"], cost, "usd", "approved", True, cost)  # noqa: FBT003 -- Move.moved
    return Outcome(found, move, status=201)


def retrieve_attempt(ask: Ask, sid: str) -> Outcome:
    """Return one attempt to send a code."""
    return Outcome(ask.store.find("VL", sid, ask.path))


def retrieve_verification(ask: Ask, _service: str, sid: str) -> Outcome:
    """Return a verification."""
    return Outcome(ask.store.find("VE", sid, ask.path))
