"""``keybrake prices``: show the prices and currency rates in force."""

from __future__ import annotations

from collections.abc import Sequence

import click

from keybrake.cli.price_tables import in_force, pull
from keybrake.cli.price_tables.in_force import Missing, RateShown, Shown
from keybrake.cli.ui.table import Cell, Column, Table
from keybrake.cli.ui.text import count, to_json
from keybrake.config import settings
from keybrake.config.prices import NAMES


@click.group(
    invoke_without_command=True,
    epilog="Example: keybrake prices --vendor twilio",
    help="""
Show the prices and currency rates in force, with source and age.

A call without a price is refused; below the table are the lines to write into keybrake.toml.
`keybrake prices pull twilio` asks Twilio for the prices of your account.
""",
)
@click.option("--vendor", type=click.Choice(sorted(NAMES)), help="Only prices of this vendor.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: prices, missing, rates.")
@click.pass_context
def prices(ctx: click.Context, vendor: str | None, *, as_json: bool) -> None:
    """See ``--help``."""
    if ctx.invoked_subcommand is not None:
        return
    config = settings.current()
    shown = list(in_force.prices(config, vendor))
    missing = list(in_force.missing(config, vendor))
    rates = list(in_force.rates(config))
    if as_json:
        click.echo(
            to_json(
                {
                    "prices": [price._asdict() for price in shown],
                    "missing": [one._asdict() for one in missing],
                    "rates": [rate._asdict() for rate in rates],
                    "margin_bps": config.money.margin_bps,
                }
            )
        )
        return
    _show_prices(shown)
    _show_missing(missing)
    _show_rates(rates, config.money.margin_bps)


def _show_prices(shown: Sequence[Shown]) -> None:
    table = Table(
        Column("price", gives_way=1, style="bold"),
        Column("for", gives_way=1),
        Column("value", right=True),
        Column("unit", gives_way=2, style="dim", optional=True),
        Column("as of"),
        Column("age", right=True),
        Column("from", gives_way=3, style="dim"),
    )
    table.show(
        [
            f"{price.vendor}.{price.name}",
            price.key,
            Cell(price.text, "bold yellow" if price.value is None else ""),
            price.unit,
            price.as_of or "",
            _age(price.age_days),
            price.source if price.origin == in_force.OPERATOR else f"shipped: {price.source}",
        ]
        for price in shown
    )


def _age(days: int | None) -> str:
    return "" if days is None else count(days, "day")


def _show_missing(missing: Sequence[Missing]) -> None:
    if not missing:
        return
    click.echo("\nmissing, so calls that need them are refused; write into keybrake.toml:")
    table = Table(Column("price", style="bold yellow"), Column("for"), Column("write"))
    table.show(
        [
            f"{one.vendor}.{one.name}",
            "anything else" if one.key else "",
            f"{one.table} {one.example}",
        ]
        for one in missing
    )


def _show_rates(rates: Sequence[RateShown], margin_bps: int) -> None:
    if not rates:
        click.echo("\nno rates: calls in another currency than USD are refused ([money.usd_per])")
        return
    click.echo(f"\nrates; with margin: what counts, {margin_bps} basis points more")
    table = Table(
        Column("currency", style="bold"),
        Column("USD for one", right=True),
        Column("with margin", right=True),
        Column("as of"),
        Column("age", right=True),
        Column("from", gives_way=1, style="dim"),
    )
    table.show(
        [
            rate.currency,
            rate.usd_per_unit,
            Cell(rate.with_margin or "too old, refused", "" if rate.in_force else "bold yellow"),
            rate.as_of or "",
            _age(rate.age_days),
            rate.source,
        ]
        for rate in rates
    )


prices.add_command(pull.pull)
