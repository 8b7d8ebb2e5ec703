"""Serve the endpoints for voice calls and recordings."""

from typing import Any

from keybrake.testing.fake_twilio.errors import TwilioFailure, check_numbers
from keybrake.testing.fake_twilio.outcome import Ask, Outcome
from keybrake.testing.fake_twilio.store import Priced, Store, now, shown_price

_LIVE = ("queued", "ringing", "in-progress")


def create(ask: Ask) -> Outcome:
    """Place a call; its duration is set when it finishes."""
    to, sender = ask.needed("To", 21201), ask.needed("From", 21213)
    check_numbers(to, sender)
    if not (ask.text("Url") or ask.text("Twiml") or ask.text("ApplicationSid")):
        raise TwilioFailure(message="A Url, Twiml or ApplicationSid is required.", code=21205)
    sid = ask.store.new_sid("CA")
    call = {
        "sid": sid,
        "account_sid": ask.account,
        "api_version": "2010-04-01",
        "date_created": None,
        "date_updated": None,
        "direction": "outbound-api",
        "duration": None,
        "end_time": None,
        "from": sender,
        "parent_call_sid": None,
        "price": None,
        "price_unit": "USD",
        "start_time": None,
        "status": "queued",
        "to": to,
        "uri": f"/2010-04-01/Accounts/{ask.account}/Calls/{sid}.json",
    }
    # By default the call is answered and lasts at most a minute.
    move = ask.store.add_priced(call, "call", ask.store.rates["voice_minute"], hang_up)
    return Outcome(call, move, status=201)


def set_duration(store: Store, sid: str, seconds: int) -> None:
    """Set the duration of a call, and its cost, rounded up to whole minutes."""
    priced = store.priced[sid]
    priced.body["duration"] = str(seconds)
    priced.cost = max(1, -(-seconds // 60)) * store.rates["voice_minute"]


def hang_up(priced: Priced) -> None:
    """End a call, and set its price."""
    body = priced.body
    if body["status"] == "canceled":
        return
    if body["status"] in _LIVE:
        body.update(status="completed", end_time=now(), date_updated=now())
    body["duration"] = body["duration"] or "1"
    body["price"] = shown_price(priced.cost)


def retrieve(ask: Ask, sid: str) -> Outcome:
    """Return a call."""
    return Outcome(ask.store.find("CA", sid, ask.path))


def update(ask: Ask, sid: str) -> Outcome:
    """End a call, or change its instructions."""
    call = ask.store.find("CA", sid, ask.path)
    if call["status"] not in _LIVE:
        raise TwilioFailure(message="Call is not in-progress. Cannot redirect.", code=21220)
    status = ask.text("Status")
    move = None
    if status == "canceled":
        call.update(status="canceled", end_time=now())
        ask.store.priced[sid].cost = 0
        move = ask.store.move(sid)
    elif status == "completed":
        call.update(status="completed", end_time=now())
    return Outcome(call, move)


def record(ask: Ask, call_sid: str) -> Outcome:
    """Record a live call."""
    ask.store.find("CA", call_sid, ask.path)
    sid = ask.store.new_sid("RE")
    recording: dict[str, Any] = {
        "sid": sid,
        "account_sid": ask.account,
        "call_sid": call_sid,
        "date_created": now(),
        "duration": None,
        "price": None,
        "price_unit": None,
        "status": "in-progress",
        "uri": f"/2010-04-01/Accounts/{ask.account}/Recordings/{sid}.json",
    }
    cost = ask.store.rates["recording_minute"]
    return Outcome(recording, ask.store.add_priced(recording, "recording", cost, stop), status=201)


def stop(priced: Priced) -> None:
    """End a recording, and set its price."""
    priced.body.update(status="completed", duration="1", price_unit="USD")
    priced.body["price"] = shown_price(priced.cost)


def retrieve_recording(ask: Ask, *sids: str) -> Outcome:
    """Return a recording."""
    return Outcome(ask.store.find("RE", sids[-1], ask.path))
