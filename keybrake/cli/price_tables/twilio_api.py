"""Read the prices of a Twilio account from the vendor's Pricing API, with GET requests only."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import click

from keybrake.cli.price_tables.toml_block import Figure
from keybrake.config.settings import Money
from keybrake.model.call import Reply
from keybrake.model.money import convert, usd
from keybrake.vendors.twilio import calling_codes

HOST = "https://pricing.twilio.com"
# Name of a price -> path of its list (twilio-python 9.13.0, OpenAPI document of 2026-04-14).
LISTS: Mapping[str, str] = {
    "sms_segment": "/v1/Messaging/Countries",
    "voice_minute": "/v2/Voice/Countries",
    "number_month": "/v1/PhoneNumbers/Countries",
}

_TRIES, _LONGEST_WAIT_S = 4, 20
_MOST_PAGES = 100
COUNTRY = re.compile(r"[A-Z]{2}")
_PRICE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")
_PREFIX = re.compile(r"\+?([1-9][0-9]{0,14})")


@dataclass(frozen=True, slots=True)
class Pricing:
    """
    The Pricing API of one account.

    Attributes:
        origin: Scheme and host of the API.
        get: Sends a GET for a path there; raises ``OSError`` if there is no answer.
        money: The exchange rates for prices in other currencies.
        today: The day to record with each price.
    """

    origin: str
    get: Callable[[str], Reply]
    money: Money
    today: str

    def countries(self, name: str) -> list[str]:
        """Return every country with prices of this name."""
        found: list[str] = []
        path: str | None = f"{LISTS[name]}?PageSize=1000"
        for _ in range(_MOST_PAGES):
            if path is None:
                return found
            page = self._get(path) or {}
            try:
                found += [_code(country["iso_country"]) for country in page["countries"]]
                following = page["meta"]["next_page_url"]
            except (KeyError, TypeError, ValueError) as error:
                raise self._not_understood(path, repr(error)) from None
            # Ignore the host in that URL: the credential must only go to self.origin.
            parts = urlsplit(str(following)) if following else None
            path = parts and f"{parts.path}?{parts.query}"
        msg = f"{self.origin}{LISTS[name]} has more than {_MOST_PAGES} pages"
        raise click.ClickException(msg)

    def figures(self, name: str, country: str) -> list[tuple[tuple[str, str], Figure]]:
        """
        Return the prices of the account in one country; empty if the vendor sells nothing there.

        Raises:
            click.ClickException: The vendor did not answer, its answer has another form than
                expected, or the prices are in a currency without a rate.
        """
        path = f"{LISTS[name]}/{country}"
        body = self._get(path)
        if body is None:
            return []
        try:
            unit = str(body["price_unit"]).lower()
            return [
                ((name, key), Figure(self._usd(price, unit, path), (country,), self.today))
                for key, price in _READERS[name](body, country)
            ]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._not_understood(path, repr(error)) from None

    def _usd(self, price: str, unit: str, path: str) -> str:
        if unit == "usd":
            return price
        rate = self.money.rate(unit)
        if rate is None:
            msg = f"the prices at {path} are in {unit.upper()}, and {self.money.why_no_rate(unit)}"
            raise click.ClickException(msg)
        whole, _, part = price.partition(".")
        return f"{usd(convert(int(whole + part), len(part), rate)):f}"

    def _get(self, path: str) -> Any:
        """Return the decoded answer; None if there is nothing at *path*."""
        reply = self._answer(path)
        if reply.status == 404:
            return None
        if reply.status != 200:
            hint = "; is the credential right?" if reply.status in (401, 403) else ""
            msg = f"{self.origin}{path} answered {reply.status}{hint}"
            raise click.ClickException(msg)
        try:
            body = json.loads(reply.body or b"", parse_float=Decimal)
        except ValueError as error:
            raise self._not_understood(path, str(error)) from None
        if not isinstance(body, dict):
            raise self._not_understood(path, "no object")
        return body

    def _answer(self, path: str) -> Reply:
        for attempt in range(1, _TRIES + 1):
            try:
                reply = self.get(path)
            except (OSError, HTTPException) as error:
                if attempt < _TRIES:
                    time.sleep(attempt / 4)
                    continue
                msg = f"{self.origin} did not answer: {error}"
                raise click.ClickException(msg) from None
            # A GET is safe to repeat, and --all makes so many that some get 429.
            status = reply.status or 0
            if attempt == _TRIES or (status != 429 and status < 500):
                break
            time.sleep(_wait_s(reply, attempt))
        return reply

    def _not_understood(self, path: str, why: str) -> click.ClickException:
        return click.ClickException(f"the answer of {self.origin}{path} is not understood: {why}")


def _wait_s(reply: Reply, attempt: int) -> float:
    said = {name.lower(): value for name, value in reply.headers.items()}.get("retry-after", "")
    return min(int(said) if said.isdecimal() else attempt / 4, _LONGEST_WAIT_S)


def _code(said: Any) -> str:
    if not isinstance(said, str) or not COUNTRY.fullmatch(said):
        msg = f"{str(said)[:40]!r} is no country"
        raise ValueError(msg)
    return said


def _price(entry: Mapping[str, Any]) -> str:
    """Return the current price of the account, else the price without discounts."""
    said = entry.get("current_price")
    text = str(entry["base_price"] if said is None else said)
    if not _PRICE.fullmatch(text):
        msg = f"{text[:40]!r} is no price"
        raise ValueError(msg)
    return text


def _sms(body: Mapping[str, Any], country: str) -> Iterator[tuple[str, str]]:
    """Yield the dearest price over all carriers and sender types, once for each calling code."""
    prices = [_price(p) for carrier in body["outbound_sms_prices"] or () for p in carrier["prices"]]
    if prices:
        for prefix in calling_codes.prefixes().get(country, ()):
            yield prefix, max(prices, key=Fraction)


def _voice(body: Mapping[str, Any], _: str) -> Iterator[tuple[str, str]]:
    """Yield a price for each prefix; these prices hold for every origin of a call."""
    for entry in body["outbound_prefix_prices"] or ():
        price = _price(entry)
        for prefix in entry["destination_prefixes"]:
            digits = _PREFIX.fullmatch(str(prefix))
            if digits is None:
                msg = f"{str(prefix)[:40]!r} is no prefix"
                raise ValueError(msg)
            yield f"+{digits[1]}", price


def _numbers(body: Mapping[str, Any], country: str) -> Iterator[tuple[str, str]]:
    """Yield a price for each type of number: ``US:local``, ``US:tollfree``."""
    for entry in body["phone_number_prices"] or ():
        kind = re.sub("[^a-z]", "", str(entry["number_type"]).lower())
        if not kind:
            msg = "a type of number has no name"
            raise ValueError(msg)
        yield f"{country}:{kind}", _price(entry)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Iterator[tuple[str, str]]]] = {
    "sms_segment": _sms,
    "voice_minute": _voice,
    "number_month": _numbers,
}
