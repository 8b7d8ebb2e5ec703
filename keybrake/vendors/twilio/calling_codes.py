"""The prefixes of each country's telephone numbers, and the countries that share a prefix."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping

from keybrake.model import data_files


@functools.cache
def prefixes() -> Mapping[str, tuple[str, ...]]:
    """Return the number prefixes, such as ``+1876``, of each country (ISO 3166 code)."""
    text = data_files.read("keybrake.vendors.twilio", "calling_codes.csv")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {row["country"]: tuple(row["prefixes"].split()) for row in csv.DictReader(lines)}


@functools.cache
def _by_prefix() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for country, theirs in prefixes().items():
        for prefix in theirs:
            found.setdefault(prefix, set()).add(country)
    return {prefix: frozenset(countries) for prefix, countries in found.items()}


def code_of(number: str) -> str:
    """
    Return the longest prefix of *number* in the table; an empty text: none.

    A number in Jamaica has ``+1876``, one in the United States ``+1``.
    """
    table = _by_prefix()
    ends = range(len(number), 1, -1)
    return next((number[:end] for end in ends if number[:end] in table), "")


def of(number: str) -> frozenset[str]:
    """
    Return the countries that *number* may be in.

    Several countries share a calling code: a ``+1`` number may be in the US or in Canada.
    """
    return _by_prefix().get(code_of(number), frozenset())


def sharing(country: str) -> set[str]:
    """Return *country* and the countries that share a number prefix with it."""
    table = _by_prefix()
    return {country}.union(*(table[prefix] for prefix in prefixes().get(country, ())))


def within(table: Iterable[str]) -> Mapping[str, str]:
    """
    Return the prefixes that *table* lacks although it has a shorter one, each with its country.

    A table with a price for ``+1`` but none for ``+1876`` has no price for a number in Jamaica.
    """
    known = set(table)
    return {
        prefix: country
        for country, theirs in prefixes().items()
        for prefix in theirs
        if prefix not in known and any(prefix[:end] in known for end in range(2, len(prefix)))
    }
