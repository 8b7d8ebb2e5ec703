"""Read and write the pulled prices between two marks in ``keybrake.toml``; all else is kept."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

import click

from keybrake.config import settings
from keybrake.vendors.twilio import calling_codes

BEGIN = "# >>> keybrake prices pull twilio: --write replaces what stands between these marks >>>"
END = "# <<< keybrake prices pull twilio <<<"
NOT_PULLED = "none"

_HEAD = "# What this Twilio account pays, from the vendor's Pricing API. Carriers' fees may come on top."
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$\n?", re.MULTILINE | re.DOTALL)
_NOTED = re.compile(r'^"([^"]+)" = "[^"]*"  # ([A-Z ]+), ([0-9-]{10})', re.MULTILINE)
_BY_DESTINATION = ("sms_segment", "voice_minute")


class Figure(NamedTuple):
    """A price of Twilio: USD as text, its countries, and the day on which it was pulled."""

    usd: str
    countries: tuple[str, ...] = ()
    on: str = ""


Figures = Mapping[tuple[str, str], Figure]
"""By name, such as ``sms_segment``, and key, such as ``+1``."""


def with_dearest(found: Iterable[tuple[tuple[str, str], Figure]]) -> dict[tuple[str, str], Figure]:
    """Return one price for each key: the highest, because countries may share a calling code."""
    figures: dict[tuple[str, str], Figure] = {}
    for place, new in found:
        old = figures.get(place, new)
        countries = tuple(sorted({*old.countries, *new.countries}))
        usd = max(old.usd, new.usd, key=Fraction)
        figures[place] = Figure(usd, countries, min(old.on, new.on))
    return figures


def merged(old: Figures, new: Figures, pulled: AbstractSet[tuple[str, str]]) -> Figures:
    """
    Return *new*, together with the prices in *old* that were not pulled again.

    Args:
        old: The prices in the file.
        new: The prices that Twilio has just returned.
        pulled: Names and countries of the requests that were just made.
    """
    kept = [
        (place, figure)
        for place, figure in old.items()
        if figure.usd != NOT_PULLED
        and (not figure.countries or {(place[0], c) for c in figure.countries} - pulled)
    ]
    return with_dearest([*kept, *new.items()])


def closed(figures: Figures) -> Figures:
    """
    Return *figures*, with ``none`` for each prefix that another country's shorter prefix would match.

    Otherwise a number in that country would get the price of the other country.
    """
    found = dict(figures)
    for name in _BY_DESTINATION:
        keys = [key for place, key in figures if place == name]
        for prefix, country in calling_codes.within(keys).items():
            found[name, prefix] = Figure(NOT_PULLED, (country,))
    return found


def block(figures: Figures) -> str:
    """Return *figures* as the block of a ``keybrake.toml`` that ``--write`` writes."""
    return "\n".join([BEGIN, _HEAD, *_lines(figures), END, ""])


def _lines(figures: Figures) -> Iterator[str]:
    for name, places in groupby(sorted(figures), key=lambda place: place[0]):
        yield f"[prices.twilio.{name}]"
        for place in places:
            usd, countries, on = figures[place]
            note = f"  # {' '.join(countries)}" if countries else ""
            if usd == NOT_PULLED:
                note += " is not priced here, so it is refused"
            yield f'"{place[1]}" = "{usd}"{note}{f", {on}" if on else ""}'


def figures_in(text: str) -> Figures:
    """
    Return the figures between the marks of a ``keybrake.toml``.

    Raises:
        click.ClickException: The marks are not one pair, or there is no TOML between them.
    """
    text = text.replace("\r\n", "\n")
    found = _BLOCK.findall(text)
    if len(found) > 1 or text.count(BEGIN) != len(found) or text.count(END) != len(found):
        msg = (
            f"the marks of pulled prices are not one pair; take away what is left of them: {BEGIN}"
        )
        raise click.ClickException(msg)
    if not found:
        return {}
    try:
        tables = tomllib.loads(found[0]).get("prices", {}).get("twilio", {})
    except tomllib.TOMLDecodeError as error:
        msg = f"the text between the marks of pulled prices cannot be read: {error}"
        raise click.ClickException(msg) from None
    noted = {key: (names, on) for key, names, on in _notes(found[0])}
    return {
        (name, key): Figure(str(usd), *noted.get((name, key), ((), "")))
        for name, table in tables.items()
        for key, usd in table.items()
    }


def _notes(text: str) -> Iterator[tuple[tuple[str, str], tuple[str, ...], str]]:
    for part in text.split("[prices.twilio.")[1:]:
        name, _, lines = part.partition("]\n")
        for key, countries, on in _NOTED.findall(lines):
            yield (name, key), tuple(countries.split()), on


def written_into(text: str, figures: Figures, source: str) -> str:
    """
    Return the ``keybrake.toml`` *text* with *figures* between the marks, and all else unchanged.

    Raises:
        click.ClickException: The result would not be TOML, or would change another setting.
        PolicyError: The result would not be a valid configuration.
    """
    line_end = "\r\n" if "\r\n" in text else "\n"
    plain = text.replace("\r\n", "\n")
    new = block(figures)
    if _BLOCK.search(plain):
        result = _BLOCK.sub(lambda _: new, plain, count=1)
    else:
        gap = "" if not plain else "\n" if plain.endswith("\n") else "\n\n"
        result = f"{plain}{gap}{new}"
    _check(_BLOCK.sub("", plain), result, source)
    return result.replace("\n", line_end)


def _check(without: str, result: str, source: str) -> None:
    try:
        given = tomllib.loads(result, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        msg = (
            f"{source} is left as it is: with the pulled prices it cannot be read ({error}). A table "
            f"of {', '.join(_BY_DESTINATION)} or number_month of your own? Take it away first"
        )
        raise click.ClickException(msg) from None
    if _rest(result) != _rest(without):
        msg = f"{source} is left as it is: a key below the marks would become a price; move it up"
        raise click.ClickException(msg)
    settings.parse(given, source=source, default=settings.Config(""))


def _rest(text: str) -> Mapping[str, Any]:
    """Return all settings in *text* except the tables that a pull writes."""
    given = tomllib.loads(text, parse_float=Decimal)
    prices = given.get("prices", {})
    twilio = prices.get("twilio", {})
    for name in (*_BY_DESTINATION, "number_month"):
        twilio.pop(name, None)
    if not twilio:
        prices.pop("twilio", None)
    if not prices:
        given.pop("prices", None)
    return given
