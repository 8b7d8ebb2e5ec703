"""Which countries' telephone numbers begin how, and who else's begin so."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping

from keybrake.model import data_files


@functools.cache
def prefixes() -> Mapping[str, tuple[str, ...]]:
    """Return by country (ISO 3166) the prefixes of its numbers, such as ``+1876``."""
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
    Return the longest beginning of *number* that the table has; empty: it has none.

    It is ``+1876`` for a number in Jamaica, and ``+1`` for one in the United States.
    """
    table = _by_prefix()
    ends = range(len(number), 1, -1)
    return next((number[:end] for end in ends if number[:end] in table), "")


def of(number: str) -> frozenset[str]:
    """
    Return the countries whose numbers begin as *number* does.

    Several share a calling code: what begins with ``+1`` may be in the US or in Canada.
    """
    return _by_prefix().get(code_of(number), frozenset())


def sharing(country: str) -> set[str]:
    """Return the countries whose numbers cannot be told from those of *country*, itself included."""
    table = _by_prefix()
    return {country}.union(*(table[prefix] for prefix in prefixes().get(country, ())))


def within(table: Iterable[str]) -> Mapping[str, str]:
    """
    Return the prefixes of other countries that only a shorter prefix of *table* covers.

    A price for ``+1`` is none for a number in Jamaica: only one for ``+1876`` or ``*`` is.

    Returns:
        Prefix → country.
    """
    known = set(table)
    return {
        prefix: country
        for country, theirs in prefixes().items()
        for prefix in theirs
        if prefix not in known and any(prefix[:end] in known for end in range(2, len(prefix)))
    }
