"""Serve the message endpoints: Twilio accepts a message at once and prices it later."""

from typing import Any

from keybrake.testing.fake_twilio.errors import TwilioFailure, check_numbers
from keybrake.testing.fake_twilio.outcome import Ask, Outcome
from keybrake.testing.fake_twilio.store import Priced, now, shown_price
from keybrake.vendors.twilio import sms_segments


def create(ask: Ask) -> Outcome:
    """Accept a message."""
    to, sender = ask.needed("To", 21604), ask.text("From")
    service = ask.text("MessagingServiceSid")
    if not sender and not service:
        ask.needed("From", 21603)
    check_numbers(to, sender)
    media, body = ask.texts("MediaUrl"), ask.text("Body")
    if not (body or media or ask.text("ContentSid")):
        raise TwilioFailure(message="Message body is required.", code=21602)
    if len(body) > 1600:
        raise TwilioFailure(
            message="The concatenated message body exceeds 1600 characters.", code=21617
        )
    parts = sms_segments.count(body).segments
    message = _body(ask, {"sender": sender, "service": service, "parts": parts, "media": media})
    return Outcome(
        message,
        ask.store.add_priced(message, "message", _cost(ask, to, parts), deliver),
        status=201,
    )


def _body(ask: Ask, facts: dict[str, Any]) -> dict[str, Any]:
    sid = ask.store.new_sid("MM" if facts["media"] else "SM")
    path = f"/2010-04-01/Accounts/{ask.account}/Messages/{sid}"
    scheduled = ask.text("ScheduleType") == "fixed"
    return {
        "sid": sid,
        "account_sid": ask.account,
        "api_version": "2010-04-01",
        "body": ask.text("Body"),
        "date_created": now(),
        "date_sent": None,
        "date_updated": now(),
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": facts["sender"] or None,
        "messaging_service_sid": facts["service"] or None,
        "num_media": str(len(facts["media"])),
        # With a Messaging Service, Twilio does not yet know the number of segments.
        "num_segments": "0" if facts["service"] else str(facts["parts"]),
        "price": None,
        "price_unit": None,
        "status": "scheduled" if scheduled else "accepted" if facts["service"] else "queued",
        "subresource_uris": {"media": f"{path}/Media.json"},
        "to": ask.text("To"),
        "uri": f"{path}.json",
    }


def _cost(ask: Ask, to: str, parts: int) -> int:
    rates = ask.store.rates
    if to.startswith("whatsapp:"):
        return rates["whatsapp_message"]
    if ask.texts("MediaUrl"):
        return rates["mms_message"]
    return parts * rates["sms_segment"]


def deliver(priced: Priced) -> None:
    """Mark a message as delivered, and set its price."""
    body = priced.body
    if body["status"] in ("canceled", "failed"):
        return
    body.update(status="delivered", date_sent=now(), date_updated=now())
    body.update(price=shown_price(priced.cost), price_unit="USD")


def retrieve(ask: Ask, sid: str) -> Outcome:
    """Return a message."""
    return Outcome(ask.store.find(_prefix(sid), sid, ask.path))


def update(ask: Ask, sid: str) -> Outcome:
    """Cancel a scheduled message, or redact the text of a message."""
    message = ask.store.find(_prefix(sid), sid, ask.path)
    if "Body" in ask.params and not ask.text("Body"):
        message["body"] = ""
    move = None
    if ask.text("Status") == "canceled":
        if message["status"] != "scheduled":
            raise TwilioFailure(
                message="Only a scheduled message can be canceled.", code=30409, status=409
            )
        message.update(status="canceled", date_updated=now())
        ask.store.priced[sid].cost = 0
        move = ask.store.move(sid)
    return Outcome(message, move)


def delete(ask: Ask, sid: str) -> Outcome:
    """Delete a message."""
    ask.store.find(_prefix(sid), sid, ask.path)
    del ask.store.objects[sid]
    return Outcome(None, status=204)


def _prefix(sid: str) -> str:
    return "MM" if sid.startswith("MM") else "SM"


def feedback(ask: Ask, sid: str) -> Outcome:
    """Accept feedback on whether a message arrived."""
    message = ask.store.find(_prefix(sid), sid, ask.path)
    outcome = ask.text("Outcome", "unconfirmed")
    body = {"account_sid": ask.account, "message_sid": message["sid"], "outcome": outcome}
    return Outcome(body, status=201)
