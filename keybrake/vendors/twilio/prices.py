"""The highest cost of a Twilio request in micros: messages, phone calls, numbers and look-ups."""

from __future__ import annotations

import re
from collections.abc import Mapping

from keybrake.config.settings import Money
from keybrake.vendors.twilio import calling_codes, sms_segments
from keybrake.vendors.twilio.form import Form, no_rate, unknown

_E164 = re.compile(r"\+[1-9][0-9]{0,14}")
_PUNCTUATION = re.compile(r"[ ().-]")
_SECONDS_IN_A_MINUTE = 60


def endpoint_price(endpoint: str, money: Money, why: str = "") -> int:
    """Return the operator's price for one call of an endpoint; *why* says why it is needed."""
    price = money.prices.exact("twilio", "endpoint", endpoint)
    if price is None:
        said = f"{why}; " if why else ""
        words = (
            f"{said}there is no price for it; a person has to add "
            f'"{endpoint}" to endpoint under [prices.twilio] in keybrake.toml'
        )
        raise no_rate(words)
    return price


def known(price: int | None, name: str, key: str, what: str) -> int:
    """Return *price*, or raise ``Unpriced`` with the name of the missing price."""
    if price is None:
        where = f"add {key} to {name}" if key else f"write {name}"
        words = (
            f"there is no price for {what}; a person has to {where} under [prices.twilio] in "
            f"keybrake.toml"
        )
        raise no_rate(words)
    return price


# The tables that `keybrake prices pull twilio` fills; the vendor's Pricing API lists no other.
_PULLED = ("sms_segment", "voice_minute")


def to_destination(money: Money, name: str, number: str, channel: str = "") -> int | None:
    """
    Return the price of *number* in a table by destination; None: its country has no price.

    A price for ``+1`` is no price for Jamaica, because Jamaican numbers begin with ``+1876``.
    """
    code = calling_codes.code_of(number)
    within = f"{channel}:" if channel else ""
    return money.prices.longest("twilio", name, number, within=within, code=code)


def by_number(name: str, number: str, money: Money, what: str, channel: str = "") -> int:
    """Return the price for a number, or raise ``Unpriced`` with the missing country."""
    price = to_destination(money, name, number, channel)
    if price is None:
        raise no_rate(_no_destination(name, number, what, channel))
    return price


def _no_destination(name: str, number: str, what: str, channel: str) -> str:
    code, table = calling_codes.code_of(number), f"{name}.{channel}" if channel else name
    prefix = f'"{code}"' if code else "the beginning of that number"
    add = f"add {prefix} to {table}"
    place = "under [prices.twilio] in keybrake.toml"
    if not code:
        return f"there is no price for {what} to {number[:5]}…; a person has to {add} {place}"
    countries = sorted(calling_codes.of(number))
    outer = calling_codes.code_of(code[:-1])
    shorter = f'; a price for "{outer}" is no price for {code}' if outer else ""
    remedy = f"{add} {place} (`keybrake prices pull twilio` does not fill that table)"
    if name in _PULLED:
        remedy = f"run `keybrake prices pull twilio --country {countries[0]}`, or {add} {place}"
    shown = f"{code} ({', '.join(countries[:4])})"
    return f"there is no price for {what} to {shown}{shorter}; a person has to {remedy}"


def e164(to: str) -> str | None:
    """Return *to* as a number in E.164; None: it is not a telephone number."""
    bare = _PUNCTUATION.sub("", to)
    return bare if _E164.fullmatch(bare) else None


def message(form: Form, endpoint: str, money: Money) -> int:
    """Return the cost of a message by its channel, destination and number of segments."""
    to = form.text("To") or ""
    number = e164(to)
    if number is not None:
        return _sms(form, number, money)
    if to.lower().startswith("whatsapp:"):
        name = "whatsapp_template_max" if form["ContentSid"] else "whatsapp_session"
        return known(money.prices.one("twilio", name), name, "", "a WhatsApp message")
    channel = to.partition(":")[0] if ":" in to else ""
    why = f"the message goes to {channel!a:.20}" if channel else "To is no number in E.164"
    return endpoint_price(endpoint, money, why)


def _sms(form: Form, number: str, money: Money) -> int:
    if form["ContentSid"] or form.says("ShortenUrls"):
        # Twilio composes the message: it can be a text of any length, or an MMS.
        pictures = to_destination(money, "mms_message", number) or 0
        return max(_worst_text(number, money), pictures)
    if any(form.texts("MediaUrl")) or form.says("SendAsMms"):
        return by_number("mms_message", number, money, "an MMS")
    body = form.text("Body")
    if not body:
        return _worst_text(number, money)
    return sms_segments.count(body).segments * by_number("sms_segment", number, money, "an SMS")


def _worst_text(number: str, money: Money) -> int:
    name = "worst_segments_unknown_body"
    parts = known(money.prices.one("twilio", name), name, "", "a text of unknown length")
    return parts * by_number("sms_segment", number, money, "an SMS")


# TwiML verbs that cause further cost: more call legs, messages, or a card payment.
_REACHES_FURTHER = re.compile(r"<\s*(?:Dial|Pay|Refer|Sms|Message|Enqueue)\b", re.IGNORECASE)


def further(form: Form, endpoint: str, money: Money) -> int | None:
    """Return the operator's price for TwiML that causes further cost; None: it causes none."""
    if not _REACHES_FURTHER.search(form.text("Twiml") or ""):
        return None
    return endpoint_price(endpoint, money, "its TwiML causes further calls, messages or payments")


def call_time(form: Form, money: Money) -> int:
    """Return the longest time in seconds that a phone call can last."""
    name = "default_time_limit_s"
    longest = known(money.prices.one("twilio", name), name, "", "a call without TimeLimit")
    return form.seconds("TimeLimit", longest)


def voice(to: str, seconds: int, endpoint: str, money: Money) -> int:
    """Return the cost of a phone call of so many seconds, billed per started minute."""
    number = e164(to)
    if number is None:
        return endpoint_price(endpoint, money, "To is no number in E.164")
    minutes = max(1, -(-seconds // _SECONDS_IN_A_MINUTE))
    return minutes * by_number("voice_minute", number, money, "a call")


def call(form: Form, endpoint: str, money: Money) -> int:
    """Return the cost of a phone call that lasts until its time limit."""
    beside = further(form, endpoint, money)
    value = voice(form.text("To") or "", call_time(form, money), endpoint, money)
    return value if beside is None else max(value, beside)


def validation_call(form: Form, endpoint: str, money: Money) -> int:
    """Return the cost of the one-minute phone call in which Twilio validates a caller id."""
    return voice(form.text("PhoneNumber") or "", _SECONDS_IN_A_MINUTE, endpoint, money)


# Source: NANPA's list of toll-free codes, noted 2026-11-23.
_TOLL_FREE = re.compile(r"\+18(?:00|33|44|55|66|77|88)[0-9]*")
_TYPES = {
    "twilio.incoming_phone_numbers.local.create": ("local",),
    "twilio.incoming_phone_numbers.mobile.create": ("mobile",),
    "twilio.incoming_phone_numbers.toll_free.create": ("tollfree",),
}
_ALL_TYPES = ("local", "mobile", "tollfree", "national")


def number_month(form: Form, endpoint: str, money: Money) -> int:
    """Return the highest price of the first month of a number, over all types it can be."""
    code = form.text("AreaCode")
    number = form.text("PhoneNumber") or (f"+1{code}" if code else None)
    if number is None or (number := e164(number)) is None:
        words = "it names neither a PhoneNumber in E.164 nor an AreaCode"
        raise no_rate(words)
    countries = sorted(calling_codes.of(number))
    types = _TYPES.get(endpoint, _ALL_TYPES)
    if endpoint not in _TYPES and number.startswith("+1"):
        types = ("tollfree",) if _TOLL_FREE.match(number) else ("local",)
    keys = [f"{country}:{kind}" for country in countries for kind in types]
    found = [money.prices.exact("twilio", "number_month", key) for key in keys]
    dearest = max((price for price in found if price is not None), default=None)
    return known(dearest, "number_month", " or ".join(f'"{key}"' for key in keys[:4]), "a number")


def lookup(form: Form, money: Money) -> int:
    """Return the cost of a look-up of one number; 0 if it asks for no paid field."""
    asked = [field for text in form.texts("Fields") for field in text.split(",")]
    asked += [kind.replace("-", "_") for text in form.texts("Type") for kind in text.split(",")]
    asked += [name for text in form.texts("AddOns") for name in text.split(",")]
    return sum(_field(name.strip(), money) for name in asked if name.strip())


def _field(name: str, money: Money) -> int:
    if name == "validation":  # free: a look-up without any field returns it, too
        return 0
    price = money.prices.exact("twilio", "lookup_field", name)
    return known(price, "lookup_field", f"{name!a:.40}", "that look-up")


def lookups(form: Form, endpoint: str, money: Money) -> int:
    """Return the cost of a batch of look-ups."""
    del endpoint
    entries = form["phone_numbers"]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        words = "it does not list its phone_numbers"
        raise unknown(words)
    return sum(lookup(Form(entry), money) for entry in entries)
