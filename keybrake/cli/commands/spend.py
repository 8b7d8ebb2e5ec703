"""``keybrake spend``: sum up spending by run, endpoint, day or tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from keybrake.cli.ui.arguments import read_ledger
from keybrake.cli.ui.table import Cell, Column, Table
from keybrake.cli.ui.text import dollars, json_array

# View → its key columns; each view also has columns with amounts.
_NAMES = {
    "run": ("run_id", "label"),
    "endpoint": ("endpoint",),
    "day": ("day",),
    "tool": ("run_id", "label", "tool"),
}


@click.command(
    epilog="Example: keybrake spend --by endpoint",
    help="""
Add up what was spent by run, endpoint, day (UTC) or tool.

It shows the ledger's view spend_by_run, spend_by_endpoint, spend_by_day or spend_by_tool,
which any SQLite tool can read, too.
""",
)
@click.option(
    "--by", type=click.Choice([*_NAMES]), default="run", show_default=True, help="What to add up."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array, amounts in micro-USD.")
@click.pass_context
def spend(ctx: click.Context, by: str, *, as_json: bool) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        rows = book.rows(f"SELECT * FROM spend_by_{by}")  # noqa: S608 -- one of four names
    if as_json:
        click.echo(json_array(_in_micros(row) for row in rows))
        return
    _table(by).show(_line(by, row) for row in rows)


def _in_micros(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return *row* without the dollar columns: they are floats, only meant for people."""
    return {name: value for name, value in row.items() if not name.endswith("_usd")}


def _table(by: str) -> Table:
    names = (Column(name.replace("_id", ""), gives_way=1, style="bold") for name in _NAMES[by])
    return Table(
        *names,
        Column("spent", right=True, style="green"),
        Column("reserved", right=True),
        Column("calls", right=True),
        Column("refused", right=True),
    )


def _line(by: str, row: Mapping[str, Any]) -> list[Cell | str]:
    return [
        *(str(row[name]) for name in _NAMES[by]),
        dollars(row["spent_micros"]),
        dollars(row["reserved_micros"]),
        f"{row['calls']:,}",
        Cell(f"{row['refused']:,}", "bold red" if row["refused"] else "dim"),
    ]
