"""``keybrake revoke``, ``pause`` and ``resume``: stop runs, or let paused runs go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import click

import keybrake
from keybrake.cli.commands.runs import run_row
from keybrake.cli.ui.arguments import complete_run, ledger_url
from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.text import brief, json_array, safe
from keybrake.config import settings
from keybrake.errors import LedgerError, PolicyError
from keybrake.ledger import Ledger, RunRecord
from keybrake.ledger.lifting import refuse_under_own_key

_CAN_GO_ON = ("open", "paused")


def _verb(function: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments and options of all three commands."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON array of the runs."),
        click.option(
            "--all", "everything", is_flag=True, help="Every run that has not ended, of any label."
        ),
        click.option("--label", multiple=True, help="Every run of this label that has not ended."),
        click.argument("said", metavar="[RUN...]", nargs=-1, shell_complete=complete_run),
    ):
        function = option(function)
    return click.pass_context(function)


@click.command(
    epilog="Example: keybrake revoke run_1a2b3c4d run_5e6f7a8b",
    help="""
End runs for good.

Their next call is refused, in any process. RUN is an id, the beginning of one, a label that only
one run has, or a vault key. If one RUN is wrong, nothing is written. To revoke a run again has no
effect.
""",
)
@_verb
def revoke(ctx: click.Context, /, **options: Any) -> None:
    """See ``--help``."""
    _steer(ctx, "revoke", **options)


@click.command(
    epilog="Example: keybrake pause invoice-agent",
    help="""
Stop runs for a while.

Their calls are refused until they are resumed. If one RUN is wrong, nothing is written.
""",
)
@_verb
def pause(ctx: click.Context, /, **options: Any) -> None:
    """See ``--help``."""
    _steer(ctx, "pause", **options)


@click.command(
    epilog="Example: keybrake resume invoice-agent",
    help="""
Let paused runs go on.

A revoked, closed or expired run cannot be resumed. If one RUN is wrong, nothing is written.
""",
)
@_verb
def resume(ctx: click.Context, /, **options: Any) -> None:
    """See ``--help``."""
    _steer(ctx, "resume", **options)


def _steer(
    ctx: click.Context,
    verb: str,
    *,
    said: Sequence[str],
    label: Sequence[str],
    everything: bool,
    as_json: bool,
) -> None:
    if not (said or label or everything):
        msg = "say which run: RUN, --label LABEL or --all"
        raise click.UsageError(msg, ctx)
    url = _ledger_to_stop(ctx)
    with Book(url) as book:
        # Find all runs before anything is written, so that one wrong name changes nothing.
        found = [*map(book.find, said), *chain.from_iterable(map(book.going_on, label))]
        found += book.going_on() if everything else []
        for run in found if verb == "resume" else ():
            # Check all runs before the first is resumed.
            refuse_under_own_key(book.connection.execute, run.pk, f"resume run {run.uid}")
    before = list({run.pk: run for run in found}.values())
    if verb != "revoke":
        _refuse_ended(before, verb)
    ledger = keybrake.open_ledger(url)
    after = []
    for run in before:
        _write(ledger, verb, run.uid)
        after.append(ledger.run(run.pk))
        if not as_json:
            click.echo(_words(run, after[-1]))
    if as_json:
        click.echo(json_array(run_row(run) for run in after))
    elif not before:
        click.echo(f"there is no run left to {verb}: all of them have ended")


def _ledger_to_stop(ctx: click.Context) -> str:
    """
    Return the URL of the ledger, even if keybrake.toml has a mistake and ``--ledger`` is given.

    A mistake in the configuration must not keep a person from stopping an agent.
    """
    try:
        return ledger_url(ctx)
    except PolicyError as error:
        given = ctx.find_root().params.get("ledger")
        if given is None:
            raise
        click.echo(f"keybrake: {brief(str(error))}; going on with --ledger", err=True)
        settings.set_current(settings.Config(ledger=given))
        return ledger_url(ctx)


def _refuse_ended(runs: Sequence[RunRecord], verb: str) -> None:
    for run in runs:
        if run.state() not in _CAN_GO_ON:
            msg = f"run {run.uid} is {run.state()} and cannot be {verb}d; nothing was changed"
            raise LedgerError(msg)


def _write(ledger: Ledger, verb: str, uid: str) -> None:
    {"revoke": ledger.revoke, "pause": ledger.pause, "resume": ledger.resume}[verb](uid)


def _words(before: RunRecord, after: RunRecord) -> str:
    """Return a line with the new state of a run."""
    again = " already" if before.state() == after.state() else ""
    return f"{after.uid} is {after.state()}{again} ({safe(after.label)})"
