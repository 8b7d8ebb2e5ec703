"""``keybrake runs``: list the runs with their caps and spending."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from keybrake.cli.ui.arguments import read_ledger
from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.table import Cell, Column, Table, is_terminal
from keybrake.cli.ui.text import dollars, json_array, moment
from keybrake.ledger import RunRecord
from keybrake.model import clock

STATES = ("open", "paused", "expired", "closed", "revoked")
STATE_STYLES = {"open": "green", "paused": "yellow", "revoked": "bold red", "expired": "yellow"}


@click.command(
    epilog="Example: keybrake runs --state open",
    help="""
List the runs, the newest last.

The spending of a child run also counts in its parents.
""",
)
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option("--label", metavar="TEXT", help="Only runs with exactly this label.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the newest N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, amounts in micro-USD.")
@click.pass_context
def runs(
    ctx: click.Context, state: str | None, label: str | None, limit: int | None, *, as_json: bool
) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        newest = list(islice(_wanted(book, state, label), limit))
    if as_json:
        click.echo(json_array(run_row(run) for run in reversed(newest)))
    else:
        _table().show(_line(run) for run in reversed(newest))


def run_row(run: RunRecord) -> dict[str, Any]:
    """Return a run as ``runs --json`` shows it."""
    return {
        "id": run.uid,
        "label": run.label,
        "state": run.state(),
        "parent_id": run.parent_uid,
        "opened_at": clock.iso(run.opened_at),
        "expires_at": clock.iso(run.expires_at),
        "cap_micros": run.cap,
        "spent_micros": run.spent,
        "reserved_micros": run.reserved,
        "remaining_micros": run.remaining,
        "calls": run.calls,
        "refused": run.refused,
    }


def _wanted(book: Book, state: str | None, label: str | None) -> Iterator[RunRecord]:
    return (
        run
        for run in book.runs()
        if (state is None or run.state() == state) and (label is None or run.label == label)
    )


def _table() -> Table:
    return Table(
        Column("run"),
        Column("label", gives_way=1, style="bold"),
        Column("state"),
        Column("cap", right=True),
        Column("spent", right=True),
        Column("reserved", right=True, optional=True),
        Column("remaining", right=True),
        Column("calls", right=True),
        Column("refused", right=True, optional=True),
        Column("opened (UTC)", optional=True),
    )


def _line(run: RunRecord) -> list[Cell | str]:
    state = run.state()
    return [
        Cell(run.uid, "cyan"),
        run.label,
        Cell(state, STATE_STYLES.get(state, "dim")),
        dollars(run.cap, none="none"),
        dollars(run.spent),
        Cell(dollars(run.reserved), "" if run.reserved else "dim"),
        dollars(run.remaining, none="any"),
        f"{run.calls:,}",
        Cell(f"{run.refused:,}", "bold red" if run.refused else "dim"),
        moment(clock.iso(run.opened_at), brief=is_terminal()),
    ]
