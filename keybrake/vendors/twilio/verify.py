"""Price verifications: a fee for success, and a price for each code that is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Lookup, Outcome, State
from keybrake.vendors.twilio import answers
from keybrake.vendors.twilio.form import Form
from keybrake.vendors.twilio.prices import by_number, e164, known, to_destination

START = "twilio.verify.verifications.create"
CHECKS = ("twilio.verify.verification_check.create", "twilio.verify.verifications.update")
ATTEMPT = "twilio.verify.attempts.retrieve"

# A channel that may fall back on a second one is priced as both.
_FALLS_BACK = {"whatsapp": ("whatsapp", "sms")}


def start(call: Call, form: Form, money: Money) -> Call:
    """Price a call that sends a code: the code itself, and the fee if it succeeds."""
    fee = _success(money)
    return call._replace(value_micros=fee + _code(form, money), gathered=(fee,))


def check(call: Call, form: Form, ids: tuple[str, ...], money: Money) -> Call:
    """
    Price a call that may end a verification with success.

    If the ledger knows the verification, the call that started it has reserved the fee already.
    """
    if call.endpoint == CHECKS[1] and form.text("Status") == "canceled":
        return call
    sid = ids[-1] if call.endpoint == CHECKS[1] else form.text("VerificationSid")
    fee = _success(money)
    call = call._replace(value_micros=fee, gathered=(fee,))
    if sid is None or not sid.startswith("VE"):
        return call  # the request names only the destination; the answer names the verification
    position = answers.key(call, sid)
    return call._replace(position=position, lookup=Lookup(known_as=position))


def _success(money: Money) -> int:
    name = "verify_success"
    return known(money.prices.one("twilio", name), name, "", "a verification")


def _code(form: Form, money: Money) -> int:
    to, channel = form.text("To") or "", (form.text("Channel") or "sms").lower()
    to = e164(to) or to
    if channel == "auto":
        return max(_channel(name, to, money) for name in _channels(money))
    return sum(_channel(name, to, money) for name in _FALLS_BACK.get(channel, (channel,)))


def _channels(money: Money) -> set[str]:
    table: Mapping[str, Any] = money.prices.rows.get(("twilio", "verify_channel"), {})
    return {"sms", *(key.partition(":")[0] for key in table)}


def _channel(channel: str, to: str, money: Money) -> int:
    if not to.startswith("+"):
        price = to_destination(money, "verify_channel", to, channel)
        return known(price, "verify_channel", f"{channel!a:.20}", "a code to that destination")
    return by_number("verify_channel", to, money, f"a code by {channel!a:.20}", channel)


def sent(call: Call, body: Mapping[str, Any] | None) -> Outcome:
    """Return the outcome of a call that sent a code."""
    sid = answers.sid_of(body) if body else None
    if body is None or sid is None:
        return answers.UNREADABLE
    value, attempts = call.value_micros or 0, body.get("send_code_attempts")
    if isinstance(attempts, list) and len(attempts) > 1 and isinstance(attempts[-1], Mapping):
        # A further code for an open verification: the call that started it counted the fee.
        sid = answers.sid_of(attempts[-1], "attempt_sid") or sid
        value -= sum(call.gathered)
    return answers.told(call, sid, answers.Worth("estimated", max(0, value)))


def checked(call: Call, body: Mapping[str, Any] | None) -> Outcome:
    """Return the outcome of a call that checked a code."""
    if body is None:
        return answers.UNREADABLE
    sid = answers.sid_of(body)
    if body.get("status") != "approved" or not call.gathered:
        # Not approved, or the fee was counted when the verification started.
        return Outcome(State.SETTLED, value_micros=0, object_id=sid)
    if sid is None:
        return answers.UNREADABLE
    # If the ledger has counted this verification after all, its larger value stays: a call that
    # was not admitted on a position cannot lower it.
    return answers.told(call, sid, answers.Worth("settled", call.value_micros or 0))


def attempted(call: Call, body: Mapping[str, Any], money: Money | None) -> Outcome | None:
    """Return the outcome of a read that shows the price of a code; None: no price yet."""
    own = call.position is not None  # a further code, which has its own position
    sid = answers.sid_of(body, "sid" if own else "verification_sid")
    shown = body.get("price")
    if sid is None or not isinstance(shown, Mapping):
        return None
    price = answers.price_of(shown.get("value"), shown.get("currency"), money)
    if price is None:
        return None
    fee = 0 if own or money is None else money.prices.one("twilio", "verify_success") or 0
    # A verification that has not succeeded yet still may, so its fee stays an estimate.
    ended = own or body.get("conversion_status") == "converted"
    worth = answers.Worth("settled" if ended else "estimated", price.micros + fee, price)
    return answers.told(call, sid, worth, observed=True)
