"""``keybrake unresolved`` lists the calls without a known outcome; ``keybrake resolve`` ends one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

import keybrake
from keybrake.cli.ui.arguments import complete_run, ledger_url, read_ledger
from keybrake.cli.ui.call_rows import call_line, calls_table
from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.text import count, dollars, json_array, safe
from keybrake.errors import PolicyError
from keybrake.model.call import InDoubt, Outcome, State
from keybrake.model.money import MICROS, micros_of

_LONGEST_NOTE = 200


@click.command(
    epilog="Example: keybrake unresolved",
    help="""
List the calls without a known outcome.

Each counts in full until it is resolved: by `keybrake reconcile`, which asks the vendor, or by
`keybrake resolve`. A call that is still reserved is listed once its process has ended.
""",
)
@click.option("--run", "said", metavar="RUN", shell_complete=complete_run, help="Only this run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, money in micro-USD.")
@click.pass_context
def unresolved(ctx: click.Context, said: str | None, *, as_json: bool) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        run_id = None if said is None else book.find(said).uid
        found = [call for call in book.in_doubt() if run_id in (None, call.run_id)]
        if as_json:
            click.echo(json_array(_item(book, call) for call in found))
            return
        rows = [row for call in found for row in book.calls_numbered([call.seq])]
    if not rows:
        click.echo("no call is unresolved")
        return
    calls_table().show(map(call_line, rows))
    total = sum(call.reserved for call in found)
    click.echo(
        f"{count(len(found), 'call')} may have cost {dollars(total)}; keybrake reconcile asks"
    )


def _item(book: Book, call: InDoubt) -> dict[str, Any]:
    return {**book.calls_numbered([call.seq])[0], "idempotency_key": call.sent_key}


@click.command(
    epilog="Example: keybrake resolve 17 --nothing --note 'not on the dashboard'",
    help="""
Record the outcome of a call that you know from elsewhere.

CALL is its number in the call log. A call ends once: to resolve it again is refused.
""",
)
@click.argument("call", type=click.IntRange(1, 2**63 - 1), metavar="CALL")
@click.option("--cost", metavar="USD", help="It happened, and cost this much.")
@click.option("--nothing", is_flag=True, help="It did not happen.")
@click.option("--note", "why", metavar="TEXT", help="How you know; kept with the call.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the call as it is now.")
@click.pass_context
def resolve(
    ctx: click.Context,
    call: int,
    cost: str | None,
    why: str | None,
    *,
    nothing: bool,
    as_json: bool,
) -> None:
    """See ``--help``."""
    if (cost is not None) == nothing:
        msg = "say either --cost USD or --nothing"
        raise click.UsageError(msg, ctx)
    outcome = Outcome(State.VOIDED)
    if cost is not None:
        outcome = Outcome(State.SETTLED, value_micros=_cost(cost, ctx))
    evidence = f"by hand: {_note(why, ctx)}" if why else "by hand"
    url = ledger_url(ctx)
    with Book(url):
        pass  # raises if there is no ledger; open_ledger() below would make one
    keybrake.open_ledger(url).resolve(call, outcome, evidence)
    with Book(url) as book:
        row = book.calls_numbered([call])[0]
    if as_json:
        click.echo(json_array([row])[1:-1])
    else:
        click.echo(f"call {call} is {row['state']}, cost {dollars(row['cost_micros'])}")


def _cost(text: str, ctx: click.Context) -> int:
    try:
        micros = micros_of(text, field="--cost")
    except PolicyError as error:
        raise click.UsageError(str(error), ctx) from error
    # Round up, because this is a cost; micros_of() rounds down, as for a cap.
    return micros + (Decimal(text) * MICROS > micros)


def _note(text: str, ctx: click.Context) -> str:
    if len(text) > _LONGEST_NOTE:
        msg = f"--note is longer than {_LONGEST_NOTE} characters"
        raise click.UsageError(msg, ctx)
    return safe(text)
