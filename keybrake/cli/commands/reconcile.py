"""``keybrake reconcile``: ask the vendors about unknown calls, and settle those with proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

import keybrake
from keybrake.cli.ui.arguments import complete_run, ledger_url, read_ledger
from keybrake.cli.ui.call_rows import STYLES
from keybrake.cli.ui.table import Cell, Column, Table, console, is_terminal
from keybrake.cli.ui.text import count, dollars, json_array
from keybrake.config import settings
from keybrake.model.call import Estimated, InDoubt
from keybrake.wire import hosts

_STYLES = {**STYLES, "estimated": "bold yellow"}


@click.command(
    epilog="Example: keybrake reconcile --run refund-agent",
    help="""
Ask the vendors about unknown outcomes and late prices.

A call is settled if the vendor proves its outcome, and the evidence is kept with it. Every other
call stays as it was and counts in full. Credentials come from [credentials] in keybrake.toml,
else from STRIPE_API_KEY, TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN, and RESEND_API_KEY.

If no list of the vendor shows the call, the same request is sent again with its idempotency
key: the vendor repeats its answer, or carries out now a request that never arrived. This is
never done for a revoked or paused run, nor with --no-repeat.
""",
)
@click.option("--run", "said", metavar="RUN", shell_complete=complete_run, help="Only this run.")
@click.option(
    "--no-repeat",
    is_flag=True,
    help="Only read; never send a request again with its idempotency key.",
)
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="VENDOR=URL",
    help="Ask this host, one of the extra_hosts, instead of the host of the call.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array of what was found.")
@click.pass_context
def reconcile(
    ctx: click.Context,
    said: str | None,
    bases: Sequence[str],
    *,
    no_repeat: bool,
    as_json: bool,
) -> None:
    """See ``--help``."""
    # Import it late: it loads the tables of all vendors, which other commands do not need.
    from keybrake.guard.reconcile import Reconciler

    url, where = ledger_url(ctx), _bases(ctx, bases)
    with read_ledger(ctx) as book:
        run_id = None if said is None else book.find(said).uid
    asker = Reconciler(keybrake.open_ledger(url), bases=where, repeats=not no_repeat)
    work = asker.work(run_id)
    found = [asker.reconcile(one) for one in _with_progress(work, quiet=as_json)]
    if as_json:
        click.echo(json_array(finding._asdict() for finding in found))
    else:
        _show(found)


def _bases(ctx: click.Context, said: Sequence[str]) -> Mapping[str, str]:
    bases = dict(one.partition("=")[::2] for one in said)
    for vendor, origin in bases.items():
        if not hosts.is_own(vendor, origin):
            known = ", ".join(settings.current().extra_hosts.get(vendor, ())) or "none"
            msg = f"--base {vendor}={origin} is no host of the vendor; extra_hosts has {known}"
            raise click.UsageError(msg, ctx)
    return bases


def _with_progress(
    work: Sequence[InDoubt | Estimated], *, quiet: bool
) -> Iterator[InDoubt | Estimated]:
    if quiet or not is_terminal() or not work:
        yield from work
        return
    from rich.progress import track

    yield from track(work, "asking the vendors", console=console(), transient=True)


def _show(found: Sequence[Any]) -> None:
    if not found:
        click.echo("nothing to ask about: every outcome and price is known")
        return
    table = Table(
        Column("#", right=True, style="dim"),
        Column("run", gives_way=1, style="bold"),
        Column("endpoint", gives_way=1),
        Column("is now"),
        Column("cost", right=True),
        Column("because", gives_way=2, style="dim"),
    )
    table.show(map(_line, found))
    open_ones = [finding for finding in found if finding.result not in ("settled", "voided")]
    done = len(found) - len(open_ones)
    click.echo(
        f"{count(done, 'call')} settled by what the vendor says, {len(open_ones)} left as they were"
    )


def _line(finding: Any) -> list[Any]:
    return [
        str(finding.seq),
        finding.label or "(no run)",
        finding.endpoint,
        Cell(finding.result, _STYLES.get(finding.result, "")),
        dollars(finding.cost_micros),
        finding.words,
    ]
