"""Where do a country's telephone numbers begin, and who else's begin so."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path


@functools.cache
def prefixes() -> Mapping[str, tuple[str, ...]]:
    """Return by country (ISO 3166) the prefixes of its numbers, such as ``+1876``."""
    text = Path(__file__).with_name("calling_codes.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {row["country"]: tuple(row["prefixes"].split()) for row in csv.DictReader(lines)}


def sharing(country: str) -> set[str]:
    """Return the countries whose numbers cannot be told from those of *country*, itself included."""
    own = prefixes().get(country, ())
    return {other for other, theirs in prefixes().items() if set(theirs) & set(own)} | {country}


def within(table: Iterable[str]) -> Mapping[str, str]:
    """
    Return the prefixes of other countries that only a shorter prefix of *table* covers.

    A price for ``+1`` is found for a number in Jamaica as well, unless ``+1876`` has its own.

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
