"""Unit prices: the shipped tables, and the operator's tables in ``[prices.*]`` that replace them."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.errors import PolicyError
from keybrake.model import data_files
from keybrake.model.money import MICROS
from keybrake.model.shown import shown

# The forms of a price: one amount; a table of amounts by destination, by country and number type, or
# by a name of the vendor; a table of tables by destination; or a count that is not money.
_AMOUNT, _PREFIXES, _NUMBERS, _TABLE, _TABLES, _COUNT = (
    "amount", "prefixes", "numbers", "table", "tables", "count",
)  # fmt: skip

NAMES: Mapping[str, Mapping[str, str]] = {
    "stripe": {"endpoint": _TABLE, "meter_event": _TABLE},
    "twilio": {
        "sms_segment": _PREFIXES,
        "mms_message": _PREFIXES,
        "whatsapp_session": _AMOUNT,
        "whatsapp_template_max": _AMOUNT,
        "voice_minute": _PREFIXES,
        "default_time_limit_s": _COUNT,
        "number_month": _NUMBERS,
        "lookup_field": _TABLE,
        "verify_success": _AMOUNT,
        "verify_channel": _TABLES,
        "failed_message_fee": _AMOUNT,
        "worst_segments_unknown_body": _COUNT,
        "endpoint": _TABLE,
    },
    "resend": {
        "per_recipient": _AMOUNT,
        "broadcast_per_recipient": _AMOUNT,
        "batch_max": _COUNT,
        "endpoint": _TABLE,
    },
}
"""Every name under ``[prices.*]``, and the form of its value."""

UNITS: Mapping[str, str] = {
    "sms_segment": "USD a segment",
    "mms_message": "USD a message",
    "whatsapp_session": "USD a message",
    "whatsapp_template_max": "USD a message",
    "voice_minute": "USD a minute",
    "default_time_limit_s": "seconds",
    "number_month": "USD a month",
    "lookup_field": "USD a look-up",
    "verify_success": "USD a verification",
    "verify_channel": "USD a message",
    "failed_message_fee": "USD a message",
    "worst_segments_unknown_body": "segments",
    "per_recipient": "USD a recipient",
    "broadcast_per_recipient": "USD a recipient",
    "batch_max": "emails",
    "endpoint": "USD a call",
    "meter_event": "USD a unit",
}
"""The unit of the figures under each name."""

_EXAMPLES = {
    _PREFIXES: '{ "+1" = "0.0145" }',
    _NUMBERS: '{ "US:local" = "1.15" }',
    _TABLE: '{ "name" = "0.01" }',
    _TABLES: '{ sms = { "+1" = "0.0083" } }',
}
ANY = "*"
"""The key for everything that no other key of the table matches."""

_NONE = "none"  # as in a policy: TOML has no null
_USD = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")
_DESTINATION = re.compile(r"\+[1-9][0-9]{0,14}")
_COUNTRY_AND_TYPE = re.compile(r"[A-Z]{2}:[a-z]+")
_WORD = re.compile(r"[!-~]+")
_CHANNEL = re.compile(r"[a-z_-]+")
_MOST_COUNT = 10**9


class Price(NamedTuple):
    """
    One figure in force, and its source.

    *value* is in micro-USD, or a plain number for a count. None: the operator wrote "none", so
    keybrake refuses calls that need this price.
    """

    vendor: str
    name: str
    key: str
    value: int | None
    as_of: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Prices:
    """
    The prices in force.

    Attributes:
        rows: (vendor, name) → key → price. The key is a destination or a field, ``sms:+1`` in a
            table of tables, or empty for a single amount.
    """

    rows: Mapping[tuple[str, str], Mapping[str, Price]]

    def one(self, vendor: str, name: str) -> int | None:
        """Return a single amount in micros, or a count; None: no price is known."""
        return self.exact(vendor, name, "")

    def exact(self, vendor: str, name: str, key: str) -> int | None:
        """Return the price under *key*, else under ``*``, in micros; None: no price is known."""
        table = self.rows.get((vendor, name), {})
        found = table.get(key) or table.get(ANY)
        return None if found is None else found.value

    def longest(
        self, vendor: str, name: str, number: str, *, within: str = "", code: str = ""
    ) -> int | None:
        """
        Return the price of the longest prefix of *number*, in micros; None: no prefix matches.

        A prefix shorter than *code* belongs to another country, so it does not match.

        Args:
            vendor: ``twilio``.
            name: Such as ``sms_segment``.
            number: A destination in E.164, such as ``+14155550100``.
            within: The inner table of a table of tables, such as ``sms:``.
            code: The country code at the start of *number*, such as ``+1876``.
        """
        table = self.rows.get((vendor, name), {})
        for end in range(len(number), max(len(code), 1) - 1, -1):
            if found := table.get(within + number[:end]):
                return found.value
        found = table.get(f"{within}{ANY}")
        return None if found is None else found.value

    def __iter__(self) -> Iterator[Price]:
        """Yield every figure, by vendor and name."""
        for _, table in sorted(self.rows.items()):
            yield from table.values()

    def with_tables(self, given: object, where: str) -> Prices:
        """
        Return a copy in which the tables of ``[prices.*]`` replace those of the same name.

        Raises:
            PolicyError: A name is unknown or a value is invalid; the text names both.
        """
        rows = dict(self.rows)
        for vendor, tables in _tables(given, NAMES, where):
            here = f"{where}.{vendor}"
            for name, value in _tables(tables, NAMES[vendor], here):
                read = _read(value, NAMES[vendor][name], f"{here}.{name}")
                rows[vendor, name] = {
                    key: Price(vendor, name, key, figure, None, where)
                    for key, figure in read.items()
                }
        return Prices(rows)


@functools.cache
def shipped() -> Prices:
    """Return the prices that come with keybrake, each with its source and date."""
    text = data_files.read("keybrake.config", "prices.csv")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows: dict[tuple[str, str], dict[str, Price]] = {}
    for row in csv.DictReader(lines):
        vendor, name, key = row["vendor"], row["name"], row["key"]
        count = NAMES[vendor][name] == _COUNT
        value = int(row["value"]) if count else _micros(row["value"])
        rows.setdefault((vendor, name), {})[key] = Price(
            vendor, name, key, value, row["as_of"], row["source"]
        )
    return Prices(rows)


def _micros(usd: str) -> int:
    exact = Fraction(usd) * MICROS
    return -(-exact.numerator // exact.denominator)


def _tables(given: object, known: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(given, Mapping):
        msg = f"{where}={shown(given)} is not a table"
        raise PolicyError(msg)
    if unknown := sorted(set(given) - set(known), key=str):
        msg = f"{where}: unknown key {shown(unknown[0])}; known are {', '.join(sorted(known))}"
        raise PolicyError(msg)
    yield from given.items()


def _read(value: object, kind: str, where: str) -> dict[str, int | None]:
    if kind == _AMOUNT:
        return {"": _amount(value, where)}
    if kind == _COUNT:
        return {"": _count(value, where)}
    if not isinstance(value, Mapping):
        msg = f"{where}={shown(value)} is not a table; write {_EXAMPLES[kind]}"
        raise PolicyError(msg)
    if kind != _TABLES:
        return {_key(key, kind, where): _amount(v, f"{where}.{key}") for key, v in value.items()}
    found = {}
    for channel, table in value.items():
        if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
            msg = f"{where}: {shown(channel)} is not a channel; write {_EXAMPLES[kind]}"
            raise PolicyError(msg)
        for key, figure in _read(table, _PREFIXES, f"{where}.{channel}").items():
            found[f"{channel}:{key}"] = figure
    return found


def _key(key: object, kind: str, where: str) -> str:
    """Return *key*; raise ``PolicyError`` if no call could ever match it."""
    forms = {_PREFIXES: _DESTINATION, _NUMBERS: _COUNTRY_AND_TYPE, _TABLE: _WORD}
    if isinstance(key, str) and (key == ANY or forms[kind].fullmatch(key)):
        return key
    if kind == _PREFIXES:
        digits = re.fullmatch(r"(?:\+|00)?([1-9][0-9]{0,14})", re.sub(r"[ ()-]", "", str(key)))
        meant = f'"+{digits[1]}"' if digits else '"+" and the country code, such as "+44", or "*"'
        msg = f"{where}: {shown(key)} is not a destination; write {meant}"
    else:
        msg = f"{where}: {shown(key)} is not a name of a price; write {_EXAMPLES[kind]}"
    raise PolicyError(msg)


def _amount(value: object, where: str) -> int | None:
    if value == _NONE:
        return None
    # Accept text only: a float is already rounded.
    if isinstance(value, str) and _USD.fullmatch(value):
        return _micros(value)
    msg = f'{where}={shown(value)} is not a price; write USD as text, such as "0.0145", or "none"'
    raise PolicyError(msg)


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_COUNT:
        msg = f"{where}={shown(value)} is not a whole number from 1 up"
        raise PolicyError(msg)
    return value
